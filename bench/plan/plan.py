"""From a suite to the list of runs, in the order they will run, with an estimate of the time they take."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from greenprune.bench.data.augment import refuse_augmentation
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.options import DataOptions
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.plan.cost import resolve_cost
from greenprune.bench.records.identity import differences
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import RECORD_FILE, Record
from greenprune.bench.runtimes.catalogue import find as find_runtime
from greenprune.bench.runtimes.names import EAGER
from greenprune.bench.suite.entry import MethodEntry
from greenprune.bench.suite.pair import Pair, for_folder
from greenprune.bench.suite.recipe import Allowance
from greenprune.bench.suite.settings import Settings
from greenprune.bench.suite.suite import Suite
from greenprune.bench.suite.views import View, is_equal, share_of_dense, steps_for, why_apart
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.tasks.fitting import refuse_data
from greenprune.bench.training.ledger import refuse_small_allowances
from greenprune.bench.training.start import refuse_unfit
from greenprune.methods import find

ORDER_SEED = 0
LONGEST_KEY = 200  # of what file systems allow; files are written beside with longer names
INFERENCE_IMAGES = 256  # are always enough for a batch, of fewer some are repeated


@dataclass(frozen=True)
class Run:
    """One (method, budget, seed) of a suite."""

    key: str
    settings: Settings
    pilot: str = ""  # key of the run of equal images that says how long this one may be; empty: it is one of these
    dense: str = ""  # key of the dense run that it is to be equal to
    pair: Pair | None = None  # the data set and the network; None: what the settings say

    @property
    def data_folder(self) -> str | None:
        """Where the images lie, where a table of the suite says so."""
        entry = None if self.pair is None else self.pair.entry
        return entry.folder or None if isinstance(entry, DataOptions) else None


def plan(suite: Suite, data: Mapping[str, Dataset], device: str) -> list[Run]:
    """Every run of `suite`, shuffled by a fixed seed so that no method always runs first (or on the warmest machine).

    Those of other views than equal images come last, and their steps are unknown until then, see `resolved`.

    Args:
        data: by name, every data set of the suite.

    Raises:
        UserError: the allowance cannot suffice for a method, two runs would have the same folder, the weights to start
            from are not there or do not fit, or a runtime cannot be used here.
    """
    for name in suite.measurement.runtimes:
        find_runtime(name)
    for pair in suite.pairs:
        own = data[pair.dataset]
        refuse_unfit(pair.model, suite.weights, suite.training, own.classes, own.shape)
    runs = [run for pair in suite.pairs for run in _of_pair(suite, pair, data[pair.dataset], device)]
    before: set[str] = set()
    longest = max((run.key for run in runs), key=len)
    if len(longest) > LONGEST_KEY:
        raise UserError(
            f"{suite.name}: the folder of a run would be called {shortened(longest)}, which has {len(longest)} characters; "
            f"allowed: at most {LONGEST_KEY}, by shorter labels or a shorter name of the network"
        )
    for run in runs:
        if run.key in before:
            raise UserError(f"two runs of {suite.name} would be called {run.key}; allowed: labels that tell them apart")
        before.add(run.key)
    random.Random(ORDER_SEED).shuffle(runs)
    views = {entry.label: suite.views_of(entry) for entry in suite.methods}
    return [
        *runs,
        *(
            again(run, view, suite)
            for view in suite.views
            if view != "samples"
            for run in runs
            if equalled(run) and view in views[run.settings.method.label]
        ),
    ]


def _of_pair(suite: Suite, pair: Pair, data: Dataset, device: str) -> list[Run]:
    images = data.images
    refuse_augmentation(suite.training.augment, data)
    refuse_small_allowances(suite, steps_per_epoch=images["train"] // suite.training.batch_size)
    _refuse_batches(suite, pair, images)
    task = make_task(suite.task.name, suite.task.options)
    refuse_data(suite.task.name, task, pair.dataset, data, suite.training.label_smoothing)
    runs = []
    for entry in suite.methods:
        prunes = find(entry.name).prunes
        for budget in suite.budgets if prunes else [1.0]:
            for seed in suite.seeds_of(entry):
                settings = Settings(
                    dataset=pair.dataset,
                    images=images,
                    model=pair.model,
                    task=suite.task,
                    weights=suite.weights,
                    method=entry.alone,
                    budget=budget,
                    tolerance=suite.tolerance,
                    seed=seed,
                    training=suite.training,
                    measurement=suite.measurement,
                    device=device,
                    allowance=suite.allowance,
                    # A control that ignores the budget is the same run whatever the budget is stated in.
                    cost=resolve_cost(suite.cost, device) if prunes else "macs",
                    budget_runtime=suite.budget_runtime if prunes else EAGER,
                    budget_batch_size=suite.budget_batch_size if prunes else None,
                    round_to=suite.round_to if prunes else 1,
                    data=None if isinstance(pair.entry, str) else pair.entry.without_place(),
                )
                runs.append(Run(run_key(entry, budget, seed, pair), settings, pair=pair))
    return runs


def _refuse_batches(suite: Suite, pair: Pair, images: Mapping[str, int]) -> None:
    """Raise UserError where a batch would hold more images than there are: no step, or figures of repeated images."""
    size = suite.training.batch_size
    if size > images["train"]:
        raise UserError(
            f"{suite.name}: training.batch_size = {size}: is more than the {images['train']:,} training images of "
            f"{pair.dataset}; allowed: 1 to {images['train']}"
        )
    for size in suite.measurement.inference_batch_sizes:
        if size > max(images["test"], INFERENCE_IMAGES):
            raise UserError(
                f"{suite.name}: measurement.inference_batch_sizes: {size} is more than the {images['test']:,} test images "
                f"of {pair.dataset}; allowed: 1 to {max(images['test'], INFERENCE_IMAGES)}"
            )


def equalled(run: Run) -> bool:
    """Whether other views have a run like this one of their own: of dense there is nothing to make equal."""
    return find(run.settings.method.name).prunes


def again(run: Run, view: View, suite: Suite) -> Run:
    """`run` as it is in another view; it has no steps yet."""
    allowance = Allowance(macs=1.0) if view == "macs" else None  # joules are not known to the last one, so none is set
    dense = next((m for m in suite.methods if m.name == "dense"), MethodEntry(name="dense"))  # --only may leave it out
    return Run(
        f"{run.key}-equal-{view}",
        run.settings.model_copy(update={"view": view, "allowance": allowance}),
        pilot=run.key,
        dense=run_key(dense, 1.0, run.settings.seed, run.pair),
        pair=run.pair,
    )


def resolved(run: Run, folder: Path) -> Run | None:
    """`run` with its steps, from the records in `folder`; None where its pilot is equal to dense as it is.

    Those of its own complete record, where there is one: it stays of its length, whatever dense and the pilot take when they
    are trained again.

    Raises:
        UserError: they are not there, or not usable.
    """
    s = run.settings
    if not run.pilot or s.steps is not None:
        return run
    own = state(run, folder)
    if own.done and own.record is not None and (known := own.record.settings.get("steps")) is not None:
        return replace(run, settings=s.model_copy(update={"steps": known}))
    pilot, dense = (_result(key, run.key, folder) for key in (run.pilot, run.dense))
    share = share_of_dense(pilot, dense, s.view)
    if not share and s.view == "joules" and (why := why_apart(pilot, dense)):
        raise UserError(
            f"{folder / run.pilot}: its joules cannot be compared with those of {run.dense} ({why}), so {run.key} cannot be "
            "made equal; run both again on one machine"
        )
    if not share:
        raise UserError(f"{folder / run.pilot}: does not say what its training took, so {run.key} cannot be made equal")
    if is_equal(share):
        return None
    steps = s.training.epochs * (s.images["train"] // s.training.batch_size)
    return replace(run, settings=s.model_copy(update={"steps": steps_for(share, steps)}))


def _result(key: str, needed_by: str, folder: Path) -> Record:
    path = folder / key / RECORD_FILE
    if path.exists() and (record := read_record(path)).status == "done" and record.valid:
        return record
    raise UserError(f"{folder / key}: has no valid result, which {needed_by} needs to know how long it may train")


def run_key(entry: MethodEntry, budget: float, seed: int, pair: Pair | None = None) -> str:
    """The run's folder name: "gated-0.5-s0", or "cifar10-resnet20-gated-0.5-s0" where the suite has several of these."""
    return f"{pair.prefix if pair else ''}{entry.label}-{for_folder(budget)}-s{seed}"


@dataclass(frozen=True)
class State:
    """Where a run stands in a results folder."""

    record: Record | None  # None: never ran, or was interrupted
    changed: tuple[str, ...] = ()  # settings in which a complete record differs from the plan

    @property
    def done(self) -> bool:
        return self.record is not None and self.record.status == "done"


def state(run: Run, folder: Path) -> State:
    """Look up `run` in `folder` (results/<suite>).

    Raises:
        UserError: there is a record that cannot be read.
    """
    path = folder / run.key / RECORD_FILE
    if not path.exists():
        return State(None)
    record = read_record(path)
    wanted = comparable(run.settings.model_dump(mode="json"))
    changed = differences(comparable(completed(record.settings)), wanted) if record.status == "done" else ()
    return State(record, changed)


def completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Stored settings with what was added to `Settings` later, at its default: older records stay those of the same run."""
    fields = Settings.model_fields.items()
    added = {name: field.get_default() for name, field in fields if not field.is_required()}
    return added | settings


def comparable(settings: dict[str, Any]) -> dict[str, Any]:
    """Without where the weights lie to start from: which ones they are is part of a run's identity."""
    return {name: value for name, value in settings.items() if name != "weights"}
