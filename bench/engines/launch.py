"""Has an engine do what is left of a suite: from planned runs to records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from greenprune.bench.data.data import Dataset
from greenprune.bench.engines.engine import ENDED, STARTED, Engine, Event
from greenprune.bench.errors import UserError
from greenprune.bench.inference.job import JointJob
from greenprune.bench.plan.mixing import Identities, refuse_mixing
from greenprune.bench.plan.plan import Run, resolved, state
from greenprune.bench.records.folder import make_writable
from greenprune.bench.run.one import Display, failed_at, has_network, is_to_make, refuse_changed
from greenprune.bench.run.task import Task
from greenprune.bench.suite.recipe import Running
from greenprune.bench.training import files


@dataclass(frozen=True)
class Outcome:
    """What `launch` did."""

    finished: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: tuple[str, ...]  # complete before
    stopped: tuple[str, ...] = ()  # by somebody; they go on when they are started again
    without_network: tuple[str, ...] = ()  # of these, those whose network is gone
    notes: tuple[str, ...] = ()  # what a reader has to know of those, a sentence each without its full stop


def launch(
    suite: str,
    runs: list[Run],
    folder: Path,
    *,
    engine: Engine,
    data_root: str | None,
    command: str,
    display: Display,
    overrides: tuple[str, ...] = (),
    running: Running | None = None,
    remake: bool = False,
    data: Mapping[str, Dataset],
    everything: Sequence[Run] = (),
    measuring: JointJob | None = None,
) -> Outcome:
    """Run everything in `runs` that has no complete record in `folder` (results/<suite>).

    Args:
        overrides: what the command line changed in the suite, for the records.
        running: how runs are kept going.
        remake: whether complete runs whose network is gone are run again.
        data: by name, every data set of the suite, as it is trained on.
        everything: all runs of the suite, where `runs` are a part of them.
        measuring: what is to be measured side by side in the end; None: nothing.

    Raises:
        UserError: `folder` cannot be written, has a file where a run needs a folder, or
            holds records of another experiment; or it is on a disk that became full.
    """
    running = running or Running()
    make_writable(folder)
    refuse_files(folder, runs)
    identities = Identities(data, elsewhere=engine.elsewhere)
    notes = refuse_mixing(folder, everything or runs, identities)
    todo, skipped = left_to_do(runs, folder, remake=remake)
    tasks = [
        Task(
            suite=suite,
            key=run.key,
            settings=run.settings,
            pilot=run.pilot,
            dense=run.dense,
            results=str(folder),
            data_root=data_root,
            data_folder=run.data_folder,
            command=command,
            overrides=overrides,
            identity=identities.of(run.settings),
            remake=remake,
            failed_at=failed_at(state(run, folder)),
            running=running,
        )
        for run in todo
    ]
    told = Told(todo, display)
    if tasks:
        engine.submit(tasks, told, measuring)
    skipped += told.ended("kept")
    return Outcome(
        finished=told.ended("done"),
        failed=told.ended("failed"),
        skipped=tuple(skipped),
        stopped=told.ended("stopped"),
        without_network=tuple(key for key in skipped if not has_network(folder / key)),
        notes=tuple(notes),
    )


class Told:
    """Shows what an engine tells, and keeps how each run ended. Called from several threads."""

    def __init__(self, runs: Sequence[Run], display: Display) -> None:
        self._runs, self._display = {run.key: run for run in runs}, display
        self._shown: set[str] = set()
        self._ended: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        key, told, run = event.key, dict(event.told), self._runs[event.key]
        if told["event"] == STARTED:
            self._shown.add(key)
            unshown = sum(each not in self._shown for each in self._ended)
            self._display.start(run, len(self._shown), len(self._runs) - unshown)
        elif told["event"] == ENDED:
            self._ended[key] = told["status"]
            if key in self._shown:
                self._display.finish(run, told["said"])
        else:
            self._display.event(run, told)

    def ended(self, status: str) -> tuple[str, ...]:
        """Keys of the runs that ended so, in the order in which they did."""
        return tuple(key for key, how in self._ended.items() if how == status)


def left_to_do(runs: Sequence[Run], folder: Path, *, remake: bool = False) -> tuple[list[Run], list[str]]:
    """The runs that have no complete record in `folder`; and the keys of those that have.

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
        if found.done and found.record and not (remake and is_to_make(found.record, folder / run.key)):
            files.clear_unless_held(folder / run.key)
            kept.append(run.key)
        else:
            todo.append(run)
    return todo, kept


def refuse_files(folder: Path, runs: list[Run]) -> None:
    """Raise UserError where a file stands in the place of a run's folder."""
    for run in runs:
        if (folder / run.key).exists() and not (folder / run.key).is_dir():
            raise UserError(f"--out: {folder / run.key} is a file, and the run needs a folder there; move it away")
