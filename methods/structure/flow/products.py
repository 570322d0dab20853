"""What a forward pass multiplies, and which channels each product is made of.

A product runs over all combinations of positions of a few dimensions: a linear layer's over rows, inputs and outputs,
attention's over heads, queries, keys and the width of a head. Where nothing can be removed along a dimension it is a
constant factor; the labels of the others say which of the combinations are left when something is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from greenprune.methods.structure.flow.elements import Ids
from greenprune.methods.structure.flow.labels import Block, Labeller, Labels
from greenprune.methods.structure.operations import CONVOLVING, arguments, macs_of, operation
from torch import Tensor

SIDES = 3
"""Sets of dimensions along which something can be removed that a product may have; further ones count as constants."""


@dataclass(eq=False)
class Multiplication:
    """One product of a forward pass.

    Attributes:
        module: name of the module at work.
        layer: the convolution or linear layer whose weight was used, or None.
        operation: its name.
        macs: multiply-accumulates, whole batch.
        sides: elements of the combinations of each set of dimensions along which something can be removed; each as often
            as its share says.
        rows: of a layer's product, the one of these that is neither its inputs nor its outputs, if there is one.
    """

    module: str
    layer: str | None
    operation: str
    macs: int
    sides: list[Ids] = field(default_factory=list)
    rows: Ids | None = None
    _blocks: list[Block] = field(default_factory=list)
    _of_weight: frozenset[int] = frozenset()

    def settle(self, labeller: Labeller) -> None:
        """Fill `sides` and `rows`, once all that is known of the elements is known."""
        found: list[Block] = []
        for block in sorted(labeller.tidy(self._blocks), key=lambda b: (-len(b.dims), b.dims)):
            if not any(set(block.dims) & set(other.dims) for other in found):  # coupled with it by the product itself
                found.append(block)
        largest = sorted(found, key=lambda b: -b.ids.size)[:SIDES]
        self.sides = [_shares(b.ids) for b in sorted(largest, key=lambda b: b.dims)]
        if self._of_weight:
            rows = [b for b in largest if not set(b.dims) & self._of_weight]
            self.rows = _shares(rows[0].ids) if rows else None
        self._blocks = []


Operand = tuple[Tensor, Sequence[int]]
"""A tensor, and which dimension of the product each of its dimensions is."""


class Multiplications:
    """Finds the products that operations make.

    Args:
        of: the labels of a tensor.
        layer_of: the layer whose weight is among some tensors.
    """

    def __init__(self, of: Callable[[Tensor], Labels], layer_of: Callable[[Any], str | None]) -> None:
        self._of, self._layer_of = of, layer_of

    def __call__(
        self, module: str, is_layer: bool, func: Any, args: Any, kwargs: dict[str, Any], out: Any, *, labelled: bool
    ) -> list[Multiplication]:
        """What one operation multiplied; `labelled`: whether labels mean something where it happened."""
        macs = macs_of(func, args, kwargs, out)
        if macs is None:
            return []
        name, a = operation(func), arguments(func, args, kwargs)
        if not labelled:
            return [Multiplication(module, None, name, macs)]
        if "query" in a:
            return self._attention(module, name, a, out, macs)
        layer = self._layer_of((args, kwargs)) or (module if is_layer else None)
        return [self._made(module, layer, name, macs, _operands(name, a))]

    def _made(
        self, module: str, layer: str | None, name: str, macs: int, operands: Iterable[Operand]
    ) -> Multiplication:
        blocks: list[Block] = []
        of_weight: set[int] = set()
        for tensor, dims in operands:
            labels = self._of(tensor)
            if name in CONVOLVING:  # its positions can't go, and a group's inputs go with its outputs
                labels = tuple(b for b in labels if set(b.dims) <= set(dims))
            blocks += [_placed(b, dims) for b in labels]
            if layer is not None and self._layer_of(tensor) == layer:
                of_weight |= set(dims)
        return Multiplication(module, layer, name, macs, _blocks=blocks, _of_weight=frozenset(of_weight))

    def _attention(self, module: str, name: str, a: dict[str, Any], out: Any, macs: int) -> list[Multiplication]:
        """Queries by keys, over (batch, head, query, key, width), and scores by values, over the same with its own width."""
        query, value = a["query"], a["value"]
        first = out[0] if isinstance(out, (tuple, list)) else out
        widths = query.shape[-1] + value.shape[-1]
        dims = (*range(query.ndim - 1), query.ndim)
        parts = ((query, query.shape[-1]), (first, value.shape[-1]))  # of grouped queries each head counts
        return [self._made(module, None, name, macs * width // widths, [(t, dims)]) for t, width in parts]


def _placed(block: Block, dims: Sequence[int]) -> Block:
    places = [dims[d] for d in block.dims]
    order = np.argsort(places)
    return Block(tuple(places[i] for i in order), block.ids.transpose(order))


def _shares(ids: Ids) -> Ids:
    """The same elements in the same proportions, as few as will do."""
    elements, counts = np.unique(ids, return_counts=True)
    return np.repeat(elements, counts // np.gcd.reduce(counts))


def _operands(name: str, a: dict[str, Any]) -> list[Operand]:
    if "mat1" in a and "mat2" in a:
        return [(a["mat1"], (0, 1)), (a["mat2"], (1, 2))]
    if "batch1" in a:
        return [(a["batch1"], (0, 1, 2)), (a["batch2"], (0, 2, 3))]
    if name in ("mm", "_int_mm", "_scaled_mm"):
        return [(a["self"], (0, 1)), (a["mat2"], (1, 2))]
    if name == "bmm":
        return [(a["self"], (0, 1, 2)), (a["mat2"], (0, 2, 3))]
    if name in ("mv", "addmv"):
        return [(a.get("mat", a["self"]), (0, 1)), (a["vec"], (1,))]
    if name in ("linear", "mkldnn_linear", "_mkl_linear"):
        x: Tensor = a["input"] if "input" in a else a["self"]
        return [(x, range(x.ndim)), (a["weight"], (x.ndim, x.ndim - 1))]
    if name in CONVOLVING:
        return [(a["weight"], (0,) if a["groups"] > 1 else (0, 1))]
    return []
