"""A budget in seconds or joules: tables of what each layer took at a grid of widths, and the cost made of them.

The tables are measured by `calibration.calibrate` on the device that the network is for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
from greenprune.methods.cost.costs import Cost, Floats, Part, ProductCost
from greenprune.methods.structure.remnant import RemnantKind, kind_of
from greenprune.methods.structure.units import ALWAYS_OPEN, ChannelGroup, Remnant, Structure
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

Leftover = Literal["own", "centre", "both", "nothing"]
"""What a closed branch leaves of a layer: some taps of a convolution, or only the operations behind the addition."""


class ShapeTable(BaseModel):
    """What one layer shape took, for one batch: s or J, `values[i][j]` at `inputs[i]` and `outputs[j]` channels."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shape: str  # in words
    inputs: tuple[int, ...] = Field(min_length=1)  # widths, ascending
    outputs: tuple[int, ...] = Field(min_length=1)
    values: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _is_a_grid(self) -> Self:
        if len(self.values) != len(self.inputs) or any(len(row) != len(self.outputs) for row in self.values):
            raise ValueError("values: needs a row for each input width with a number for each output width")
        for widths in (self.inputs, self.outputs):
            if list(widths) != sorted(set(widths)) or widths[0] < 1:
                raise ValueError("inputs, outputs: must ascend from at least 1")
        return self


class Sample(BaseModel):
    """A whole network that corrects a table: its cost as a fraction of dense, as its layers say and as it was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    layers: float
    measured: float = Field(gt=0)
    closed: bool = False  # whether layers are closed in it; else all have fewer channels
    left: RemnantKind | None = None  # what they leave; None: nothing
    spread: float = Field(0.0, ge=0)  # of what was measured: half of the distance between its quartiles


class CostTable(BaseModel):
    """Measured cost of every layer of one network on one device. See `calibration.calibrate`, which makes it.

    Plain data: `save` and `load` store it as JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["latency", "energy"]
    runtime: str = "eager"  # that ran the network
    unit: Literal["s", "J"]
    device: str  # e.g. "cpu" or "cuda: NVIDIA H100"
    threads: int  # of torch
    dtype: str  # "float32", "bfloat16" (autocast)
    memory_format: str  # "channels_last", "contiguous"
    batch_size: int = Field(ge=1)
    torch_version: str
    seed: int  # of the order of measurement
    rounds: int  # of which the medians are taken
    duration_s: float  # of the calibration
    whole: float = Field(gt=0)  # the dense network, one batch
    layers_sum: float = Field(gt=0)  # all its layers, measured one by one
    shapes: tuple[ShapeTable, ...]
    layers: dict[str, tuple[int, ...]]  # for each layer, its shape at each call
    leaves: dict[str, dict[Leftover, int]] = {}  # for layers of branches that can close, the shape of what may be left
    slope: float = Field(1.0, gt=0)  # what a network saves for each second or joule that its narrower layers save
    closing_slope: float = Field(1.0, gt=0)  # and for each that its closed layers save
    left_scales: dict[
        RemnantKind, Annotated[float, Field(ge=0)]
    ] = {}  # what remnants take in a network, x alone; default 1
    samples: tuple[Sample, ...] = ()  # that the slopes and scales were fitted to, see `budget.correction`

    @property
    def scale(self) -> float:
        """What layers measured alone are multiplied by, so that together they take what the whole network takes."""
        return self.whole / self.layers_sum

    @property
    def unexplained(self) -> float:
        """The part of `whole` that no layer explains, in s or J; below 0 where layers alone took longer."""
        return self.whole - self.layers_sum

    def save(self, path: Path | str) -> None:
        """Write it as JSON."""
        Path(path).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> CostTable:
        """Read what `save` wrote.

        Raises:
            OSError: unreadable.
            pydantic.ValidationError: no such table.
        """
        return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))


_AGAIN = "{name} is what a closed branch left, and the table is of the network before: calibrate the network as it is"


class TableCost(Cost):
    """Seconds or joules of one batch, interpolated bilinearly in a `CostTable`, as a fraction of the dense network's.

    Widths are absolute and layers go by their names, so the table of a dense network serves for what is cut out of it. What
    closed branches leave is priced by what it took.

    What is saved is a multiple of what layers save, so a layer alone may save more than it takes; the whole costs at least 0.

    Args:
        structure: of the network that was calibrated, or of a partly cut one.
        table: of the original network.
        reference: in s or J; default that of the dense network.

    Raises:
        ValueError: a layer of `structure` is wider than in the table, or is what a closed branch left; or the table knows
            none of its layers.
    """

    staircase = True

    def __init__(
        self,
        structure: Structure,
        table: CostTable,
        device: torch.device | str = "cpu",
        reference: float | None = None,
    ) -> None:
        parts, shapes = [], []
        left, closing = _left_of_layers(structure, table), table.closing_slope
        gone = 0.0  # what layers take that are not there any more
        for name, calls in table.layers.items():
            dense = sum(table.shapes[i].values[-1][-1] for i in calls)
            layer = structure.layers.get(name)
            if layer is None:  # it was removed
                if f"{name}.centre" in structure.layers:
                    raise ValueError(_AGAIN.format(name=name))
                behind = table.leaves.get(name, {}).get("nothing")
                stays = 0.0 if behind is None else table.shapes[behind].values[-1][-1]
                gone += (closing * stays + (1.0 - closing) * dense) * table.scale
                continue
            if layer.depthwise and "own" in table.leaves.get(name, {}):
                raise ValueError(_AGAIN.format(name=name))
            for k, shape in enumerate(table.shapes[i] for i in calls):
                # One width: it never changes, or this side does not matter (a depthwise convolution, a norm).
                into = layer.in_units if len(shape.inputs) > 1 else ALWAYS_OPEN
                out = layer.out_units if len(shape.outputs) > 1 else ALWAYS_OPEN
                if len(into) > shape.inputs[-1] or len(out) > shape.outputs[-1]:
                    raise ValueError(f"{name} is wider than in the table: the table belongs to another network")
                closed = closing * left.get(name, 0.0) * (k == 0) + (1.0 - closing) * shape.values[-1][-1]
                parts.append(Part(name, into, out, layer.branches, closed * table.scale if layer.branches else 0.0))
                shapes.append(shape)
        if not parts:
            raise ValueError("the table knows no layer of this network: it belongs to another one")
        super().__init__(structure, parts, table.whole if reference is None else reference, device)
        self.kind = table.kind
        self.where = f"in {table.runtime}, batches of {table.batch_size}"
        factor = table.scale / self.reference
        self._gone = gone / self.reference
        self._exact = _Tables(shapes, factor, table.slope, torch.float64, torch.device("cpu"))
        self._soft = _Tables(shapes, factor, table.slope, torch.float32, torch.device(device))
        self._widths_now = torch.tensor(self.widths, dtype=torch.float32, device=device)
        self._steps = _steps_of_groups(structure, parts, shapes)

    def __call__(self, openness: Tensor) -> Tensor:
        return (super().__call__(openness) + self._gone).clamp_min(0.0)

    def _fractions(self, inputs: Tensor, outputs: Tensor, rows: Tensor) -> Tensor:
        return self._soft(inputs * self._widths_now[:, 0], outputs * self._widths_now[:, 1])

    def count(self, channels: Floats, alive: Floats) -> Floats:
        n = torch.from_numpy(np.ascontiguousarray(channels))
        parts = self._exact(n[..., 0], n[..., 1]).numpy() * alive + self._left * (1.0 - alive)
        return np.maximum(parts.sum(-1) + self._gone, 0.0)

    def prices(self) -> Tensor:
        """(U,) what a channel or branch costs on average: the slope of a staircase says nothing of its height."""
        full = torch.tensor(self.widths)
        dense = self._exact(full[:, 0], full[:, 1]).tolist()
        parts = [replace(part, left=part.left / self.reference) for part in self.parts]
        return ProductCost("macs", self.structure, parts, dense, self.device, reference=1.0).prices()

    def steps(self, group: ChannelGroup) -> tuple[int, ...]:
        return self._steps[group.name]


def _left_of_layers(structure: Structure, table: CostTable) -> dict[str, float]:
    """By layer, what is left of it when the branch that it lies in closes, in s or J before any scaling."""

    def took(shape: int) -> float:
        return table.shapes[shape].values[-1][-1]

    found: dict[str, float] = {}
    for branch in structure.branches:
        own = [n for n in branch.modules if n in structure.layers and structure.layers[n].branches == (branch.unit,)]
        if branch.remnant is None:
            found |= {n: took(table.leaves[n]["nothing"]) for n in own if "nothing" in table.leaves.get(n, {})}
            continue
        taps = dict(zip(branch.remnant.convolutions, branch.remnant.taps, strict=True))
        scale = table.left_scales.get(kind_of(branch.remnant), 1.0)
        for name in own:
            shapes = [table.leaves[name][taps[name]]] if name in taps else table.layers.get(name, ())
            found[name] = scale * sum(took(shape) for shape in shapes)
    return found


def is_priced(remnant: Remnant, table: CostTable) -> bool:
    """Whether what it is made of was measured."""
    return all(t in table.leaves.get(name, {}) for name, t in zip(remnant.convolutions, remnant.taps, strict=True))


class _Tables:
    """Bilinear interpolation in one table for each part, all at once.

    Args:
        factor: all values are multiplied by it.
        slope: and their distances to the value at full width by this.
    """

    def __init__(
        self, shapes: list[ShapeTable], factor: float, slope: float, dtype: torch.dtype, device: torch.device
    ) -> None:
        into = [_with_zero(shape.inputs) for shape in shapes]
        out = [_with_zero(shape.outputs) for shape in shapes]
        rows, columns = max(map(len, into)), max(map(len, out))
        values = torch.zeros(len(shapes), rows, columns, dtype=dtype)
        for table, shape, i, o in zip(values, shapes, into, out, strict=True):
            measured = torch.tensor(shape.values, dtype=torch.float64)
            measured = (torch.lerp(measured[-1, -1], measured, slope) * factor).to(dtype)
            if len(shape.inputs) == 1:  # constant in a width that never changes
                measured = measured.expand(2, -1)
            if len(shape.outputs) == 1:
                measured = measured.expand(-1, 2)
            # With no channel at all a layer takes nothing; the row and column for that are left at 0.
            table[len(i) - len(measured) : len(i), len(o) - measured.shape[1] : len(o)] = measured
        self._values = values.to(device)
        self._into = torch.tensor([_padded(w, rows) for w in into], dtype=dtype, device=device)
        self._out = torch.tensor([_padded(w, columns) for w in out], dtype=dtype, device=device)
        self._last_in = torch.tensor([len(w) - 2 for w in into], device=device)
        self._last_out = torch.tensor([len(w) - 2 for w in out], device=device)

    def __call__(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """(..., parts) values at so many (..., parts) input and output channels. Differentiable."""
        parts = torch.arange(len(self._values), device=inputs.device)
        i, s = _locate(inputs, self._into, self._last_in)
        j, t = _locate(outputs, self._out, self._last_out)
        low = torch.lerp(self._values[parts, i, j], self._values[parts, i, j + 1], t)
        high = torch.lerp(self._values[parts, i + 1, j], self._values[parts, i + 1, j + 1], t)
        return torch.lerp(low, high, s)


def _with_zero(widths: tuple[int, ...]) -> list[int]:
    return [0, *widths] if len(widths) > 1 else [0, widths[0]]


def _padded(widths: list[int], length: int) -> list[int]:
    return [*widths, *(widths[-1] + 1 + k for k in range(length - len(widths)))]


def _locate(widths: Tensor, grids: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """The interval of its part's grid that each width lies in, and where in it (0 to 1)."""
    index = (widths.detach().unsqueeze(-1) >= grids).sum(-1) - 1
    index = torch.minimum(index.clamp_min(0), last)
    parts = torch.arange(len(grids), device=grids.device)
    low, high = grids[parts, index], grids[parts, index + 1]
    return index, (widths - low) / (high - low)


def _steps_of_groups(structure: Structure, parts: list[Part], shapes: list[ShapeTable]) -> dict[str, tuple[int, ...]]:
    """By group: the widths at which one of its layers was measured. A group no layer knows can have any width."""
    result = {}
    for group in structure.groups:
        widths = set()
        for part, shape in zip(parts, shapes, strict=True):
            for units, grid in ((part.in_units, shape.inputs), (part.out_units, shape.outputs)):
                inside = (units >= group.start) & (units < group.start + group.width)
                if len(units) == group.width and bool(inside.all()):
                    widths |= {w for w in grid if w <= group.width}
        result[group.name] = tuple(sorted(widths)) or tuple(range(1, group.width + 1))
    return result
