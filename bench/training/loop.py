"""The one training loop. It never knows which method it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from greenprune.bench.data.batches import Batches, evaluation_batches
from greenprune.bench.data.data import Dataset
from greenprune.bench.energy import EnergyMeter, Reading
from greenprune.bench.machine.precision import autocast_for
from greenprune.bench.records.record import Epoch
from greenprune.bench.suite.recipe import Allowance, Training
from greenprune.bench.tasks.meter import Meter
from greenprune.bench.tasks.task import Task
from greenprune.bench.training.course import (
    Course,
    network_state,
    optimizer_state,
    random_state,
    restore_network,
    restore_optimizer,
    restored_groups,
    set_random_state,
)
from greenprune.bench.training.evaluation import EVALUATION_BATCH, evaluate
from greenprune.bench.training.keeper import Keeper
from greenprune.bench.training.layers import Parts
from greenprune.bench.training.ledger import Ledger
from greenprune.bench.training.optimizers import make_optimizer
from greenprune.bench.training.ranks import of_all_ranks, of_this_rank, step_of_all, total
from greenprune.bench.training.schedule import cycles, phase_at, rate_at
from greenprune.bench.training.spending import Energies, charged, open_ledger
from greenprune.bench.training.step import Stepper
from greenprune.methods import MacMeter, Method, count_macs
from greenprune.methods.structure.plain import StateError
from torch import Tensor, nn


class DivergedError(RuntimeError):
    """The training loss is no longer a number."""


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows. `epoch_ended` is True once for each epoch."""

    epoch_ended: bool
    epoch: int
    epochs: int
    step: int
    steps: int
    phase: str
    loss: float
    train_score: float | None
    holdout_score: float | None
    kept_macs: float
    power_w: float | None
    seconds_left: float


@dataclass(frozen=True)
class Trained:
    """Outcome of `train`.

    Attributes:
        redone: the energy of what was done twice, where the training was interrupted.
        notes: what a reader has to know, a sentence each without its full stop.
    """

    model: nn.Module
    epochs: tuple[Epoch, ...]
    ledger: Ledger
    energy: Reading
    redone: Reading | None = None
    notes: tuple[str, ...] = ()


def train(
    method: Method,
    model: nn.Module,
    data: Dataset,
    batches: Batches,
    task: Task,
    recipe: Training,
    device: torch.device,
    meter: EnergyMeter,
    report: Callable[[Progress], None] = lambda progress: None,
    between: Callable[[], None] = lambda: None,
    allowance: Allowance | None = None,
    keeper: Keeper | None = None,
    state: dict[str, Any] | None = None,
    others: Callable[[], dict[str, Any]] = dict,
) -> Trained:
    """Train `model` with `method` for exactly `method.steps` optimizer steps: as a rule those of the recipe's epochs.

    Everything that the method executes is charged to the ledger: `prepare` to its first phase, `settle` and `finish` to
    its last.

    Args:
        method: whose hooks are called. Its last epoch may be a part of one.
        model: the dense network, on `device`, in its memory format.
        batches: the training batches; the same for every method at equal seed.
        task: what is trained for; it has begun.
        report: called about twice a second and at the end of each epoch.
        between: called when no step is due for a while: before an epoch is evaluated, and before the training is finished.
        allowance: what the training may spend; by default the images of its steps.
        keeper: saves the training now and then.
        state: a checkpoint of `keeper` to go on from, for `model` and `method` as they were made then.
        others: what a checkpoint is to hold besides, as plain data.

    Returns:
        The finished network (plain and physically smaller), the history by epoch, the ledger, and the energy of
        preparing, training and finishing: validation and checkpoints are paused out.

    Raises:
        OverdrawnError: the training took more than its allowance.
        DivergedError: the loss is no longer a number.
        StateError: `state` does not fit; nothing was trained.
        StoppedError: `keeper` was asked to stop.
    """
    example, state = batches.example()[:2], of_this_rank(state)
    dense_macs = count_macs(model, example)
    steps_per_epoch, steps = len(batches), method.steps
    epochs = math.ceil(steps / steps_per_epoch)
    phases = method.phases(method.options)
    rates = cycles(phases, steps, recipe.learning_rate, round(recipe.warmup_epochs * steps_per_epoch))
    ledger = open_ledger(
        allowance, steps, recipe.epochs * steps_per_epoch, batches.batch_size, dense_macs + task.extra_macs(example)
    )
    random_at_start = random_state(device) if state is None else state["random_at_start"]
    energies = Energies(state)
    scored = task.meter(data.classes, device, training=True)
    parts = Parts(model, recipe, data.classes)
    said: tuple[str, ...] = ()

    def learning_rate(step: int) -> float:
        return rate_at(rates, step, recipe.schedule, recipe.step_at, recipe.step_factor)

    def kept_macs() -> float:
        kept = method.kept_cost()
        return count_macs(network, example) / dense_macs if kept is None else kept

    @contextmanager
    def paused() -> Iterator[None]:
        with window.paused(), nullcontext() if keeper is None else keeper.paused():
            yield

    def held_out() -> Iterator[Tensor]:
        for x, _ in evaluation_batches(
            data.holdout, batch_size=EVALUATION_BATCH, mean=data.mean, std=data.std, device=device
        ):
            yield x

    def save() -> None:
        """The training as it stands, between two steps; inside of a pause of the window."""
        assert keeper is not None
        keeper.save(
            lambda: of_all_ranks({
                "course": course.state(time.perf_counter() - epoch_started_s + course.epoch_s),
                "random": random_state(device),
                "random_at_start": random_at_start,
                "method": method.state_dict(),
                "network": network_state(network),
                "optimizer": optimizer_state(optimizer, network),
                "ledger": ledger.state(),
                "energies": energies.state(window.so_far()),
                "others": others(),
            })
        )  # fmt: skip

    if state is not None:
        assert keeper is not None
        set_random_state(random_at_start, device)
        lost = keeper.goes_on_from(state)
        with meter.window("redone") as again, MacMeter() as macs:
            network = method.prepare(model, example)
            course, optimizer = take_on(state, method, network, recipe, scored)
        set_random_state(state["random"], device)
        ledger.restore(state["ledger"])
    else:
        course = Course.start(device, scored)
        lost = [] if keeper is None else keeper.goes_on_from(None)
    with meter.window("training") as window:
        ledger.resume_clock()
        if keeper is not None:
            keeper.begin(meter, ledger)
            for part in lost:
                energies.redo(ledger, part.reading, part.samples, part.forward_macs, part.duration_s)
            if state is not None:
                done_again = (again.reading, 0, total(macs.total), again.reading.duration_s)
                energies.redo(ledger, *done_again)
                keeper.note_part("prepare", *done_again)
        if state is None:
            with charged(ledger, meter, phases[0].name):
                network = method.prepare(model, example)
            optimizer = make_optimizer(parts.split(method.param_groups(network)), recipe)
        take_step = Stepper(network, method, task, optimizer, recipe, autocast_for(device, recipe.precision))
        started_s = reported_s = time.perf_counter()
        first_step = course.step

        def seconds_left() -> float:
            return (time.perf_counter() - started_s) / max(1, course.step - first_step) * (steps - course.step)

        while course.epoch <= epochs:
            epoch_started_s = time.perf_counter()
            parts.train(network)
            kept = kept_macs()
            in_epoch = min(steps_per_epoch, steps - course.step + course.batch)
            phase = phase_at(phases, steps, course.step - (course.batch == in_epoch)).name
            stretch = meter.begin("training")  # of one phase within one epoch, for the ledger
            for x, y in islice(batches.epoch(course.epoch, course.batch), in_epoch - course.batch):
                if (now := phase_at(phases, steps, course.step).name) != phase:
                    ledger.charge_energy(phase, stretch.end())
                    phase, stretch = now, meter.begin("training")
                with MacMeter() as macs:  # of the whole step: a method may execute something in any of its hooks
                    loss, outputs = take_step(x, y, learning_rate(course.step))
                done = step_of_all(len(x), macs.total, keeper, take_step.trained)
                ledger.charge(phase, samples=done.samples, forward_macs=done.forward_macs)

                course.step += 1
                course.batch += 1
                course.loss_sum += loss
                course.meter.update(outputs, y)
                if keeper is not None and (done.due or course.step == steps):
                    ledger.charge_energy(phase, stretch.end())
                    with paused():
                        paused_s = time.perf_counter()
                        save()
                        epoch_started_s += time.perf_counter() - paused_s
                    keeper.resume_clock()
                    ledger.resume_clock()
                    stretch = meter.begin("training")
                if keeper is not None:
                    keeper.note_if_due()
                now_s = time.perf_counter()
                if now_s - reported_s > 0.5:
                    reported_s = now_s
                    last = course.history[-1].holdout_score if course.history else None
                    means = (float(course.loss_sum) / course.batch, course.score, last)  # the score is of this rank
                    numbers = (*means, kept, meter.power_w(), seconds_left())
                    report(Progress(False, course.epoch, epochs, course.step, steps, phase, *numbers))

            ledger.charge_energy(phase, stretch.end())
            between()
            if course.step == steps:
                take_step.last()
                with charged(ledger, meter, phase):
                    method.settle(held_out)
            epoch_s = time.perf_counter() - epoch_started_s + course.epoch_s
            with paused():
                kept = kept_macs()
                with take_step.evaluated():
                    score = evaluate(network, data.holdout, data, device, task)
                if course.step == steps:
                    said = take_step.compared(lambda: evaluate(network, data.holdout, data, device, task))
                entry = Epoch(
                    epoch=course.epoch,
                    phase=phase,
                    loss=float(course.loss_sum) / in_epoch,
                    train_score=course.score_of_all_ranks(),
                    holdout_score=score,
                    kept_macs=kept,
                    learning_rate=learning_rate(course.step - 1),
                    duration_s=round(epoch_s, 3),
                )
                if not math.isfinite(entry.loss):
                    raise DivergedError(f"the loss of epoch {course.epoch} is {entry.loss}: lower the learning rate")
                course.history.append(entry)
                numbers = (entry.loss, entry.train_score, score, kept, meter.power_w(), seconds_left())
                report(Progress(True, course.epoch, epochs, course.step, steps, phase, *numbers))
            course.next_epoch()
            ledger.resume_clock()
        between()
        with charged(ledger, meter, phase):
            result = method.finish()
        if keeper is not None:
            keeper.end()
    assert window.reading is not None
    return Trained(result, tuple(course.history), ledger, energies.training(window.reading), energies.redone, said)


def take_on(
    state: dict[str, Any], method: Method, network: nn.Module, recipe: Training, meter: Meter
) -> tuple[Course, torch.optim.Optimizer]:
    """Bring a prepared method and its network to where a checkpoint was taken.

    Raises:
        StateError: it does not fit.
    """
    try:
        method.load_state_dict(state["method"])
        restore_network(network, state["network"])
        optimizer = make_optimizer(restored_groups(state["optimizer"], network), recipe)
        restore_optimizer(optimizer, state["optimizer"], network)
        return Course.restored(state["course"], meter), optimizer
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise StateError(f"it does not fit ({type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''})") from None
