"""Closing branches that leave something: they go on running while what will not stay of them fades.

A gate that closes such a branch does not mask it. In every step in which the consensus has it closed, the taps that will
not stay are scaled down, to reach 0 at the end of the search: the network never meets a layer that is suddenly gone, and
what stays has learned to do without the rest when the rest is removed. Nothing here has a state: the schedule follows
from the steps done, so a search can be resumed.

Ours. Growing regularisation (Wang et al. 2021, arXiv 2012.09243) and soft filter pruning (He et al. 2018, arXiv 1808.06866)
make weights vanish gradually too, of filters.
"""

from __future__ import annotations

import torch
from greenprune.methods.gating.shrinking import UNDECIDED
from greenprune.methods.structure.remnant import fade, staying
from greenprune.methods.structure.units import Branch, Structure
from torch import Tensor, nn


def leaving(structure: Structure, decided: Tensor) -> Tensor:
    """(U,) bool: branches that may still close and leave a remnant.

    Args:
        decided: (U,) GONE, UNDECIDED or OPEN.
    """
    found = torch.zeros(structure.units, dtype=torch.bool)
    found[[b.unit for b in structure.branches if b.remnant is not None]] = True
    return found.to(decided.device) & (decided == UNDECIDED)


def executed(structure: Structure, decided: Tensor, opened: Tensor) -> Tensor:
    """(U,) bool: the units that run open whatever the gates say: branches that would fade, and all of a fading one.

    Args:
        decided: (U,) GONE, UNDECIDED or OPEN.
        opened: (U,) bool, the consensus.
    """
    found = leaving(structure, decided)
    for branch in structure.branches:
        if found[branch.unit] and not opened[branch.unit]:
            found[structure.channels_inside(branch.unit)] = True
    return found


def closing(structure: Structure, decided: Tensor, opened: Tensor) -> list[Branch]:
    """The branches that the consensus has closed and that will leave something; arguments as of `executed`."""
    closed = leaving(structure, decided) & ~opened
    return [branch for branch in structure.branches if closed[branch.unit]]


def step(network: nn.Module, branches: list[Branch], steps_left: int) -> None:
    """Scale down what of `branches` would be gone now, so much that it reaches 0 when the search ends."""
    for branch in branches:
        fade(network, branch, steps_left / (steps_left + 1.0))


def replaced(network: nn.Module, branches: list[Branch]) -> dict[str, Tensor]:
    """The kernels of `branches`, with what will not stay at 0; by the names of the parameters of `network`."""
    found: dict[str, Tensor] = {}
    for branch in branches:
        assert branch.remnant is not None
        for name, taps in zip(branch.remnant.convolutions, branch.remnant.taps, strict=True):
            wrapped = hasattr(network.get_submodule(name), "inner")
            full = f"{name}.inner.weight" if wrapped else f"{name}.weight"
            weight = network.get_parameter(full)
            found[full] = weight * staying(weight, taps)
    return found
