"""Reading a record: checked, not believed."""

from __future__ import annotations

from pathlib import Path

from greenprune.bench.data.content import file_hash
from greenprune.bench.errors import UserError
from greenprune.bench.records.check import impossible
from greenprune.bench.records.record import MODEL_FILE, RECORD_FILE, SCHEMA_VERSION, Record
from greenprune.bench.records.stored import read_stored
from greenprune.bench.records.validity import broken_rule


def read_record(path: Path) -> Record:
    """Read one record. Whether its run is valid is found out anew from its numbers.

    Raises:
        UserError: unreadable, not JSON, of a newer or older schema, not a record, altered after it was written, or with
            figures that no run gives; the sentence names the file.
    """
    record = read_stored(path, Record, SCHEMA_VERSION, "a record")
    if record.status != "done":
        return record
    if wrong := impossible(record):
        raise UserError(f"{path}: {wrong[0]}; no run gives such a record: restore it, or delete it and run it again")
    if record.valid and (broken := broken_rule(record)):
        return record.model_copy(update={"valid": False, "invalid_reason": broken})
    return record


def read_finished(folder: Path, begin: str = "") -> Record:
    """The record of a run whose network is wanted: it is done, and the network lies beside it as it was stored.

    Args:
        begin: of the sentence; by default the folder.

    Raises:
        UserError: there is no such run, it has no result, or its files are not there or not its own.
    """
    begin = begin or str(folder)
    if not (folder / RECORD_FILE).is_file():
        raise UserError(
            f"{begin}: the folder has no {RECORD_FILE}; allowed is that of one finished run, such as "
            "results/quickstart/dense-1-s0"
        )
    record = read_record(folder / RECORD_FILE)
    if record.status != "done":
        raise UserError(f"{begin}: the run failed and has no network; allowed is a finished one")
    if not (folder / MODEL_FILE).is_file():
        raise UserError(f"{begin}: its network is not there; run its suite again with --remake to make one")
    if wrong := changed_files(record, folder):
        raise UserError(f"{begin}: {wrong[0]}; restore it, or run it again")
    return record


def changed_files(record: Record, folder: Path) -> list[str]:
    """What is wrong with the files beside the record that lies in `folder`, half a sentence each. Missing ones are not."""
    wrong = []
    for name, stated in record.files.items():
        if Path(name).name != name:
            wrong.append(f"its record names {name} among the files beside it")
        elif (folder / name).is_file() and file_hash(folder / name) != stated:
            wrong.append(f"{name} is not the file that was stored")
    if (folder / MODEL_FILE).is_file() and MODEL_FILE not in record.files:
        wrong.append(f"{MODEL_FILE} is not of this run: its record knows of none")
    return wrong
