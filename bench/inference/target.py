"""A runtime as `methods.cost.calibration` sees it: what layers and whole networks are measured in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from greenprune.bench.export.program import quiet
from greenprune.bench.machine.precision import autocast_for
from greenprune.bench.runtimes.catalogue import find
from greenprune.bench.runtimes.names import EAGER
from greenprune.methods.cost.segments import Segment
from torch import Tensor, nn

Run = Callable[[], object]


class EagerTarget:
    """Eager PyTorch in the precision of the training, as a run measures it at its end."""

    name = EAGER

    def __init__(self, precision: str) -> None:
        self._precision = precision

    def network(self, model: nn.Module, images: Tensor) -> Run:
        if any(p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous()
               for p in model.parameters() if p.ndim == 4):  # fmt: skip
            images = images.contiguous(memory_format=torch.channels_last)
        autocast = autocast_for(images.device, self._precision)

        def run() -> object:
            with autocast():
                return model(images)

        return run

    def layer(self, segment: Segment, inputs: int, outputs: int) -> Run | None:
        return None


class RuntimeTarget:
    """One of the other runtimes, in float32.

    Args:
        name: as of `runtimes.catalogue.find`; raises what that raises.
    """

    def __init__(self, name: str) -> None:
        self.name, self._runtime, self._threads = name, find(name), torch.get_num_threads()

    def network(self, model: nn.Module, images: Tensor) -> Run:
        images = images.float().contiguous()
        with quiet():
            session = self._runtime.prepare(model, images, threads=self._threads)
            session.run(images)  # it may compile
        return partial(session.run, images)

    def layer(self, segment: Segment, inputs: int, outputs: int) -> Run | None:
        return self._runtime.layer(segment, inputs, outputs, threads=self._threads)
