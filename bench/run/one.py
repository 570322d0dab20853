"""Does one run in a fresh process, and survives what happens to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from greenprune.bench.data.content import file_hash
from greenprune.bench.errors import UserError, is_full
from greenprune.bench.foreign import shortened
from greenprune.bench.plan.mixing import refuse_others
from greenprune.bench.plan.plan import Run, State, state
from greenprune.bench.records.identity import Begun, Identity, write_begun
from greenprune.bench.records.record import MODEL_FILE, Failure, Record, write_record
from greenprune.bench.run.job import Job
from greenprune.bench.run.process import OUTPUT_FILE, Workers, exit_reason

LAST_LINES = 60
"""Of a run's output that its record keeps: a crash in native code adds some 40 of its own."""


class Display(Protocol):
    """Shows what happens; see `greenprune.bench.run.display`."""

    def start(self, run: Run, number: int, total: int) -> None: ...
    def event(self, run: Run, event: dict[str, Any]) -> None: ...
    def finish(self, run: Run, said: str) -> None: ...


def has_network(folder: Path) -> bool:
    """Whether the network of a finished run is there; results that are passed on often come without."""
    return (folder / MODEL_FILE).is_file()


def is_to_make(record: Record, folder: Path) -> bool:
    """Whether `--remake` makes the network of a finished run: it is not there, or another one than the record is of, as where
    one that was made again was stored and its record was not."""
    known = record.files.get(MODEL_FILE)
    return not has_network(folder) or (known is not None and file_hash(folder / MODEL_FILE) != known)


def failed_at(found: State) -> str:
    """When the record of a run that failed was written; empty: there is none."""
    return "" if found.record is None or found.done else found.record.finished_at


def done_at(found: State) -> str:
    """When the record of a run that is complete was written; empty: there is none."""
    return found.record.finished_at if found.record is not None and found.done else ""


def refuse_changed(states: dict[str, State], folder: Path) -> None:
    """Raise UserError when a complete record was made with other settings: results of both must not be mixed."""
    for key, found in states.items():
        if found.done and found.changed:
            raise UserError(
                f"{folder / key}: was run with other settings ({'; '.join(found.changed[:3])}); "
                "keep it and choose another folder with --out, or delete it to run it again"
            )


def run_job(
    job: Job,
    run: Run,
    event: Callable[[dict[str, Any]], None],
    workers: Workers,
    lost: Callable[[], bool] = lambda: False,
) -> Record | None:
    """Run one job in a fresh process; its record, or one that says how it failed (also stored, see `failed`).

    What the process has finished counts, however it ends afterwards.

    Args:
        run: with its length.
        event: is told what the process tells.
        lost: as of `Workers.run`.

    Returns:
        None: somebody else took the run over. What lies in its folder is theirs, and nothing was written there.

    Raises:
        UserError: there is no space left on the disk, or another start does another experiment in the folder.
        Stopped: the suite is stopping.
    """
    folder = Path(job.folder)
    started_at = _now()
    before = done_at(state(run, folder.parent))
    try:
        if job.identity is not None:
            begun = Begun(key=job.key, settings=job.settings.model_dump(mode="json"), identity=job.identity)
            write_begun(begun, folder)
            refuse_others(begun, folder.parent)
        ended = workers.run(job, event, lost)
        found = state(run, folder.parent)
        if done_at(found) not in ("", before):
            return found.record
        if ended.lost:
            return None
        if ended.full:
            raise full_disk(folder.parent)
        if before:  # only its network was gone, and one that it left now is not that of the record, which stays
            (folder / MODEL_FILE).unlink(missing_ok=True)
        output = tail(folder / OUTPUT_FILE)
        return failed(job, started_at, ended.reason or why_ended(ended.code, output), output)
    except OSError as e:
        if is_full(e):
            raise full_disk(folder.parent) from None
        raise


def full_disk(folder: Path) -> UserError:
    return UserError(
        f"{folder}: there is no space left on the disk; what was finished is kept, make space and start it again to go on"
    )


def failed_at_once(job: Job, reason: str) -> Record:
    """The record of a run that cannot begin, stored as of `failed`."""
    return failed(job, _now(), reason, "")


def failed(job: Job, started_at: str, reason: str, last_output: str) -> Record:
    """The record of a run that has no result, stored; where a complete one lies there, which is made again, that stays."""
    folder = Path(job.folder)
    keep = bool(done_at(state(Run(job.key, job.settings), folder.parent)))
    if keep:
        where = f", and the last output is in {OUTPUT_FILE}" if last_output else ""
        reason, last_output = f"{reason}; its record of before is kept{where}", ""
    record = Record(
        status="failed",
        suite=job.suite,
        key=job.key,
        method=job.settings.method.label,
        method_name=job.settings.method.name,
        budget=job.settings.budget,
        seed=job.settings.seed,
        settings=job.settings.model_dump(mode="json"),
        identity=job.identity or Identity(),
        command=job.command,
        overrides=job.overrides,
        started_at=started_at,
        finished_at=_now(),
        failure=Failure(reason=reason, last_output=last_output),
    )
    if not keep:
        write_record(record, folder)
    return record


def why_ended(code: int, output: str) -> str:
    """In words, how a process ended; with the exception that its output ends with, where it does."""
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    named = re.match(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning|Group)\b", last)
    return f"{shortened(last, 300)} ({exit_reason(code)})" if code > 0 and named else exit_reason(code)


def tail(path: Path, lines: int = LAST_LINES) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
