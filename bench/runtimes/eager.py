"""PyTorch as it is, operation by operation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar

import torch
from greenprune.bench.runtimes.runtime import Runtime, Session
from greenprune.methods import logits_of
from torch import Tensor, nn


class Eager(Runtime):
    """PyTorch, operation by operation; `threads` are those of the process."""

    name = "eager"
    devices: ClassVar = ("cpu", "cuda")

    def describe(self) -> dict[str, str]:
        return {"torch": str(torch.__version__)}

    def prepare(
        self, network: nn.Module, example: Tensor, *, threads: int, calibration: Sequence[Tensor] = ()
    ) -> Session:
        return ModuleSession(copy.deepcopy(network).eval())


class ModuleSession(Session):
    """Calls a module."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @torch.inference_mode()
    def run(self, batch: Tensor) -> Tensor:
        result = logits_of(self._module(batch))
        if batch.device.type == "cuda":
            torch.cuda.synchronize()
        return result
