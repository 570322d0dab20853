"""Measures, before a run trains, the tables that budgets of latency and energy rest on, and what was achieved in the end."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.parts import adds_up, part_of
from greenprune.bench.energy.reading import Kind, kinds_of_gpu, to_decide_by
from greenprune.bench.errors import UserError
from greenprune.bench.inference.kept import Conditions, Kept, kept
from greenprune.bench.inference.pair import LONGER, LONGEST
from greenprune.bench.inference.target import EagerTarget, RuntimeTarget
from greenprune.bench.machine.machine import describe_machine
from greenprune.bench.machine.precision import resolve_precision
from greenprune.bench.models.definition import structure_hash
from greenprune.bench.records.cost import Calibration
from greenprune.bench.records.inference import Inference, Served
from greenprune.bench.records.validity import AGREED, deciding
from greenprune.bench.runtimes.catalogue import described, made
from greenprune.bench.runtimes.names import EAGER
from greenprune.bench.suite.settings import Settings
from greenprune.methods import CostTable, calibrate
from greenprune.methods.budget.correction import FILLED_S, KEPT, corrected, disagreement
from greenprune.methods.cost.calibration import Measure, Target, stopwatch
from greenprune.methods.cost.kinds import MEASURED
from torch import Tensor, nn

FORMAT = 5
"""Part of a calibration's conditions: raise it when the same network is to be measured in another way."""

FEW_NETWORKS = (0.5,)
"""Costs of the whole networks that correct a table where each must be exported or compiled first, which takes seconds."""

TRIES = 3
"""Of a calibration whose whole networks and layers do not agree."""

LONGEST_S = 110.0
"""Nor is a calibration tried again where it would take longer than this in all."""

ROUNDS = 3
ENERGY_ROUNDS = 1
MODELLED_WINDOW_S = 0.01  # CPU time is read to the nanosecond
MEASURED_WINDOW_S = 0.5  # counters of GPUs move ten times a second
MEASURED_STEPS = 4  # a coarser grid, because each of its points takes so long


def calibration_batch(settings: Settings) -> int:
    """The batch size that a budget of latency or energy is stated for."""
    return settings.budget_batch_size or max(settings.measurement.inference_batch_sizes)


def how_much_longer(settings: Settings, runtime: str, batch_size: int) -> int:
    """For how many times `inference_seconds` the measurement in `runtime` at `batch_size` may go on, see `pair`."""
    decides = settings.cost in MEASURED and (runtime, batch_size) == (
        settings.budget_runtime,
        calibration_batch(settings),
    )
    return LONGEST if decides else LONGER


def calibrated(settings: Settings, model: nn.Module, example: Tensor, meter: EnergyMeter, suite: Path) -> Kept:
    """The table of the dense `model`: what another run of the suite has measured on this machine, or measured here.

    One in joules is of the kind, and of the parts of the machine, that `meter` has: what a sensor said holds for no model.

    Args:
        example: (B, C, H, W), as in training.
        suite: its results folder, where the table is kept.

    Raises:
        UserError: nothing on this machine gives joules, or the folder cannot be written.
    """
    machine = describe_machine(example.device)
    conditions: Conditions = {
        "kind": settings.cost,
        "runtime": settings.budget_runtime,
        "versions": ", ".join(
            f"{key} {value}"
            for key, value in sorted(described(settings.budget_runtime, made(settings.budget_runtime)).items())
        ),
        "batch_size": calibration_batch(settings),
        "network": structure_hash(copy.deepcopy(model)),
        "input": "x".join(map(str, example.shape[1:])),
        "channels_last": settings.training.channels_last,
        "precision": resolve_precision(example.device, settings.training.precision),
        "processor": machine.get("gpu") or machine["cpu"],
        "cores": machine["cores"],
        "threads": machine["threads"],
        "greenprune": FORMAT,
    }
    kind: Kind | None = None
    if settings.cost == "energy":
        kind, parts = best_energy(meter)
        conditions["energy"] = f"{kind}: {parts}"
    try:
        return kept(suite, conditions, lambda: (measure(settings, model, example, meter, kind), kind))
    except OSError as e:
        raise UserError(f"{suite}: the calibration cannot be kept ({e.strerror or e})") from None


def measure(settings: Settings, model: nn.Module, example: Tensor, meter: EnergyMeter, kind: Kind | None) -> CostTable:
    """The table of the dense `model`.

    Args:
        example: (B, C, H, W), as in training.
        kind: of the joules that it is to hold; None: it holds seconds.

    Raises:
        UserError: the runtime cannot run the network.
    """
    name = settings.budget_runtime
    eager = name == EAGER
    precision = resolve_precision(example.device, settings.training.precision) if eager else "float32"
    target: Target = EagerTarget(precision) if eager else RuntimeTarget(name)
    cost: Literal["latency", "energy"] = "latency" if kind is None else "energy"
    take: Measure = stopwatch(example.device, apart=not eager)
    take_whole: Measure = stopwatch(example.device, apart=not eager, filled_s=FILLED_S)
    steps, rounds = 8 if eager else 4, ROUNDS
    if kind is not None:
        modelled = kind == "modelled"
        take = joules_per_call(meter, kind, MODELLED_WINDOW_S if modelled else MEASURED_WINDOW_S)
        take_whole = joules_per_call(meter, kind, FILLED_S if modelled else MEASURED_WINDOW_S)
        steps, rounds = min(steps, 8 if modelled else MEASURED_STEPS), ENERGY_ROUNDS

    def once() -> CostTable:
        table = calibrate(
            model,
            example,
            batch_size=calibration_batch(settings),
            dtype={"float32": torch.float32, "bfloat16": torch.bfloat16}[precision],
            measure=take,
            kind=cost,
            rounds=rounds,
            steps=steps,
            seed=settings.seed,
            target=None if eager else target,
        )
        return corrected(model, example, table, target=target, measure=take_whole, kept=KEPT if eager else FEW_NETWORKS)

    return steadiest(once)


def steadiest(once: Callable[[], CostTable]) -> CostTable:
    """What `once` measures, again while the machine was so busy that whole networks and their table disagree.

    Of at most `TRIES` tables that in which they agree best.
    """
    started_s = time.perf_counter()
    tables = [once()]
    while disagreement(tables[-1]) > AGREED and len(tables) < TRIES:
        spent_s = time.perf_counter() - started_s
        if spent_s * (len(tables) + 1) / len(tables) > LONGEST_S:
            break
        tables.append(once())
    return min(tables, key=disagreement)


def best_energy(meter: EnergyMeter) -> tuple[Kind, str]:
    """The best kind of joules that `meter` has, of a counter, else sampled, else modelled, and with a GPU the best that it is
    in; and the parts of the machine that they are of: "cpu, gpu".

    Raises:
        UserError: nothing on this machine gives joules.
    """
    with meter.window("probe") as window:
        time.sleep(0.2)
    kinds = to_decide_by(kinds_of_gpu([window.reading]))
    kind = next((kind for kind in kinds if window.reading.energy_j(kind) is not None), None)
    if kind is None:
        raise UserError('cost = "energy": no source of energy answers on this machine; use "latency"')
    names = [source.name for source in window.reading.sources if source.kind == kind and adds_up(source.name)]
    return kind, ", ".join(sorted(map(part_of, names)))


def joules_per_call(meter: EnergyMeter, kind: Kind, window_s: float) -> Callable[[Callable[[], None]], float]:
    """A `measure` for `calibrate`: J of one call, from as many as fill a window."""

    def measured(run: Callable[[], None]) -> float:
        run()  # warms up
        calls = 0
        with meter.window("calibration", align=kind != "modelled") as window:
            started_s = time.perf_counter()
            while calls == 0 or time.perf_counter() - started_s < window_s:
                run()
                calls += 1
        energy_j = window.reading.energy_j(kind)
        return 0.0 if energy_j is None else energy_j / calls

    return measured


def summary(found: Kept) -> Calibration:
    """What the record keeps of a calibration."""
    table = found.table
    return Calibration(
        made_at=found.made_at,
        runtime=table.runtime,
        slope=table.slope,
        closing_slope=table.closing_slope,
        samples=tuple((sample.layers, sample.measured) for sample in table.samples),
        disagreement=disagreement(table),
        unit=table.unit,
        energy_kind=found.energy_kind,
        device=table.device,
        threads=table.threads,
        dtype=table.dtype,
        memory_format=table.memory_format,
        batch_size=table.batch_size,
        torch_version=table.torch_version,
        rounds=table.rounds,
        points=sum(len(shape.inputs) * len(shape.outputs) for shape in table.shapes),
        duration_s=table.duration_s,
        whole=table.whole,
        layers_sum=table.layers_sum,
        scale=table.scale,
        unexplained=table.unexplained,
    )


def achieved(
    inference: Sequence[Inference], served: Sequence[Served], calibration: Calibration | None
) -> dict[str, float | None]:
    """`kept_latency` and `kept_energy` of a record's cost, from the comparison with dense in the calibration's runtime and
    at its batch size."""
    same = deciding(inference, served, calibration)
    if calibration is None or same is None:
        return {}
    ratio = None if calibration.energy_kind is None else same.energy_ratio.get(calibration.energy_kind)
    return {"kept_latency": same.latency_ratio, "kept_energy": None if ratio is None else ratio[0]}
