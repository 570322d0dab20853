"""Meeting a budget in steps: bundles of channels, where single channels save nothing or the hardware wants multiples.

A processor computes in vectors: 17 channels often take as long as 24 or 32. So of a measured cost only some widths are
worth having (`costs.Cost.steps`), and the bundle that hurts least goes first: per channel, or for what it saves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from greenprune.methods.budget.choice import Choice
from greenprune.methods.cost.costs import SIDES, Cost, Floats
from greenprune.methods.structure.units import ChannelGroup, Structure
from torch import Tensor

Per = Literal["channel", "saved"]
"""What the scores of a bundle are divided by."""


def select_steps(
    structure: Structure,
    scores: Tensor,
    keep: float,
    near: float,
    least: float,
    removable: Tensor | None,
    cost: Cost,
    round_to: int,
    per: Per = "channel",
) -> tuple[Tensor, float]:
    """Close bundles of the lowest channels of a group, and branches, until the cost is at most `keep`.

    The next to go is the bundle with the smallest loss: its scores added up, per channel, or per saved cost where the cost
    is a staircase and `per` says so. Of a staircase a bundle that saves nothing is passed over. A branch's score counts for
    each channel that is inside it alone. Bundles that would undershoot `near` are passed over as long as there are others;
    after that the one that ends highest at or below `keep` is closed, if that is not below `least`.

    Where losses are weighed against what is saved, they add up: of all ways that end between `least` and `keep`, this one
    with any bundle for its last and that which closes branches alone, the one with the smallest loss in all is gone. Just
    below the budget a layer too many often hurts less than what little is saved by the channels of all others.

    Args:
        scores: (U,); shifted to be at least 0.
        removable: (U,) bool; default all.
        round_to: widths are multiples of it, or a group's full width.
        per: "saved" for scores that say how much is lost, which what is saved can be weighed against. A rank, a norm or a
            draw says no such thing: divided by what they save, the dearest layers would go whatever their scores are.

    Returns:
        (U,) bool of what is kept, and its cost as a fraction of dense (above `keep` where nothing fits).
    """
    values = scores.detach().double().cpu()
    finite = values[values.isfinite()]
    if len(finite):
        values = values - finite.min().clamp_max(0.0)

    def untouched() -> _State:
        return _State(structure, values, removable, cost, round_to, per)

    state = untouched()
    ends = [_end(state, keep, near, least, whole=False)]
    if state.weighed:
        ends.append(_end(untouched(), keep, near, least, whole=True))
    found = [end for end in ends if end is not None]
    if found:
        state = untouched()
        for move in min(found, key=lambda end: end.lost).moves:
            state.apply(move)
    return state.open(), state.cost


def _end(state: _State, keep: float, near: float, least: float, *, whole: bool) -> _End | None:
    """Goes down with `state` until the cost is at most `keep`, as far as that goes. The way there that loses least, of those
    that leave this one for its last move; None where losses do not add up, or nothing ends between `least` and `keep`.

    Args:
        whole: close branches alone.
    """
    path: list[_Move] = []
    best: _End | None = None
    while state.cost > keep:
        moves = [*(() if whole else state.cuts()), *state.closings()]
        for move in moves if state.weighed and least > 0.0 else ():
            if least <= move.cost <= keep and (best is None or state.lost + move.lost < best.lost):
                best = _End(state.lost + move.lost, (*path, move))
        fitting = [m for m in moves if m.cost >= near] or [m for m in moves if least <= m.cost <= keep]
        if not fitting:
            break
        if fitting[0].cost < near:  # none ends in the interval: as little below it as can be
            path.append(max(fitting, key=lambda m: m.cost))
        else:
            path.append(min(fitting, key=lambda m: m.loss))
        state.apply(path[-1])
    return best


def allowed_widths(group: ChannelGroup, cost: Cost, round_to: int) -> list[int]:
    """Widths that `group` may be cut to, descending, its own not among them."""
    if round_to > 1:
        widths = range(round_to, group.width, round_to)
        return list(widths)[::-1]
    return [w for w in cost.steps(group) if w < group.width][::-1]


@dataclass(frozen=True)
class _Move:
    """Closing a branch, or cutting a group to its `step`-th width."""

    loss: float  # per saved cost, or per channel
    lost: float  # in all
    cost: float  # of what is left, as a fraction of dense
    group: int | None
    step: int  # or the branch's number


@dataclass(frozen=True)
class _End:
    """A way down to the budget."""

    lost: float  # scores of all that has gone
    moves: tuple[_Move, ...]


@dataclass
class _Group:
    """How far a group of channels was cut, and what each further step would do."""

    order: list[int]  # units, in the order in which they go
    removed: list[int]  # how many have gone after each step; 0 first
    losses: Floats  # (steps,) scores of all that have gone
    sides: npt.NDArray[np.intp]  # which entries of the flattened (parts, SIDES) channels change
    channels: Floats  # (steps, sides) how many channels have gone from each
    step: int = 0


class _State:
    """Which steps were taken, and which can be taken next."""

    def __init__(
        self, structure: Structure, scores: Tensor, removable: Tensor | None, cost: Cost, round_to: int, per: Per
    ) -> None:
        self._structure, self._scores, self._price = structure, scores, cost
        self.weighed = per == "saved" and cost.staircase
        self._removable = torch.ones(structure.units, dtype=torch.bool) if removable is None else removable.cpu()
        self._choice = Choice(structure, cost)  # branches are closed in it, channels are not
        self._groups = [self._prepared(group, allowed_widths(group, cost, round_to)) for group in structure.groups]
        self._inside = {b.unit: _groups_inside(structure, b.unit) for b in structure.branches}
        self._channels = cost.widths.copy()
        self.cost = self._choice.cost()
        self.lost = 0.0  # scores of all that has gone

    def _prepared(self, group: ChannelGroup, widths: list[int]) -> _Group:
        units = torch.arange(group.start, group.start + group.width)
        units = units[self._removable[group.units]]
        order = units[torch.argsort(self._scores[units], stable=True)].tolist()
        removed = [0, *(group.width - w for w in widths if group.width - w <= len(order))]
        gone = np.concatenate([[0.0], np.cumsum(self._scores[order].numpy())])
        sides = sorted({SIDES * part + side for unit in order for part, side, _ in self._choice.touches[unit]})
        channels = np.zeros((len(order) + 1, len(sides)))
        for i, unit in enumerate(order, start=1):
            for part, side, n in self._choice.touches[unit]:
                channels[i, sides.index(SIDES * part + side)] += n
        channels = channels.cumsum(0)[removed]
        return _Group(order, removed, gone[removed], np.array(sides, dtype=np.intp), channels)

    def cuts(self) -> Iterator[_Move]:
        """Bundles that can go next; what would save nothing is left out where the cost is a staircase."""
        for i, group in enumerate(self._groups):
            # Scores ascend, so per channel the next step always hurts least; per saved cost a further one may, and of a
            # staircase the next one may save nothing.
            end = len(group.removed) if self._price.staircase else group.step + 2
            later = slice(group.step + 1, end)
            if not len(group.removed[later]):
                continue
            delta = group.channels[later] - group.channels[group.step]
            channels = np.repeat(self._channels.reshape(1, -1), len(delta), axis=0)
            channels[:, group.sides] -= delta
            costs = self._price.count(channels.reshape(len(delta), *self._channels.shape), self._choice.alive)
            counts = np.array(group.removed[later]) - group.removed[group.step]
            losses = group.losses[later] - group.losses[group.step]
            for k, (loss, cost, count) in enumerate(zip(losses, costs, counts, strict=True), start=group.step + 1):
                move = self._move(float(loss), float(cost), int(count), i, k)
                if move is not None:
                    yield move

    def closings(self) -> Iterator[_Move]:
        """Branches that can go next."""
        for branch in self._structure.branches:
            if self._removable[branch.unit] and self._choice.open[branch.unit]:
                alive = self._choice.alive_without(branch.unit)
                inside = [self._groups[i] for i in self._inside[branch.unit]]
                score = float(self._scores[branch.unit])
                left = sum(self._structure.groups[i].width for i in self._inside[branch.unit]) - sum(
                    g.removed[g.step] for g in inside
                )
                # Per channel of a group: the branch competes as the bundle of all channels that nobody else reads.
                count = max(1, left)
                cost = float(self._price.count(self._channels, alive))
                move = self._move(score * count, cost, count, None, branch.unit)
                if move is not None:
                    yield move

    def _move(self, loss: float, cost: float, count: int, group: int | None, step: int) -> _Move | None:
        saved = self.cost - cost
        if saved <= 0 or not math.isfinite(loss):
            return None
        return _Move(loss / (saved if self.weighed else count), loss, cost, group, step)

    def apply(self, move: _Move) -> None:
        if move.group is None:
            self._choice.close(move.step)
        else:
            group = self._groups[move.group]
            flat = self._channels.reshape(-1)
            flat[group.sides] -= group.channels[move.step] - group.channels[group.step]
            group.step = move.step
        self.cost = move.cost
        self.lost += move.lost

    def open(self) -> Tensor:
        """(U,) bool"""
        kept = torch.from_numpy(self._choice.open.copy())
        for group in self._groups:
            kept[group.order[: group.removed[group.step]]] = False
        return kept


def _groups_inside(structure: Structure, branch: int) -> list[int]:
    """Numbers of the groups that only layers in this branch produce."""
    return [
        i
        for i, group in enumerate(structure.groups)
        if all(branch in structure.layers[name].branches for name in group.producers)
    ]
