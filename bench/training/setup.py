"""From the settings of a run to a trained network: what a run and a trial of `tune` have in common."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from greenprune.bench import models
from greenprune.bench.data.batches import Batches, evaluation_batches
from greenprune.bench.data.data import Dataset, Split
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.crosscheck import CrossCheck, crosschecked
from greenprune.bench.energy.reading import Kind
from greenprune.bench.inference import calibration
from greenprune.bench.machine.contention import contention, usage
from greenprune.bench.suite.settings import Settings
from greenprune.bench.training.loop import Trained, train
from greenprune.methods import CostTable, Method, find
from greenprune.methods.cost.kinds import MEASURED
from torch import Tensor, nn

Emit = Callable[..., None]


@dataclass(frozen=True)
class Training:
    """A finished training, and what it was made with.

    Attributes:
        table: the calibration of every layer, where the budget is one of time or energy.
        energy_kind: of the table's joules.
        checks: what other meters say of the training, where the suite asks for them.
        notes: what a reader has to know of how it went.
    """

    method: Method
    trained: Trained
    table: CostTable | None
    energy_kind: Kind | None
    checks: tuple[CrossCheck, ...]
    notes: tuple[str, ...]


def train_once(s: Settings, data: Dataset, meter: EnergyMeter, emit: Emit) -> Training:
    """Train as the settings say; `data` has as many training images as they ask for."""
    device = torch.device(s.device)
    torch.manual_seed(s.seed)
    torch.use_deterministic_algorithms(device.type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # it costs 5 % of a step, and nothing reads such memory
    batches = Batches(
        data.train,
        batch_size=s.training.batch_size,
        mean=data.mean,
        std=data.std,
        device=device,
        seed=s.seed,
        augment=s.training.augment,
        padding=data.padding if s.training.crop_padding is None else s.training.crop_padding,
        flip=data.flip,
        channels_last=s.training.channels_last,
    )
    method_class = find(s.method.name)
    model = fresh_model(s, data.classes, device)
    if device.type == "cuda":
        meter.measure_idle()
    table = energy_kind = None
    if method_class.prunes and s.cost in MEASURED:
        emit("calibrating")
        table, energy_kind = calibration.measure(s, model, next(batches.epoch(0))[0][:1], meter)
    method = method_class(
        s.method.options,
        keep=s.budget,
        steps=s.training.epochs * len(batches) if s.steps is None else s.steps,
        tolerance=s.tolerance,
        seed=s.seed,
        cost=s.cost,
        table=table,
        round_to=s.round_to,
    )
    before = usage()
    country, gpus = s.measurement.country, device.type == "cuda"
    with crosschecked(s.measurement.crosscheck, meter, country=country, gpus=gpus) as checks:
        trained = train(
            method, model, data, batches, s.training, device, meter,
            report=lambda progress: emit("progress", **dataclasses.asdict(progress)),
            allowance=s.allowance,
        )  # fmt: skip
    shared = contention(before, usage(), "training") if device.type == "cpu" else []
    return Training(method, trained, table, energy_kind, tuple(checks), (*data.notes, *shared))


def fresh_model(settings: Settings, classes: int, device: torch.device) -> nn.Module:
    """The dense network as every method starts from it at this seed."""
    model = models.build(settings.model, classes, seed=settings.seed).to(device)
    return model.to(memory_format=torch.channels_last) if settings.training.channels_last else model


def images_of(split: Split, data: Dataset, settings: Settings, batch_size: int) -> Iterator[Tensor]:
    """The images of `split` in batches, (B, C, H, W), as a network is given them."""
    for images, _ in evaluation_batches(
        split, batch_size=batch_size, mean=data.mean, std=data.std, device=torch.device(settings.device),
        channels_last=settings.training.channels_last,
    ):  # fmt: skip
        yield images


@contextmanager
def metered(settings: Settings) -> Iterator[tuple[EnergyMeter, list[warnings.WarningMessage]]]:
    """A meter on the device of the run, and the warnings that come up inside."""
    synchronise = torch.cuda.synchronize if torch.device(settings.device).type == "cuda" else None
    meter = EnergyMeter(device=settings.device, synchronise=synchronise)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield meter, caught
    finally:
        meter.close()
