"""The interface of a runtime.

    runtime = find("onnxruntime")
    session = runtime.prepare(network, example, threads=2)
    logits = session.run(batch)

A suite takes any class with this interface as `module:Class`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from greenprune.methods.cost.segments import Segment
from torch import Tensor, nn


class Session(ABC):
    """A network that a runtime has taken over."""

    @abstractmethod
    def run(self, batch: Tensor) -> Tensor:
        """What the network makes of `batch`, (B, ...) contiguous, float32; returns when the result is there.

        The first call with another shape may take long: runtimes compile.
        """


class Runtime(ABC):
    """Something that runs networks.

    Class attributes:
        name: how suites call it.
        devices: where it runs: "cpu", "cuda".
        quantises: whether `prepare` takes `calibration`.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    quantises: ClassVar[bool] = False

    def lacks(self) -> str | None:
        """What it needs and does not find on this machine, as a sentence without its full stop; None where it can run."""
        return None

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Versions and settings that its figures depend on."""

    @abstractmethod
    def prepare(
        self, network: nn.Module, example: Tensor, *, threads: int, calibration: Sequence[Tensor] = ()
    ) -> Session:
        """Take `network` over, in eval mode and float32. It is left as it was.

        Args:
            example: (B, ...) float32, on the device of the network.
            threads: that one call may use.
            calibration: batches of images; where they are given, and `quantises`, the session computes with 8-bit
                integers whose ranges come from them.

        Raises:
            UserError: it cannot; one sentence.
        """

    def layer(self, segment: Segment, inputs: int, outputs: int, *, threads: int) -> Callable[[], object] | None:
        """What runs one layer, and what follows it, once at these widths; for budgets in this runtime.

        None where it runs whole networks alone: then eager PyTorch says how the layers compare, and whole networks what
        they take in this runtime.
        """
        return None
