"""Storing a search and going on with it: the part of `ConsensusGating.state_dict` that is neither weight nor buffer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from greenprune.methods.gating.shrinking import UNDECIDED
from greenprune.methods.gating.state import GateState
from torch import Tensor


def collect(state: GateState) -> dict[str, Any]:
    """What the gates have drawn and learned; plain data and tensors that `restore` takes."""
    return {
        "noise": state.generator.get_state(),
        "gradient_rms": state.gradients.rms,
        "importance": state.gradients.importance.cpu(),
        "importance_steps": state.gradients.importance_steps,
    }


def restore(state: GateState, stored: Mapping[str, Any]) -> None:
    """Take on what `collect` returned."""
    state.generator.set_state(stored["noise"].cpu())
    state.gradients.rms = stored["gradient_rms"]
    state.gradients.importance = stored["importance"].to(state.gradients.sums.device)
    state.gradients.importance_steps = stored["importance_steps"]


def check(mine: Mapping[str, Any], other: Mapping[str, Any], decided: Tensor, stored: Tensor, searching: bool) -> None:
    """Whether a gating can take on the shape of a stored one.

    Args:
        mine, other: the arguments that this one and the stored one were made with.
        decided, stored: (U,) GONE, UNDECIDED or OPEN, of this one and of the stored one.
        searching: whether this one is still at it.

    Raises:
        ValueError: they were made with other arguments, or this one has lost what the stored one still has.
    """
    differ = [name for name, value in other.items() if mine.get(name) != value]
    if differ:
        raise ValueError(f"the state comes from a gating made with other arguments: {', '.join(differ)} differ")
    settled = decided != UNDECIDED
    if not searching or not torch.equal(decided[settled], stored[settled]):
        raise ValueError(
            "what was removed does not come back: load the state into a gating newly built from the dense model"
        )
