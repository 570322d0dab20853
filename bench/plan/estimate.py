"""How long a run will take, from a few training steps on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from greenprune.bench import models
from greenprune.bench.data.batches import evaluation_batches
from greenprune.bench.data.data import Dataset
from greenprune.bench.inference.pair import CPU_BLOCK_S, GPU_BLOCK_S, LONGER, LONGEST, MIN_BLOCKS
from greenprune.bench.machine.precision import autocast_for
from greenprune.bench.plan.cost import resolve_cost
from greenprune.bench.runtimes.names import EAGER
from greenprune.bench.suite.suite import Suite
from greenprune.bench.tasks.catalogue import make_task
from greenprune.methods import count_macs, find
from greenprune.methods.cost.kinds import MEASURED
from greenprune.methods.structure.macs import COUNTED

CALIBRATION_S = {"latency": 60.0, "energy": 120.0}  # of ResNet-20 on one core, at a batch size of 64
WARM_UP_BLOCKS = 2.5  # of an inference measurement
IDLE_S = 30.0  # a GPU rests before a run, for net energy
STARTUP_S = 15.0  # interpreter, imports and data of a fresh process


@dataclass(frozen=True)
class Estimate:
    """What one run is expected to take, from a few dense training steps timed on this machine.

    Attributes:
        step_s: of a dense training step.
        run_s, longest_s: of a run whose inference is known well enough at once, or takes as long as it may.
        cores: of the processor that were busy with the steps.
        layers, macs: convolution and linear layers of the dense network, and its multiply-accumulates for one image.
        images: in the train, holdout and test parts.
    """

    step_s: float
    run_s: float
    longest_s: float
    cores: float
    layers: int
    macs: int
    images: dict[str, int]


def estimate(suite: Suite, model_name: str, data: Dataset, device: str, timed_steps: int = 3) -> Estimate:
    """Time `timed_steps` dense training steps and extrapolate. Methods that shrink their network early take less."""
    target = torch.device(device)
    recipe = suite.training
    layers, macs = counted(model_name, data)
    model = models.build(model_name, data.classes, seed=0, shape=data.shape).to(target)
    task = make_task(suite.task.name, suite.task.options)
    task.begin(target, data.classes, data.shape)
    batch, targets = next(
        evaluation_batches(data.train, batch_size=recipe.batch_size, mean=data.mean, std=data.std, device=target)
    )
    if recipe.channels_last:
        model, batch = (
            model.to(memory_format=torch.channels_last),
            batch.contiguous(memory_format=torch.channels_last),
        )  # type: ignore[call-overload]
    autocast = autocast_for(target, recipe.precision)
    durations_s, busy_s = [], []
    for _ in range(timed_steps + 1):
        started_s, busy_before_s = time.perf_counter(), time.process_time()
        task.step(model, batch, targets, recipe.label_smoothing, autocast)[0].backward()
        if target.type == "cuda":
            torch.cuda.synchronize()
        durations_s.append(time.perf_counter() - started_s)
        busy_s.append(time.process_time() - busy_before_s)
    step_s = min(durations_s[1:])  # the first one warms up
    images = data.images
    shortest_s, longest_s = inference_s(suite, device)
    rest_s = epochs_of(suite, images) * step_s + STARTUP_S
    pruned = sum(len(suite.seeds_of(entry)) for entry in suite.methods if find(entry.name).prunes) * len(suite.budgets)
    calibration_s = CALIBRATION_S.get(resolve_cost(suite.cost, device), 0.0)
    rest_s += calibration_s / max(1, pruned)  # one run calibrates, the others reuse it
    rest_s += IDLE_S if target.type == "cuda" else 0.0
    return Estimate(
        step_s=step_s,
        run_s=rest_s + shortest_s,
        longest_s=rest_s + longest_s,
        cores=sum(busy_s[1:]) / sum(durations_s[1:]),
        layers=layers,
        macs=macs,
        images=images,
    )


def counted(model_name: str, data: Dataset) -> tuple[int, int]:
    """Convolution and linear layers of the dense network, and its multiply-accumulates for one image."""
    model = models.build(model_name, data.classes, seed=0, shape=data.shape)
    macs = count_macs(model, torch.zeros(1, *data.shape))
    return sum(isinstance(module, COUNTED) for module in model.modules()), macs


def epochs_of(suite: Suite, images: dict[str, int]) -> float:
    """The training and the evaluations of a run, in training steps."""
    recipe = suite.training
    steps = recipe.epochs * (images["train"] // recipe.batch_size)
    # A forward pass takes about a third of a training step; evaluation runs in float32, so allow it half a step.
    evaluated = recipe.epochs * images["holdout"] + images["test"] + images["train"]
    return steps + 0.5 * evaluated / recipe.batch_size


def inference_s(suite: Suite, device: str) -> tuple[float, float]:
    """Seconds that the inference measurements of a run take at least and at most, both networks and warm-up included."""
    block_s = GPU_BLOCK_S if torch.device(device).type == "cuda" else CPU_BLOCK_S
    blocks = max(MIN_BLOCKS, round(suite.measurement.inference_seconds / block_s))
    measured = suite.measurement
    others = len(set(measured.runtimes) - {EAGER}) * (2 if measured.int8 else 1)
    each_s = (2 * blocks + WARM_UP_BLOCKS) * block_s
    shortest_s = each_s * len(measured.inference_batch_sizes) * (1 + others)
    decides = decided_in(suite)
    deciding = 0 if decides is None else 2 if measured.int8 and decides[0] != EAGER else 1
    return shortest_s, LONGER * shortest_s + (LONGEST - LONGER) * deciding * each_s


def decided_in(suite: Suite) -> tuple[str, int] | None:
    """The runtime and the batch size in which a measurement says whether a budget was kept; None: none does."""
    if suite.cost != "auto" and suite.cost not in MEASURED:
        return None
    return suite.budget_runtime, suite.budget_batch_size or max(suite.measurement.inference_batch_sizes)
