"""From the settings of a run to a trained network: what a run and a trial of `tune` have in common."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from greenprune.bench import models
from greenprune.bench.data.batches import Batches, evaluation_batches
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.splits import Part
from greenprune.bench.distributed.measuring import meter_of
from greenprune.bench.distributed.rank import this_rank
from greenprune.bench.distributed.team import told
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.crosscheck import CrossCheck, crosschecked
from greenprune.bench.inference import calibration
from greenprune.bench.inference.kept import Kept
from greenprune.bench.machine.contention import contention
from greenprune.bench.models.kinds.kind import Pretrained
from greenprune.bench.records.record import Loading, RankPart
from greenprune.bench.suite.settings import Settings
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.tasks.fitting import refuse_network
from greenprune.bench.tasks.task import Task
from greenprune.bench.text import plural
from greenprune.bench.training import account
from greenprune.bench.training.identity import place
from greenprune.bench.training.keeper import Keeper
from greenprune.bench.training.loop import Trained, train
from greenprune.bench.training.ranks import shared, usage_of_ranks
from greenprune.bench.training.start import begin, start_of
from greenprune.methods import Method, find
from greenprune.methods.cost.kinds import MEASURED
from greenprune.methods.ranks import together
from greenprune.methods.structure.plain import StateError
from torch import Tensor, nn

Emit = Callable[..., None]

WAITED_SHARE = 0.05
"""Of a training's time; what waits longer for images says so."""


@dataclass(frozen=True)
class Training:
    """A finished training, and what it was made with.

    Attributes:
        calibration: of every layer, where the budget is one of time or energy.
        checks: what other meters say of the training, where the suite asks for them.
        loading: how images came to it, where they did not lie on the device.
        ranks: what each rank read of the energy; empty: there was one process.
        notes: what a reader has to know of how it went.
    """

    method: Method
    task: Task
    trained: Trained
    calibration: Kept | None
    checks: tuple[CrossCheck, ...]
    loading: Loading | None
    ranks: tuple[RankPart, ...]
    notes: tuple[str, ...]


def train_once(s: Settings, data: Dataset, meter: EnergyMeter, emit: Emit, keeper: Keeper) -> Training:
    """Train as the settings say, from the last checkpoint on where there is one.

    Args:
        data: with as many training images as they ask for.
    """
    device = torch.device(s.device)
    # As use_deterministic_algorithms, which imports the compiler as well: a second of every run.
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # it costs 5 % of a step, and nothing reads such memory
    task = make_task(s.task.name, s.task.options)
    batches = Batches(
        data.train,
        batch_size=s.training.batch_size,
        mean=data.mean,
        std=data.std,
        device=device,
        seed=s.seed,
        augment=s.training.augment,
        classes=data.classes,
        void=task.void,
        padding=data.padding if s.training.crop_padding is None else s.training.crop_padding,
        flip=data.flip,
        channels_last=s.training.channels_last,
        share=(together.rank(), together.size()),
    )
    if device.type == "cuda":
        meter.measure_idle()
    task.begin(device, data.classes, data.shape)
    with closing(batches):
        for state in shared(keeper.found):
            try:
                return _train_from(state, s, data, batches, task, meter, emit, keeper)
            except StateError as e:
                keeper.said.append(f"checkpoint {state['number']} is not used: {e}")
        return _train_from(None, s, data, batches, task, meter, emit, keeper)


def _train_from(
    state: dict[str, Any] | None,
    s: Settings,
    data: Dataset,
    batches: Batches,
    task: Task,
    meter: EnergyMeter,
    emit: Emit,
    keeper: Keeper,
) -> Training:
    """From this checkpoint; None: from the start.

    Raises:
        StateError: it does not fit.
    """
    device = torch.device(s.device)
    torch.manual_seed(s.seed)
    method_class = find(s.method.name)
    anew = method_class.starts_anew(s.method.options)
    model, started = fresh_model(s, data, device, None if anew else start_of(s.model, s.weights, data.shape))
    if anew and s.weights is not None:
        started = ("not pretrained: this method starts from initial weights",)
    refuse_network(s.task.name, task, s.model, model, batches.example()[:2], data.classes)
    earlier = Earlier(state, device)
    found = earlier.calibration
    if method_class.prunes and s.cost in MEASURED and found is None:
        emit("calibrating")
        found = calibrated(s, model, batches.example()[:1], meter, keeper)
    method = method_class(
        s.method.options,
        keep=s.budget,
        steps=s.training.epochs * len(batches) if s.steps is None else s.steps,
        tolerance=s.tolerance,
        seed=s.seed,
        cost=s.cost,
        table=None if found is None else found.table,
        round_to=s.round_to,
    )
    rank = this_rank()
    node = 0 if rank is None else rank.node
    before = usage_of_ranks(node)

    def notes() -> list[str]:
        return contention(before, usage_of_ranks(node), "training") if device.type == "cpu" else []

    def others() -> dict[str, Any]:
        return {
            "calibration": None if found is None else found.model_dump(mode="json"),
            "notes": [*earlier.notes, *notes()],
            "place": place(device),
            "waited_s": earlier.waited_s + batches.waited_s,
            "power": packed(meter.power_log.columns()),
            "power_started_at_s": meter.power_log.started_at_s,
        }

    if state is not None:
        meter.power_log.go_on(unpacked(state["others"]["power"]), state["others"]["power_started_at_s"])
        emit("resumed", step=state["course"]["step"])
    country, gpus = s.measurement.country, device.type == "cuda"
    meters = s.measurement.crosscheck if together.rank() == 0 else ()
    with crosschecked(meters, meter, country=country, gpus=gpus) as checks:
        trained = train(
            method, model, data, batches, task, s.training, device, meter,
            report=lambda progress: emit("progress", score=task.score.model_dump(), **dataclasses.asdict(progress)),
            between=lambda: emit("between"),
            allowance=s.allowance, keeper=keeper, state=state, others=others,
        )  # fmt: skip
    trained, parts = account.of_all_ranks(rank, trained, device)
    said = [*earlier.notes, *notes(), *keeper.said]
    if state is not None and checks:
        said.append("the other energy meters saw the training after its last interruption alone")
    loading = loading_of(batches, earlier.waited_s, trained)
    said += bottleneck(loading)
    notes_of = (*started, *data.notes, *trained.notes, *dict.fromkeys(said))
    return Training(method, task, trained, found, tuple(checks), loading, parts, notes_of)


def calibrated(s: Settings, model: nn.Module, example: Tensor, meter: EnergyMeter, keeper: Keeper) -> Kept:
    """As `calibration.calibrated`; of several ranks the first one measures, and all decide by the same table."""
    own = together.rank() == 0
    found = calibration.calibrated(s, model, example, meter, keeper.suite) if own else None
    content = told(b"" if found is None else found.model_dump_json().encode())
    return Kept.model_validate_json(content) if found is None else found


def loading_of(batches: Batches, before_s: float, trained: Trained) -> Loading | None:
    """How images came to a training; None where they lay on the device. `before_s`: waited before an interruption."""
    if batches.workers is None:
        return None
    waited_s = before_s + batches.waited_s
    training_s = sum(entry.duration_s for entry in trained.ledger.stored().entries)
    share = waited_s / training_s if training_s > 0 else 0.0
    return Loading(workers=batches.workers, waited_s=round(waited_s, 3), waited_share=round(share, 4))


def bottleneck(loading: Loading | None) -> list[str]:
    """What to say where a training waited for its images."""
    if loading is None or loading.waited_share <= WAITED_SHARE:
        return []
    return [
        f"the training waited for images for {loading.waited_share:.0%} of its time, so its seconds and joules are those of "
        f'the loader too ({plural(loading.workers, "worker")}): more of dataset.workers, or dataset.loading = "memory"'
    ]


class Earlier:
    """What a run knows from before its interruption; `notes`: what a reader has to know of it."""

    def __init__(self, state: dict[str, Any] | None, device: torch.device) -> None:
        stored = {} if state is None else state["others"]
        found = stored.get("calibration")
        self.calibration = None if found is None else Kept.model_validate(found)
        self.notes: list[str] = list(stored.get("notes", []))
        self.waited_s: float = stored.get("waited_s", 0.0)
        was, now = stored.get("place"), place(device)
        if was is not None and was != now:
            self.notes.append(f"trained on {was}, then on {now}: not the same bit for bit as on one of them alone")


def packed(columns: dict[str, list[Any]]) -> dict[str, Any]:
    """The columns of a power log, short."""
    labels = list(zip(columns["source"], columns["kind"], columns["phase"], strict=True))
    known = list(dict.fromkeys(labels))
    number = {label: i for i, label in enumerate(known)}
    power_w = [math.nan if power is None else power for power in columns["power_w"]]
    return {
        "labels": known,
        "label": torch.tensor([number[label] for label in labels], dtype=torch.int32),
        "time_s": torch.tensor(columns["time_s"], dtype=torch.float64),
        "power_w": torch.tensor(power_w, dtype=torch.float64),
    }


def unpacked(stored: dict[str, Any]) -> dict[str, list[Any]]:
    """What `packed` was given."""
    labels = [stored["labels"][i] for i in stored["label"].tolist()]
    return {
        "time_s": stored["time_s"].tolist(),
        "source": [label[0] for label in labels],
        "kind": [label[1] for label in labels],
        "power_w": [None if math.isnan(power) else power for power in stored["power_w"].tolist()],
        "phase": [label[2] for label in labels],
    }


def fresh_model(
    settings: Settings, data: Dataset, device: torch.device, start: Pretrained | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """The dense network as every method starts from it at this seed; what a reader has to know of its weights.

    Args:
        start: what it starts from instead of its initial weights.
    """
    model = models.build(settings.model, data.classes, seed=settings.seed, shape=data.shape)
    notes = begin(model, start, data.classes, data.shape)
    model = model.to(device)
    return model.to(memory_format=torch.channels_last) if settings.training.channels_last else model, notes


def images_of(split: Part, data: Dataset, settings: Settings, batch_size: int) -> Iterator[Tensor]:
    """The images of `split` in batches, (B, C, H, W), as a network is given them."""
    for images, _ in evaluation_batches(
        split, batch_size=batch_size, mean=data.mean, std=data.std, device=torch.device(settings.device),
        channels_last=settings.training.channels_last,
    ):  # fmt: skip
        yield images


def synchronise_of(settings: Settings) -> Callable[[], None] | None:
    """What waits for the device, where it works on its own."""
    return torch.cuda.synchronize if torch.device(settings.device).type == "cuda" else None


@contextmanager
def metered(
    settings: Settings, gpu_uuids: Sequence[str] = (), shared: str = ""
) -> Iterator[tuple[EnergyMeter, list[warnings.WarningMessage]]]:
    """A meter on the device of the run, and the warnings that come up inside.

    Args:
        gpu_uuids: of its own GPUs; none: the one that CUDA puts first, of a run on several devices those of its ranks.
        shared: why what counts the whole machine is not this run's alone; empty: it is.
    """
    meter = meter_of(this_rank(), settings.device, synchronise_of(settings), gpu_uuids, shared)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield meter, caught
    finally:
        meter.close()
