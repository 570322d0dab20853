"""Runs each planned run in a fresh process, one after the other, and survives what happens to them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bench.errors import UserError
from bench.job import Job
from bench.plan import Run, State, state
from bench.record import Failure, Record, write_record

OUTPUT_FILE = "output.log"
JOB_FILE = "job.json"  # there while a run goes on; one that was left by a killed launcher is overwritten
LAST_LINES = 30

WORKER = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from bench.worker import main; sys.exit(main(sys.argv[2:]))"
"""A worker imports from where the launcher did: `-m bench.worker` would prefer a folder `methods` or `plots` of the user's."""

ENVIRONMENT = {
    "GOMP_SPINCOUNT": "10000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
}
"""Of every run, unless the user set it otherwise.

Threads that wait for each other give their core away soon: GNU OpenMP's default is to spin for about a minute of CPU time,
which beside one other busy process on a machine of four cores made a training step 12 times slower. And the C library keeps
the memory it has: by default it gives it back and asks for it again in each step (10,000 page faults and 10 to 14 % of the
CPU time of a training step of ResNet-20, and layers that take 4.5 ms in one minute and 8.5 ms in the next).
"""


class Display(Protocol):
    """Shows what happens; see `bench.display`."""

    def start(self, run: Run, number: int, total: int) -> None: ...
    def event(self, run: Run, event: dict[str, Any]) -> None: ...
    def finish(self, run: Run, record: Record) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What `launch` did."""

    finished: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: tuple[str, ...]  # complete before


def launch(
    suite: str, runs: list[Run], folder: Path, *, data_root: str | None, command: str, display: Display
) -> Outcome:
    """Run everything in `runs` that has no complete record in `folder` (results/<suite>).

    Raises:
        UserError: `folder` cannot be written, has a file where a run needs a folder, is in use by another process, or
            holds records of other settings.
    """
    make_writable(folder)
    refuse_files(folder, runs)
    with locked(folder):
        states = {run.key: state(run, folder) for run in runs}
        refuse_changed(states, folder)
        todo = [run for run in runs if not states[run.key].done]
        finished: list[str] = []
        failed: list[str] = []
        for number, run in enumerate(todo, start=1):
            display.start(run, number, len(todo))
            job = Job(
                suite=suite,
                key=run.key,
                settings=run.settings,
                data_root=data_root,
                folder=str(folder / run.key),
                command=command,
            )
            record = run_job(job, run, display)
            display.finish(run, record)
            (finished if record.status == "done" else failed).append(run.key)
    skipped = tuple(run.key for run in runs if states[run.key].done)
    return Outcome(tuple(finished), tuple(failed), skipped)


def make_writable(folder: Path) -> None:
    """Create `folder`.

    Raises:
        UserError: it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise UserError(
            f"--out: {folder} cannot be written ({e.strerror}); choose a folder of your own with --out"
        ) from None


def refuse_files(folder: Path, runs: list[Run]) -> None:
    """Raise UserError where a file stands in the place of a run's folder."""
    for run in runs:
        if (folder / run.key).exists() and not (folder / run.key).is_dir():
            raise UserError(f"--out: {folder / run.key} is a file, and the run needs a folder there; move it away")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, so that two suites never write the same records or disturb each other's timing."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another greenprune is running this suite; wait for it, or use --out") from None
        yield


def refuse_changed(states: dict[str, State], folder: Path) -> None:
    """Raise UserError when a complete record was made with other settings: results of both must not be mixed."""
    for key, found in states.items():
        if found.done and found.changed:
            raise UserError(
                f"{folder / key}: was run with other settings ({'; '.join(found.changed[:3])}); "
                "keep it and choose another folder with --out, or delete it to run it again"
            )


def run_job(job: Job, run: Run, display: Display) -> Record:
    """Run one job in a fresh process; its record, or one that says how it failed (also stored)."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    output = folder / OUTPUT_FILE
    reason = None
    job_file = folder / JOB_FILE
    job_file.write_text(job.model_dump_json(), encoding="utf-8")
    try:
        with output.open("w", encoding="utf-8") as log:
            # The launcher only waits for lines: it must not use the processor while energy is measured.
            with subprocess.Popen(
                [sys.executable, "-P", "-c", WORKER, json.dumps(sys.path), str(job_file)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=ENVIRONMENT | os.environ,
            ) as process:
                assert process.stdout is not None
                try:
                    for line in process.stdout:
                        try:
                            event = json.loads(line)
                        except ValueError:  # half a line: the process was killed while it wrote
                            continue
                        if event["event"] == "failed":
                            reason = event["reason"]
                        else:
                            display.event(run, event)
                except BaseException:
                    process.terminate()
                    raise
            code = process.returncode
    finally:
        job_file.unlink(missing_ok=True)
    if code == 0:
        found = state(run, folder.parent)
        if found.record is not None and found.done:
            return found.record
    record = Record(
        status="failed",
        suite=job.suite,
        key=job.key,
        method=job.settings.method.label,
        method_name=job.settings.method.name,
        budget=job.settings.budget,
        seed=job.settings.seed,
        settings=job.settings.model_dump(mode="json"),
        command=job.command,
        started_at=started_at,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        failure=Failure(reason=reason or exit_reason(code), last_output=tail(output)),
    )
    write_record(record, folder)
    return record


def exit_reason(code: int) -> str:
    """In words, how a process ended: "exit code 1", "killed by signal 9 (SIGKILL)"."""
    if code == 0:
        return "exit code 0, but no result"
    if code > 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"killed by signal {-code} ({name})"


def tail(path: Path, lines: int = LAST_LINES) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
