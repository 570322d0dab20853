"""`greenprune tune`: a small search of a method's own options, decided on the held-out images, at a price that is stored.

The candidates are all combinations of the values that the method declares (`Method.tuning`), in an order drawn from a fixed
seed; the first is what the suite says itself. Every trial is a whole training of the suite's recipe in a process of its
own; it never looks at the test set. What was finished is kept: a search goes on where it stopped, and may be prolonged.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from greenprune.bench.data.data import Dataset, content_hash
from greenprune.bench.errors import UserError
from greenprune.bench.machine.machine import describe_machine
from greenprune.bench.plan.plan import Run, completed
from greenprune.bench.records.folder import make_writable
from greenprune.bench.records.identity import differences, differing
from greenprune.bench.records.score import Score
from greenprune.bench.records.tuning import TUNE_FILE, Trial, Tuning, read_tuning, write_tuning
from greenprune.bench.run.job import Job
from greenprune.bench.run.one import Display, full_disk
from greenprune.bench.run.parallel import in_parallel
from greenprune.bench.run.process import Workers, exit_reason
from greenprune.bench.run.shares import ALONE, OTHERS, Share
from greenprune.bench.suite.entry import MethodEntry
from greenprune.bench.suite.pair import Pair
from greenprune.bench.suite.recipe import Running
from greenprune.bench.suite.settings import Settings
from greenprune.bench.suite.suite import Suite
from greenprune.bench.suite.written import toml_text, toml_value
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.training.identity import identity_of
from greenprune.bench.training.ledger import refuse_small_allowances
from greenprune.methods import find
from pydantic import ValidationError

SEARCH_SEED = 0
TRIALS = 8

Choice = dict[str, Any]


def space_of(entry: MethodEntry) -> Mapping[str, tuple[Any, ...]]:
    """The options to choose and their values.

    Raises:
        UserError: the method declares none, or one that it does not have.
    """
    method = find(entry.name)
    if not method.tuning:
        raise UserError(
            f"--method {entry.label}: {method.name} declares no options to choose (its class attribute `tuning` is empty)"
        )
    for name, values in method.tuning.items():
        for value in values:
            if name not in method.Options.model_fields or (wrong := refusal(entry, {name: value})):
                what = "it has no such option" if name not in method.Options.model_fields else wrong
                raise UserError(f"--method {entry.label}: tuning of {method.name}: {name} = {value!r}: {what}")
    return method.tuning


def refusal(entry: MethodEntry, choice: Choice) -> str | None:
    """Why the method's options do not take these values; None where they do."""
    try:
        with_choice(entry, choice)
    except ValidationError as e:
        return e.errors()[0]["msg"]
    return None


def with_choice(entry: MethodEntry, choice: Choice) -> MethodEntry:
    options = find(entry.name).Options.model_validate(entry.options.model_dump() | choice)
    return entry.model_copy(update={"options": options})


def candidates(suite: Suite, entry: MethodEntry, steps_per_epoch: int) -> list[Choice]:
    """All choices that the method takes in this suite: the suite's own first, the others in the order of `SEARCH_SEED`.

    Raises:
        UserError: the suite's own is refused.
    """
    space = space_of(entry)
    own = {name: getattr(entry.options, name) for name in space}
    refuse_small_allowances(suite.model_copy(update={"methods": (entry,)}), steps_per_epoch)
    others = []
    for values in product(*space.values()):
        choice = dict(zip(space, values, strict=True))
        if choice != own and refusal(entry, choice) is None:
            try:
                trial = suite.model_copy(update={"methods": (with_choice(entry, choice),)})
                refuse_small_allowances(trial, steps_per_epoch)
            except UserError:  # shares that leave a phase nothing, for example
                continue
            others.append(choice)
    random.Random(SEARCH_SEED).shuffle(others)
    return [own, *others]


def start(suite: str, entry: MethodEntry, settings: Settings, data: Dataset, folder: Path, command: str) -> Tuning:
    """The search in `folder` as far as it went; a new one where there is none.

    One that does not say what its trials are made of, as older ones do not, is gone on with, and goes on not saying it.

    Args:
        data: with as many training images as the settings ask for.

    Raises:
        UserError: it cannot be read, or was made with other settings, data, network or method.
    """
    space = {name: tuple(values) for name, values in space_of(entry).items()}
    wanted = settings.model_dump(mode="json")
    for name in space:  # chosen here, so not part of what trials have in common
        wanted["method"]["options"].pop(name)
    path = folder / TUNE_FILE
    fresh = Tuning(
        suite=suite,
        method=entry.label,
        method_name=entry.name,
        budget=settings.budget,
        seed=settings.seed,
        settings=wanted,
        score=make_task(settings.task.name, settings.task.options).score,
        holdout_images=settings.images["holdout"],
        space=space,
        machine=describe_machine(torch.device(settings.device)),
        identity=identity_of(settings, data, content_hash(data, ("train", "holdout"))),
        command=command,
    )
    if not path.exists():
        return fresh
    found = read_tuning(path)
    changed = differences(completed(found.settings), wanted)
    if changed:
        raise UserError(
            f"{folder}: was searched with other settings ({'; '.join(changed[:3])}); keep it and choose another folder "
            "with --out, or delete it to search again"
        )
    other = () if found.identity is None else differing(found.identity, fresh.identity)
    if other:
        raise UserError(
            f"{folder}: is of another experiment ({'; '.join(other[:3])}); keep it and choose another folder with --out, or "
            "delete it to search again"
        )
    return found.model_copy(update={"space": space})


def tune(
    tuning: Tuning,
    entry: MethodEntry,
    settings: Settings,
    choices: Sequence[Choice],
    folder: Path,
    *,
    data_root: str | None,
    pair: Pair | None = None,
    display: Display,
    shares: Sequence[Share] = (ALONE,),
    running: Running | None = None,
) -> Tuning:
    """Try those of `choices` that have not been tried, and store each trial in `folder` when it ends.

    A trial that failed is not repeated: a choice of options that diverges does so again. One that was ended from outside
    is, and goes on from its last checkpoint.
    """
    running = running or Running()
    tuning = tuning.model_copy(update={"trials": tuple(trial for trial in tuning.trials if not trial.ended_outside)})
    tried = {_key(trial.options) for trial in tuning.trials}
    todo = [choice for choice in choices if _key(choice) not in tried]
    free = [n for n in range(len(choices) + len(tuning.trials)) if n not in {trial.number for trial in tuning.trials}]
    workers, lock = Workers(running), threading.Lock()
    here = describe_machine(torch.device(settings.device))
    elsewhere = None if here == tuning.machine else here
    make_writable(folder)

    def one(numbered: tuple[int, Choice], share: Share) -> None:
        nonlocal tuning
        place, choice = numbered
        number = free[place]
        run = Run(f"trial {number}", settings.model_copy(update={"method": with_choice(entry, choice)}), pair=pair)
        display.start(run, place + 1, len(todo))
        trial = run_trial(run, number, choice, folder, workers, data_root, display, share, len(shares), running)
        trial = trial.model_copy(update={"machine": elsewhere})
        display.finish(run, said(trial, tuning.score))
        with lock:
            trials = sorted((*tuning.trials, trial), key=lambda t: t.number)
            tuning = tuning.model_copy(update={"trials": tuple(trials)})
            write_tuning(tuning, folder)

    in_parallel(one, list(enumerate(todo)), shares, workers)
    return tuning


def run_trial(
    run: Run, number: int, choice: Choice, folder: Path, workers: Workers, data_root: str | None, display: Display,
    share: Share, jobs: int, running: Running,
) -> Trial:  # fmt: skip
    """One training with these options, in a fresh process."""
    place = folder / f"trial-{number}"
    job = Job(
        suite="", key=run.key, settings=run.settings, data_root=data_root, data_folder=run.data_folder, folder=str(place),
        command="", share=share, jobs=jobs, shared=OTHERS if share.gpu_uuids and jobs > 1 else "",
        checkpoint_minutes=running.checkpoint_minutes, trial=True,
    )  # fmt: skip
    result: dict[str, Any] = {}

    def event(told: dict[str, Any]) -> None:
        if told["event"] == "trial":
            result.update(told)
        else:
            display.event(run, told)

    started_s = time.perf_counter()
    ended = workers.run(job, event)
    duration_s = round(time.perf_counter() - started_s, 3)
    if ended.full:
        raise full_disk(folder)
    if ended.code == 0 and result:
        shutil.rmtree(place, ignore_errors=True)  # its output says nothing that is not known now
        return Trial(
            number=number,
            options=choice,
            status="done",
            reason=result["invalid_reason"],
            holdout_score=result["holdout_score"],
            kept=result["kept"],
            spent=result["spent"],
            duration_s=duration_s,
            warnings=result["warnings"],
        )
    reason = ended.reason or f"{exit_reason(ended.code)}; see {place.name}/output.log"
    return Trial(
        number=number,
        options=choice,
        status="failed",
        reason=reason,
        duration_s=duration_s,
        ended_outside=ended.outside,
    )


def said(trial: Trial, score: Score) -> str:
    """One line on a trial."""
    if trial.status == "failed":
        return f"failed: {trial.reason}"
    figure = "no number" if trial.holdout_score is None else score.text(trial.holdout_score)
    valid = f"  INVALID: {trial.reason}" if trial.reason else ""
    return f"held-out {score.name} {figure} with {toml_value(trial.options)}{valid}"


def toml_entry(tuning: Tuning, own: Mapping[str, Any], chosen: Choice) -> str:
    """The `[[methods]]` of a suite with the chosen options and the suite's own others, as far as they are not defaults."""
    defaults = find(tuning.method_name).Options().model_dump(mode="json")
    merged = {**own, **chosen}
    options = {name: value for name, value in merged.items() if name in chosen or value != defaults[name]}
    label = {} if tuning.method == tuning.method_name.rpartition(":")[2] else {"label": tuning.method}
    return toml_text({"methods": [{"name": tuning.method_name, **label, "options": options}]}).strip()


def _key(choice: Choice) -> str:
    return json.dumps(choice, sort_keys=True)
