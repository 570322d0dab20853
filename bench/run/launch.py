"""Runs each planned run in a fresh process, one or several at a time, and survives what happens to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from greenprune.bench.data.data import Dataset
from greenprune.bench.errors import UserError, is_full
from greenprune.bench.foreign import shortened
from greenprune.bench.plan.mixing import Identities, refuse_mixing
from greenprune.bench.plan.plan import Run, State, resolved, state
from greenprune.bench.records.folder import locked, make_writable
from greenprune.bench.records.identity import Begun, Identity, write_begun
from greenprune.bench.records.record import MODEL_FILE, Failure, Record, write_record
from greenprune.bench.run.display import verdict
from greenprune.bench.run.job import Job
from greenprune.bench.run.process import OUTPUT_FILE, Workers, exit_reason, in_parallel
from greenprune.bench.suite.recipe import Running
from greenprune.bench.training import files

LAST_LINES = 30


class Display(Protocol):
    """Shows what happens; see `greenprune.bench.run.display`."""

    def start(self, run: Run, number: int, total: int) -> None: ...
    def event(self, run: Run, event: dict[str, Any]) -> None: ...
    def finish(self, run: Run, said: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What `launch` did."""

    finished: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: tuple[str, ...]  # complete before
    without_network: tuple[str, ...] = ()  # of these, those whose network is gone
    notes: tuple[str, ...] = ()  # what a reader has to know of those, a sentence each without its full stop


def launch(
    suite: str,
    runs: list[Run],
    folder: Path,
    *,
    data_root: str | None,
    command: str,
    display: Display,
    overrides: tuple[str, ...] = (),
    shares: Sequence[tuple[int, ...]] = ((),),
    running: Running | None = None,
    remake: bool = False,
    data: Mapping[str, Dataset],
    everything: Sequence[Run] = (),
) -> Outcome:
    """Run everything in `runs` that has no complete record in `folder` (results/<suite>).

    Args:
        overrides: what the command line changed in the suite, for the records.
        shares: the cores of each worker, as many workers at a time; see `process.share_cores`.
        running: how runs are kept going.
        remake: whether complete runs whose network is gone are run again.
        data: by name, every data set of the suite, as it is trained on.
        everything: all runs of the suite, where `runs` are a part of them.

    Raises:
        UserError: `folder` cannot be written, has a file where a run needs a folder, is in use by another process, or
            holds records of another experiment; or it is on a disk that became full.
    """
    running = running or Running()
    make_writable(folder)
    refuse_files(folder, runs)
    workers = Workers(running)
    ended: list[tuple[str, bool]] = []
    skipped: list[str] = []
    with locked(folder):
        identities = Identities(data)
        notes = refuse_mixing(folder, everything or runs, identities)
        for group in ([run for run in runs if not run.pilot], [run for run in runs if run.pilot]):
            todo, kept = left_to_do(group, folder, remake=remake)
            skipped += kept

            def one(numbered: tuple[int, Run], cores: tuple[int, ...], total: int = len(todo)) -> tuple[str, bool]:
                number, run = numbered
                display.start(run, number, total)
                job = Job(
                    suite=suite,
                    key=run.key,
                    settings=run.settings,
                    data_root=data_root,
                    data_folder=run.data_folder,
                    folder=str(folder / run.key),
                    command=command,
                    overrides=overrides,
                    cores=cores,
                    jobs=len(shares),
                    checkpoint_minutes=running.checkpoint_minutes,
                    identity=identities.of(run.settings),
                )
                record = run_job(job, run, display, workers)
                display.finish(run, verdict(record))
                return run.key, record.status == "done"

            ended += in_parallel(one, list(enumerate(todo, start=1)), shares, workers)
    return Outcome(
        finished=tuple(key for key, done in ended if done),
        failed=tuple(key for key, done in ended if not done),
        skipped=tuple(skipped),
        without_network=tuple(key for key in skipped if not has_network(folder / key)),
        notes=tuple(notes),
    )


def left_to_do(runs: list[Run], folder: Path, *, remake: bool = False) -> tuple[list[Run], list[str]]:
    """The runs that have no complete record in `folder`, with all their settings; and the keys of those that have.

    A run whose length follows from others that have no result keeps its settings, and fails when it comes to it. `remake`:
    a run without its network counts as one without a record.

    Raises:
        UserError: a complete record was made with other settings.
    """
    todo, kept = [], []
    for planned in runs:
        try:
            run = resolved(planned, folder)
        except UserError:
            run = planned
        if run is None:  # as it is, it is equal to dense
            continue
        found = state(run, folder)
        if not (run.pilot and run.settings.steps is None):  # else nobody knows what its settings should be
            refuse_changed({run.key: found}, folder)
        if found.done and not (remake and not has_network(folder / run.key)):
            files.clear(folder / run.key)
            kept.append(run.key)
        else:
            todo.append(run)
    return todo, kept


def has_network(folder: Path) -> bool:
    """Whether the network of a finished run is there; results that are passed on often come without."""
    return (folder / MODEL_FILE).is_file()


def refuse_files(folder: Path, runs: list[Run]) -> None:
    """Raise UserError where a file stands in the place of a run's folder."""
    for run in runs:
        if (folder / run.key).exists() and not (folder / run.key).is_dir():
            raise UserError(f"--out: {folder / run.key} is a file, and the run needs a folder there; move it away")


def refuse_changed(states: dict[str, State], folder: Path) -> None:
    """Raise UserError when a complete record was made with other settings: results of both must not be mixed."""
    for key, found in states.items():
        if found.done and found.changed:
            raise UserError(
                f"{folder / key}: was run with other settings ({'; '.join(found.changed[:3])}); "
                "keep it and choose another folder with --out, or delete it to run it again"
            )


def run_job(job: Job, run: Run, display: Display, workers: Workers) -> Record:
    """Run one job in a fresh process; its record, or one that says how it failed (also stored).

    Raises:
        UserError: there is no space left on the disk.
        Stopped: the suite is stopping.
    """
    folder = Path(job.folder)
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        resolved(run, folder.parent)
    except UserError as e:
        return failed(job, started_at, str(e), "")
    try:
        if job.identity is not None:
            write_begun(
                Begun(key=job.key, settings=job.settings.model_dump(mode="json"), identity=job.identity), folder
            )
        ended = workers.run(job, lambda event: display.event(run, event))
        if ended.full:
            raise full_disk(folder.parent)
        if ended.code == 0:
            found = state(run, folder.parent)
            if found.record is not None and found.done:
                return found.record
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


def failed(job: Job, started_at: str, reason: str, last_output: str) -> Record:
    """The record of a run that has no result, stored."""
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
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        failure=Failure(reason=reason, last_output=last_output),
    )
    write_record(record, Path(job.folder))
    return record


def why_ended(code: int, output: str) -> str:
    """In words, how a process ended; with the exception that its output ends with, where it does."""
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    named = re.match(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning|Group)\b", last)
    return f"{shortened(last, 300)} ({exit_reason(code)})" if code > 0 and named else exit_reason(code)


def tail(path: Path, lines: int = LAST_LINES) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
