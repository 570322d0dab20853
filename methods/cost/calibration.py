"""Measures what each layer of a network takes on this device at a grid of widths, in seconds or joules.

    table = calibrate(model, example_inputs, batch_size=64)
    gating = ConsensusGating(model, example_inputs, keep=0.5, steps=steps, cost="latency", table=table)

MACs are not time: between two multiples of a vector's width a narrower layer often saves nothing (method.md, section 5).
So every distinct layer shape is run at multiples of 4, 8 or more channels and at some odd widths, and so is what closed
residual branches can leave of their layers, all in one shuffled order, several times over; the median counts. The whole dense
network is measured in between, and all layers are scaled so that together they take what it takes.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any, Literal, Protocol

import torch
from greenprune.methods.cost.measured_cost import CostTable
from greenprune.methods.cost.points import Point, planned
from greenprune.methods.cost.segments import Segment, find_segments
from greenprune.methods.structure.modes import evaluating
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn

Run = Callable[[], Any]
Measure = Callable[[Run], float]

CALLS = 3
"""Of a layer at each visit at least, after one to warm up; the median counts."""

FILLED_S = 2e-3
MOST_CALLS = 20
"""Of something short: until it has taken so long, but no more than so often."""

WHOLE_EVERY = 100
"""The whole network is measured once in so many layers."""


class Target(Protocol):
    """What runs networks: eager PyTorch, unless another one is given."""

    name: str

    def network(self, model: nn.Module, images: Tensor) -> Run:
        """What runs `model` once on `images`, in eval mode; later changes of `model` do not change it."""

    def layer(self, segment: Segment, inputs: int, outputs: int) -> Run | None:
        """What runs the segment once at these widths; None where the target runs whole networks alone: then eager
        PyTorch says how its layers compare."""


def calibrate(
    model: nn.Module,
    example_inputs: Tensor,
    *,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
    measure: Measure | None = None,
    kind: Literal["latency", "energy"] = "latency",
    rounds: int = 3,
    steps: int = 8,
    seed: int = 0,
    structure: Structure | None = None,
    target: Target | None = None,
) -> CostTable:
    """Measure `model` layer by layer. ResNet-20 takes 30 to 60 s on one core, at a batch size of 64.

    Args:
        model: the dense network, on its device and in its memory format; left as it was.
        example_inputs: (B, ...) float; the first image is repeated.
        batch_size: images per forward pass.
        dtype: torch.float32, or torch.bfloat16 for autocast.
        measure: takes a function of no arguments that runs something once, returns what one run costs; default the
            time in s, see `stopwatch`. For `kind` "energy" it must return J.
        kind: of the result.
        rounds: visits to each point; the median counts.
        steps: how many steps the widths of a wide layer are divided into, at most; see `points.grid`.
        seed: of the order.
        structure: of `model`, if it was traced before; widths that cannot change are measured once.
        target: what runs the network in the end; default eager PyTorch.

    Raises:
        ValueError: `measure` is missing for energy, or gave nothing above 0; or the network has no layers.
    """
    if kind == "energy" and measure is None:
        raise ValueError('kind = "energy" needs a `measure` that returns joules')
    started_s = time.perf_counter()
    device = example_inputs.device
    measure = measure or stopwatch(device)
    structure = structure or trace(model, example_inputs)
    last = _is_channels_last(model, example_inputs)
    images = example_inputs[:1].expand(batch_size, *example_inputs.shape[1:])
    images = images.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    whole_network = (lambda: model(images)) if target is None else target.network(model, images)
    with evaluating(model), torch.inference_mode(), _autocast(device, dtype):
        take = _Buffer(device, last)
        segments = [_runnable(s, take) for s in find_segments(model, images)]
        plan = planned(segments, structure, model, steps)
        if not plan.points:
            raise ValueError("this network has no convolution, linear layer or batch norm to measure")
        whole = _measure_all([*plan.points, plan.empty], whole_network, measure, take, rounds, seed, target)
    tables = plan.tables()
    return CostTable(
        kind=kind,
        runtime="eager" if target is None else target.name,
        unit="s" if kind == "latency" else "J",
        device=_device_name(device),
        threads=torch.get_num_threads(),
        dtype=str(dtype).removeprefix("torch."),
        memory_format="channels_last" if last else "contiguous",
        batch_size=batch_size,
        torch_version=torch.__version__,
        seed=seed,
        rounds=rounds,
        duration_s=round(time.perf_counter() - started_s, 2),
        whole=whole,
        layers_sum=sum(tables[i].values[-1][-1] for calls in plan.layers.values() for i in calls),
        shapes=tables,
        layers={name: tuple(calls) for name, calls in plan.layers.items()},
        leaves=plan.leaves,
    )


def stopwatch(
    device: torch.device | str, calls: int = CALLS, *, apart: bool = False, filled_s: float | None = None
) -> Measure:
    """The default `measure`: seconds of one run, the median of `calls` or of as many as fill `FILLED_S`, after one that
    warms up.

    With one thread on a CPU the thread's own time is taken: it is that of the clock on the wall, less what other
    processes on the same core took.

    Args:
        apart: for runtimes that compute in threads of their own: then it is the time of the process.
        filled_s: of as many as fill this instead, however many.
    """
    most = MOST_CALLS if filled_s is None else sys.maxsize
    filled_s = FILLED_S if filled_s is None else filled_s
    device = torch.device(device)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = (time.process_time if apart else time.thread_time) if alone else time.perf_counter

    def measure(run: Run) -> float:
        _finish(device, run)
        durations_s: list[float] = []
        while len(durations_s) < calls or (sum(durations_s) < filled_s and len(durations_s) < most):
            started_s = clock()
            _finish(device, run)
            durations_s.append(clock() - started_s)
        # The clock of a thread sometimes stands still on virtual machines.
        return median([d for d in durations_s if d > 0] or [0.0])

    return measure


def _finish(device: torch.device, run: Run) -> None:
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _measure_all(
    points: list[Point],
    whole: Callable[[], Any],
    measure: Measure,
    take: _Buffer,
    rounds: int,
    seed: int,
    target: Target | None,
) -> float:
    """Fill in the values of all points, in shuffled order; returns the median of the whole network, measured in between."""
    order = random.Random(seed)
    wholes = []
    for _ in range(rounds):
        for visit, point in enumerate(order.sample(points, len(points))):
            if visit % WHOLE_EVERY == 0:
                wholes.append(_positive(measure(whole), "the whole network"))
            run = None if target is None else target.layer(point.segment, point.inputs, point.outputs)
            run = run or point.segment.workload(point.inputs, point.outputs, take)
            point.values.append(_positive(measure(run), point.segment.name))
    return median(wholes)


def _positive(value: float, name: str) -> float:
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: measured {value:g}; a cost is a number above 0")
    return value


def _runnable(segment: Segment, take: _Buffer) -> Segment:
    """`segment`, with as many of the operations after the layer as also run when it is narrower."""
    outputs = segment.widths[1]
    for count in range(len(segment.nodes), 0, -1):
        shorter = Segment(
            segment.name, segment.layer, segment.inputs, segment.nodes[:count], segment.shapes, segment.modules
        )
        try:
            for width in {outputs, max(1, outputs - 1)}:
                shorter.workload(segment.widths[0], width, take)()
        except Exception:  # sizes that the user's own forward fixes, for example
            continue
        return shorter
    return Segment(segment.name, segment.layer, segment.inputs)


class _Buffer:
    """Makes tensors of any shape out of one piece of memory: filled with small numbers, and made in no time."""

    def __init__(self, device: torch.device, channels_last: bool) -> None:
        self._device, self._last = device, channels_last
        self._memory = torch.empty(0, device=device)

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        count = 1
        for n in shape:
            count *= n
        if count > len(self._memory):
            self._memory = torch.linspace(0.01, 0.1, count, device=self._device)  # no draw from a generator
        flat = self._memory[:count]
        if self._last and len(shape) == 4:
            return flat.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
        return flat.view(shape)


def _is_channels_last(model: nn.Module, example_inputs: Tensor) -> bool:
    """Whether the network's convolutions are kept in this format (or, where their shapes leave that open, its inputs)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.shape[1] > 1 and module.kernel_size != (1, 1):
            return not module.weight.is_contiguous() and module.weight.is_contiguous(memory_format=torch.channels_last)
    return not example_inputs.is_contiguous()


def _autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def _device_name(device: torch.device) -> str:
    return f"cuda: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
