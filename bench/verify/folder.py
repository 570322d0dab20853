"""Results folders: every run that lies in them, what lies beside the runs, and whether they are of one experiment."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from greenprune.bench.data.data import Dataset, limited
from greenprune.bench.data.load import is_there_again, load_again
from greenprune.bench.data.names import DATASETS
from greenprune.bench.data.options import DataOptions
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.records.identity import IDENTITY_FILE
from greenprune.bench.records.joint import impossible_joint, joint_files, read_joint
from greenprune.bench.records.record import MODEL_FILE, RECORD_FILE, Record
from greenprune.bench.verify.means import Means
from greenprune.bench.verify.row import Cell, Row
from greenprune.bench.verify.run import check_run
from pydantic import ValidationError

SHARED = ("task", "images", "tolerance", "training", "measurement", "device")
"""Settings in which all runs of a data set and network in one folder agree."""


@dataclass
class Verified:
    """What was found. `notes`: what was not looked at, a sentence each without its full stop."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[Row]:
        return [row for row in self.rows if row.wrong]


def verify(
    paths: Sequence[Path], root: Path | None = None, *, trust: bool = False, say: Callable[[str], None] = lambda _: None
) -> Verified:
    """Check everything below `paths`: results folders, folders of a suite or of a run.

    Args:
        root: the data folder; no data are downloaded.
        trust: whether modules that records name may be imported, and so run.
        say: told of each run before it is looked at.

    Raises:
        UserError: there is no such path, or nothing to check in any of them.
    """
    found = Verified()
    runs: dict[Path, list[Path]] = {}  # the folders of runs by that of their suite
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: there is no such results folder")
        of_runs = _run_folders(path) if path.is_dir() else []
        if not of_runs:
            what = "holds no records" if path.is_dir() else "is no results folder"
            found.notes.append(f"{path} {what}, so nothing is checked there")
        for place in of_runs:
            known = runs.setdefault(place.absolute().parent, [])
            if place.absolute() not in [other.absolute() for other in known]:
                known.append(place)
    if not runs:
        raise UserError(
            "\n".join(f"{note}; allowed: results folders, such as results/quickstart" for note in found.notes)
        )
    means = Means(_Data(root, trust), trust)
    for suite, places in runs.items():
        records: dict[str, tuple[Row, Record]] = {}
        for place in places:
            name = f"{suite.name}/{place.absolute().name}"
            say(name)
            if not (place / RECORD_FILE).is_file():
                found.rows.append(Row(name, {"record": Cell("absent", "has no result yet")}))
                continue
            row, record = check_run(place, name, means)
            found.rows.append(row)
            if record is not None:
                records[place.absolute().name] = (row, record)
        _one_experiment(records)
        _each_its_own(suite, records)
        found.rows += _together(suite, {key: record for key, (_, record) in records.items()})
    return found


def _run_folders(path: Path) -> list[Path]:
    """Those with a record, or with what lies there before a run begins."""
    files = [f for name in (RECORD_FILE, IDENTITY_FILE) for part in ("", "*/", "*/*/") for f in path.glob(part + name)]
    return sorted({file.parent for file in files})


class _Data:
    """The data of records, each set loaded once."""

    def __init__(self, root: Path | None, trust: bool) -> None:
        self._root, self._trust = root, trust
        self._found: dict[tuple[str, str, int | None], Dataset | str] = {}

    def __call__(self, record: Record) -> Dataset | str:
        images = record.settings.get("images")
        count = images.get("train") if isinstance(images, dict) else None
        key = (record.pair[0], json.dumps(record.settings.get("data")), count if isinstance(count, int) else None)
        if key not in self._found:
            self._found[key] = self._load(*key)
        return self._found[key]

    def _load(self, name: str, table: str, count: int | None) -> Dataset | str:
        try:
            options = None if table == "null" else DataOptions.model_validate_json(table)
        except ValidationError as e:
            return f"what its settings say of {shortened(name)} is no table of images ({e.errors()[0]['msg']})"
        if options is None and name not in DATASETS:
            return f"{shortened(name)} is no data set that greenprune has"
        try:
            if not is_there_again(name, options, self._root):
                return f"{shortened(name)} is not there: say where with --data"
            data = load_again(name, options, self._root, trust=self._trust)
            return data if count is None else limited(data, count)
        except UserError as e:
            return str(e)


def _one_experiment(records: dict[str, tuple[Row, Record]]) -> None:
    """Say of those that are not of the experiment that most of the folder's are what differs."""
    everything = list(records.values())
    alike = {name: _setting(name) for name in SHARED} | {"identity.data": _data, "identity.network": _network}
    pairs = {record.pair for _, record in everything}
    for pair in pairs:
        own = [(row, record) for row, record in everything if record.pair == pair]
        for name, of in alike.items():
            _like_most(own, of, f"{name} is not that of the other runs in the folder")
    # The keys of a suite of several data sets or networks begin with these.
    if len(pairs) > 1 and any(record.key.startswith(f"{record.method}-") for _, record in everything):
        _like_most(everything, lambda record: str(record.pair), "the other runs have another data set or network")


def _like_most(runs: list[tuple[Row, Record]], of: Callable[[Record], str], said: str) -> None:
    """Say of each run of which `of` is not what it is of most."""
    usual, _ = Counter(of(record) for _, record in runs).most_common(1)[0]
    for row, record in runs:
        row.put("identity", [said] if of(record) != usual else [], row.cells["identity"])


def _setting(name: str) -> Callable[[Record], str]:
    return lambda record: json.dumps(record.settings.get(name), sort_keys=True)


def _data(record: Record) -> str:
    return str(record.identity.data)


def _network(record: Record) -> str:
    return str(record.identity.network)


def _each_its_own(suite: Path, records: dict[str, tuple[Row, Record]]) -> None:
    """Two runs never end with the same network to the last bit, unless they are the same run."""
    first: dict[str, str] = {}
    for key, (row, record) in records.items():
        stored = record.files.get(MODEL_FILE)
        if stored is None or not (suite / key / MODEL_FILE).is_file():
            continue
        if stored in first:
            row.put("weights", [f"its network is that of {first[stored]}"], Cell("ok"))
        first.setdefault(stored, key)


def _together(suite: Path, records: dict[str, Record]) -> list[Row]:
    """A row for each measurement of all networks together."""
    rows = []
    for path in joint_files(suite):
        row = Row(
            f"{suite.name}/{path.name}", dict.fromkeys(("weights", "MACs", "parameters", "score"), Cell("absent"))
        )
        rows.append(row)
        try:
            joint = read_joint(suite, path.name)
        except UserError as e:
            row.put("checksum", [str(e).removeprefix(f"{path}: ")], Cell("ok"))
            continue
        assert joint is not None  # the file is there
        row.put("checksum", [], Cell("ok"))
        wrong = list(impossible_joint(joint))
        other: list[str] = []
        for network in joint.networks:
            known = records.get(network.key)
            if known is not None and known.finished_at != network.finished_at:
                other.append(f"{network.key} was run again since")
            if known is not None and (joint.dataset, joint.model) != known.pair:
                other.append(f"{network.key} has another data set or network")
        row.put("record", wrong, Cell("ok"))
        row.put("identity", other, Cell("ok"))
    return rows


def plain(found: Verified) -> dict[str, Any]:
    """For JSON."""
    return {"ok": not found.wrong, "rows": [row.plain() for row in found.rows], "notes": found.notes}
