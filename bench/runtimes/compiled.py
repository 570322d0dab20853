"""PyTorch's own compiler, `torch.compile` with its default backend."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from typing import ClassVar

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.export.program import quiet
from greenprune.bench.foreign import shortened
from greenprune.bench.runtimes.eager import ModuleSession
from greenprune.bench.runtimes.runtime import Runtime, Session
from torch import Tensor, nn

VERSIONS = 1024
"""Of one function that are compiled before PyTorch runs it uncompiled; its default is 8."""


class Compiled(Runtime):
    """Code that TorchInductor makes for each shape of the batch; `threads` are those of the process.

    Class attributes:
        backend: of `torch.compile`.
    """

    name = "compile"
    backend: ClassVar = "inductor"
    devices: ClassVar = ("cpu", "cuda")

    def lacks(self) -> str | None:
        if any(shutil.which(name) for name in ("c++", "g++", "clang++")):
            return None
        return "there is no C++ compiler; install g++"

    def describe(self) -> dict[str, str]:
        return {"torch": str(torch.__version__)}

    def prepare(
        self, network: nn.Module, example: Tensor, *, threads: int, calibration: Sequence[Tensor] = ()
    ) -> Session:
        # Networks of one class share their code, and each of them at each shape is one more version of it.
        torch._dynamo.config.recompile_limit = VERSIONS
        torch._dynamo.config.accumulated_recompile_limit = 8 * VERSIONS
        module = torch.compile(copy.deepcopy(network).eval(), dynamic=False, backend=self.backend)
        session = ModuleSession(module)  # type: ignore[arg-type]
        with quiet():
            try:
                session.run(example)
            except Exception as e:  # of the compiler, or of the C++ compiler that it calls
                raise UserError(f"torch.compile cannot compile this network ({shortened(str(e))})") from None
        return session
