"""Residual blocks and stages: what of a network can be left out so that the rest is a shallower network of its kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from greenprune.methods.structure.units import Branch, Structure


@dataclass(frozen=True)
class Block:
    """A residual block: all branches that one module adds (attention and MLP of a transformer's block).

    Attributes:
        name: of the module.
        units: of its branches.
        stage: number of the stretch of blocks over which the stream keeps its size and channels; from 0.
        stays: without it the rest would be no network of this kind: it changes the stream's size or channels, or is the
            first of all.
    """

    name: str
    units: tuple[int, ...]
    stage: int
    stays: bool


def find_blocks(structure: Structure) -> tuple[Block, ...]:
    """The residual blocks of a network, in the order of execution."""
    found: list[Block] = []
    stage, width = -1, -1
    for name, branches in _by_block(structure):
        projected = any(branch.projected for branch in branches)
        own = _channels(structure, branches[-1]) or width
        if projected or own != width:
            stage += 1
        width = own
        found.append(Block(name, tuple(branch.unit for branch in branches), stage, projected or not found))
    return tuple(found)


def order_of_removal(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The blocks that can go, in the order in which they do so: evenly over the stages, and evenly within each.

    The next is of the stage that has the largest share of its blocks left, the first among equals. Of that stage the
    block goes that leaves the smallest gaps (the sum of their squares), the last among equals. What stays always stays.
    With n blocks in each of three stages this leads from a ResNet to the shallower ones of its family.
    """
    stages: dict[int, list[int]] = {}
    for i, block in enumerate(blocks):
        stages.setdefault(block.stage, []).append(i)
    left = {stage: list(members) for stage, members in stages.items()}
    order: list[Block] = []
    while open_stages := [stage for stage in left if any(not blocks[i].stays for i in left[stage])]:
        stage = max(open_stages, key=lambda s: (len(left[s]) / len(stages[s]), -s))
        begin, end = stages[stage][0] - 1, stages[stage][-1] + 1
        gone = min(
            (i for i in left[stage] if not blocks[i].stays),
            key=lambda i: (_gaps([begin, *(o for o in left[stage] if o != i), end]), -i),
        )
        left[stage].remove(gone)
        order.append(blocks[gone])
    return tuple(order)


def _gaps(positions: list[int]) -> int:
    return sum((after - before) ** 2 for before, after in pairwise(positions))


def _by_block(structure: Structure) -> Iterator[tuple[str, list[Branch]]]:
    """The branches by the module that adds them; one that lies in another such module belongs to that one."""
    holders = {branch.name for branch in structure.branches if branch.name}
    together: dict[str, list[Branch]] = {}
    for branch in structure.branches:
        around = [h for h in holders if branch.name.startswith(f"{h}.")]
        # What the network itself adds are blocks of their own.
        key = min([branch.name, *around], key=len) or f"{branch.blocks[0] if branch.blocks else branch.end}"
        together.setdefault(key, []).append(branch)
    yield from together.items()


def _channels(structure: Structure, branch: Branch) -> int:
    """Of the stream that a branch adds to; 0 where that is not known."""
    layer = structure.layers.get(f"{branch.end}.out_proj", structure.layers.get(branch.end))
    return 0 if layer is None else len(layer.out_units)
