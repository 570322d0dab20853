"""The one training loop. It never knows which method it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from greenprune.bench.data.batches import Batches, evaluation_batches
from greenprune.bench.data.data import Dataset, Split
from greenprune.bench.energy import EnergyMeter, Reading
from greenprune.bench.machine.precision import autocast_for
from greenprune.bench.records.record import Epoch
from greenprune.bench.suite.recipe import Allowance, Training
from greenprune.bench.training.ledger import Ledger
from greenprune.bench.training.schedule import cycles, phase_at, rate_at
from greenprune.methods import MacMeter, Method, count_macs
from torch import Tensor, nn

EVALUATION_BATCH = 500


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
    train_accuracy: float
    holdout_accuracy: float | None
    kept_macs: float
    power_w: float | None
    seconds_left: float


@dataclass(frozen=True)
class Trained:
    """Outcome of `train`."""

    model: nn.Module
    epochs: tuple[Epoch, ...]
    ledger: Ledger
    energy: Reading


def train(
    method: Method,
    model: nn.Module,
    data: Dataset,
    batches: Batches,
    recipe: Training,
    device: torch.device,
    meter: EnergyMeter,
    report: Callable[[Progress], None] = lambda progress: None,
    allowance: Allowance | None = None,
) -> Trained:
    """Train `model` with `method` for exactly `method.steps` optimizer steps: as a rule those of the recipe's epochs.

    Everything that the method executes is charged to the ledger: `prepare` to its first phase, `settle` and `finish` to
    its last.

    Args:
        method: whose hooks are called. Its last epoch may be a part of one.
        model: the dense network, on `device`, in its memory format.
        batches: the training batches; the same for every method at equal seed.
        report: called about twice a second and at the end of each epoch.
        allowance: what the training may spend; by default the images of its steps.

    Returns:
        The finished network (plain and physically smaller), the history by epoch, the ledger, and the energy of
        preparing, training and finishing: validation is paused out.

    Raises:
        OverdrawnError: the training took more than its allowance.
        DivergedError: the loss is no longer a number.
    """
    images, _ = next(batches.epoch(0))
    example = images[:2]
    dense_macs = count_macs(model, example)
    steps_per_epoch, steps = len(batches), method.steps
    epochs = math.ceil(steps / steps_per_epoch)
    phases = method.phases(method.options)
    rates = cycles(phases, steps, recipe.learning_rate, round(recipe.warmup_epochs * steps_per_epoch))
    autocast = autocast_for(device, recipe.precision)
    ledger = open_ledger(allowance, steps, recipe.epochs * steps_per_epoch, batches.batch_size, dense_macs)

    def kept_macs() -> float:
        kept = method.kept_cost()
        return count_macs(network, example) / dense_macs if kept is None else kept

    def held_out() -> Iterator[Tensor]:
        for x, _ in evaluation_batches(
            data.holdout, batch_size=EVALUATION_BATCH, mean=data.mean, std=data.std, device=device
        ):
            yield x

    history: list[Epoch] = []
    step = 0
    with meter.window("training") as window:
        ledger.resume_clock()
        with charged(ledger, meter, phases[0].name):
            network = method.prepare(model, example)
        optimizer = make_optimizer(method.param_groups(network), recipe)
        started_s = reported_s = time.perf_counter()
        for epoch in range(1, epochs + 1):
            epoch_started_s = time.perf_counter()
            network.train()
            loss_sum = torch.zeros((), device=device)
            correct = torch.zeros((), device=device)
            kept = kept_macs()
            phase = phase_at(phases, steps, step).name
            stretch = meter.begin("training")  # of one phase within one epoch, for the ledger
            in_epoch = min(steps_per_epoch, steps - step)
            for batch, (x, y) in enumerate(islice(batches.epoch(epoch), in_epoch), start=1):
                if (now := phase_at(phases, steps, step).name) != phase:
                    ledger.charge_energy(phase, stretch.end())
                    phase, stretch = now, meter.begin("training")
                rate = rate_at(rates, step, recipe.schedule)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["learning_rate_scale"]

                with MacMeter() as macs:  # of the whole step: a method may execute something in any of its hooks
                    with autocast():
                        logits = network(x)
                    task_loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
                    loss = task_loss + method.penalty()
                    loss.backward()
                    method.after_backward()
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    method.after_step(optimizer)
                ledger.charge(phase, samples=len(x), forward_macs=macs.total)

                step += 1
                loss_sum += task_loss.detach()
                correct += (logits.detach().argmax(1) == y).sum()
                now_s = time.perf_counter()
                if now_s - reported_s > 0.5:
                    reported_s = now_s
                    left_s = (now_s - started_s) / step * (steps - step)
                    seen = batch * batches.batch_size
                    last = history[-1].holdout_accuracy if history else None
                    numbers = (float(loss_sum) / batch, float(correct) / seen, last, kept, meter.power_w(), left_s)
                    report(Progress(False, epoch, epochs, step, steps, phase, *numbers))

            ledger.charge_energy(phase, stretch.end())
            if step == steps:
                with charged(ledger, meter, phase):
                    method.settle(held_out)
            epoch_s = time.perf_counter() - epoch_started_s
            with window.paused():
                kept = kept_macs()
                accuracy = evaluate(network, data.holdout, data, device)
                entry = Epoch(
                    epoch=epoch,
                    phase=phase,
                    loss=float(loss_sum) / in_epoch,
                    train_accuracy=float(correct) / (in_epoch * batches.batch_size),
                    holdout_accuracy=accuracy,
                    kept_macs=kept,
                    learning_rate=rate,
                    duration_s=round(epoch_s, 3),
                )
                if not math.isfinite(entry.loss):
                    raise DivergedError(f"the loss of epoch {epoch} is {entry.loss}: lower the learning rate")
                history.append(entry)
                left_s = (time.perf_counter() - started_s) / step * (steps - step)
                numbers = (entry.loss, entry.train_accuracy, accuracy, kept, meter.power_w(), left_s)
                report(Progress(True, epoch, epochs, step, steps, phase, *numbers))
            ledger.resume_clock()
        with charged(ledger, meter, phase):
            result = method.finish()
    assert window.reading is not None
    return Trained(result, tuple(history), ledger, window.reading)


@contextmanager
def charged(ledger: Ledger, meter: EnergyMeter, phase: str) -> Iterator[None]:
    """Charge what is executed inside, which sees no training sample, to a phase."""
    stretch = meter.begin("training")
    with MacMeter() as macs:
        yield
    ledger.charge(phase, samples=0, forward_macs=macs.total)
    ledger.charge_energy(phase, stretch.end())


def open_ledger(allowance: Allowance | None, steps: int, recipe_steps: int, batch_size: int, dense_macs: int) -> Ledger:
    """The ledger of a training of `steps`, of a network that dense takes `dense_macs` per image.

    An allowance in MACs counts in what dense takes for the `recipe_steps`, those of the recipe's epochs.
    """
    samples = steps * batch_size
    if allowance is None:
        return Ledger(samples)
    macs = None if allowance.macs is None else round(allowance.macs * recipe_steps * batch_size * dense_macs)
    return Ledger(allowance.samples or samples, macs, allowance.joules)


def make_optimizer(groups: list[dict[str, Any]], recipe: Training) -> torch.optim.Optimizer:
    """SGD over a method's parameter groups; the loop sets each group's rate from its `learning_rate_scale`."""
    groups = [{"learning_rate_scale": 1.0, **group} for group in groups]
    return torch.optim.SGD(
        groups,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, data: Dataset, device: torch.device) -> float:
    """Accuracy (fraction) on `split` in float32 and eval mode, so that anybody who loads the model finds the same.

    The modules are left in the mode they were in.
    """
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    correct = torch.zeros((), dtype=torch.long, device=device)
    for x, y in evaluation_batches(split, batch_size=EVALUATION_BATCH, mean=data.mean, std=data.std, device=device):
        logits: Tensor = model(x)
        correct += (logits.argmax(1) == y).sum()
    for module, mode in modes:
        module.training = mode
    return int(correct) / len(split.labels)
