"""What led to what in a forward pass: which modules, products and parameters lie on the way to which modules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Lineage:
    """Sets as the bits of whole numbers: every module, product and parameter has one."""

    def __init__(self) -> None:
        self._bits: dict[Any, int] = {}
        self._of: Any = WeakTensorKeyDictionary()
        self._before: dict[Any, int] = {}  # what led to the uses of each
        self._inputs: dict[str, int] = {}  # what led to the inputs of each module

    def note(
        self,
        inputs: Sequence[Tensor],
        outputs: Iterable[object],
        modules: Iterable[str],
        products: Sequence[Any],
        parameters: Sequence[str],
    ) -> None:
        """An operation made (or changed) `outputs` of `inputs`, in `modules`."""
        before = 0
        for tensor in inputs:
            before |= self._of.get(tensor, 0)
        after = before
        for thing in (*products, *(("parameter", p) for p in parameters)):
            self._before[thing] = self._before.get(thing, 0) | before
            after |= self._bit(thing)
        for name in modules:
            self._inputs[name] = self._inputs.get(name, 0) | after
            after |= self._bit(name)
        for output in outputs:
            if isinstance(output, Tensor):
                self._of[output] = after

    def between(self, modules: Iterable[str], end: str) -> set[Any]:
        """Products, and ("parameter", name), that something in `modules` leads to and that lead to `end`, one of them."""
        first = 0
        for name in modules:
            first |= self._bits.get(name, 0)
        last = self._inputs.get(end, 0)
        return {x for x, before in self._before.items() if before & first and self._bits[x] & last}

    def _bit(self, thing: Any) -> int:
        if thing not in self._bits:
            self._bits[thing] = 1 << len(self._bits)
        return self._bits[thing]
