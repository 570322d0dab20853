"""What a calibration measures: every distinct layer shape at a grid of widths, and what closed branches can leave of layers."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import torch
import torch.fx
from greenprune.methods.cost.measured_cost import Leftover, ShapeTable
from greenprune.methods.cost.segments import ADDITIONS, Nothing, Segment
from greenprune.methods.structure.remnant import TAPS, left_of, with_remnants
from greenprune.methods.structure.units import FIXED, Structure, is_depthwise
from torch import nn

LEAST = 0.05
"""Of what a layer takes in a call of its own, that is its own at least."""


@dataclass
class Point:
    """One shape at one pair of widths."""

    segment: Segment
    shape: int
    inputs: int
    outputs: int
    values: list[float] = field(default_factory=list)


@dataclass
class Plan:
    """What is to be measured, and what of it belongs to which layer.

    Attributes:
        points: all of them.
        shapes: of each distinct shape its description and its grids of input and output widths.
        layers: for each layer, its shape at each call.
        leaves: for each layer of a branch that can close, by what is left of it the shape of that.
        empty: nothing at all; what the call of a runtime takes, which a network pays once and its layers do not.
    """

    points: list[Point] = field(default_factory=list)
    shapes: list[tuple[str, list[int], list[int]]] = field(default_factory=list)
    layers: dict[str, list[int]] = field(default_factory=dict)
    leaves: dict[str, dict[Leftover, int]] = field(default_factory=dict)
    empty: Point = field(default_factory=lambda: Point(Segment("nothing", Nothing(1), (1, 1)), -1, 1, 1))

    def add(self, segment: Segment, into: list[int], out: list[int]) -> int:
        """Have `segment` measured at these widths; the number of its shape."""
        number = len(self.shapes)
        self.shapes.append((segment.key, into, out))
        self.points += [Point(segment, number, i, o) for i in into for o in out]
        return number

    def tables(self) -> tuple[ShapeTable, ...]:
        """The medians of what was measured, less what a call takes."""
        return tuple(
            ShapeTable(shape=key, inputs=tuple(into), outputs=tuple(out), values=self._rows(number, into, out))
            for number, (key, into, out) in enumerate(self.shapes)
        )

    def _rows(self, shape: int, into: Sequence[int], out: Sequence[int]) -> tuple[tuple[float, ...], ...]:
        call = median(self.empty.values)
        medians = {(p.inputs, p.outputs): median(p.values) for p in self.points if p.shape == shape}
        found = {widths: max(value - call, LEAST * value) for widths, value in medians.items()}
        return tuple(tuple(found[i, o] for o in out) for i in into)


def grid(width: int, steps: int = 8) -> list[int]:
    """Widths worth measuring up to `width`, ascending: 1, multiples of a step, one more than every second of them, `width`.

    The step is 4 up to a width of 16; above, a multiple of 8 that divides `width` into at most `steps`.
    """
    step = 4 if width <= 16 else -(-width // (8 * steps)) * 8
    multiples = range(step, width, step)
    return sorted({1, width, *multiples, *(m + 1 for m in multiples if m % (2 * step) == 0)})


def planned(segments: Sequence[Segment], structure: Structure, model: nn.Module, steps: int) -> Plan:
    """What to measure of a network.

    Args:
        segments: of `model`, as far as they run at other widths.
        steps: see `grid`.
    """
    plan = Plan()
    known: dict[tuple[str, bool, bool], int] = {}
    for segment in segments:
        layer = structure.layers.get(segment.name)
        if layer is None:
            continue
        inputs, outputs = segment.widths
        one_sided = is_depthwise(segment.layer) or len(layer.in_units) == 0 or layer.macs == 0  # or a norm
        vary_in = not one_sided and bool((layer.in_units != FIXED).any())
        vary_out = bool((layer.out_units != FIXED).any())
        key = (segment.key, vary_in, vary_out)
        if key not in known:
            into = grid(inputs, steps) if vary_in else [inputs]
            out = grid(outputs, steps) if vary_out else [outputs]
            known[key] = plan.add(segment, into, out)
        plan.layers.setdefault(segment.name, []).append(known[key])
    alike: dict[str, int] = {}
    for what, segment in _leftovers(segments, structure, model):
        if segment.key not in alike:
            inputs, outputs = segment.widths
            alike[segment.key] = plan.add(segment, [inputs], [outputs])
        plan.leaves.setdefault(segment.name, {})[what] = alike[segment.key]
    return plan


def _leftovers(
    segments: Sequence[Segment], structure: Structure, model: nn.Module
) -> Iterator[tuple[Leftover, Segment]]:
    """What closed branches leave, under the names of their layers."""
    by_name = {segment.name: segment for segment in segments}
    for branch in structure.branches:
        inside = [by_name[name] for name in branch.modules if name in by_name]
        kept = _behind_addition(inside[-1]) if inside else None
        if kept is not None:
            yield "nothing", kept
    for kind in TAPS:
        for branch in with_remnants(structure, model, kind).branches:
            if branch.remnant is None:
                continue
            for name, taps in zip(branch.remnant.convolutions, branch.remnant.taps, strict=True):
                segment = by_name.get(name)
                if segment is not None and isinstance(segment.layer, nn.Conv2d):
                    yield taps, replace(segment, layer=left_of(segment.layer, taps))


def _behind_addition(segment: Segment) -> Segment | None:
    """The operations behind the addition that ends a residual branch: they stay when the branch goes."""
    width = segment.widths[1]
    for i, node in enumerate(segment.nodes[:-1]):
        name = getattr(node.target, "__name__", str(node.target)).lower()
        if name in ADDITIONS and len(node.all_input_nodes) > 1:
            shape = (segment.shapes or {}).get(node)
            after = segment.nodes[i + 1 :]
            if not isinstance(shape, torch.Size) or after[-1].target is operator.getitem:
                return None
            return replace(segment, layer=Nothing(width), inputs=tuple(shape), nodes=after)
    return None
