"""Storing a search and going on with it: the part of `ConsensusGating.state_dict` that is neither weight nor buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from greenprune.methods.gating.shrinking import UNDECIDED
from greenprune.methods.gating.wiring import unwrap
from greenprune.methods.structure import surgery

if TYPE_CHECKING:
    from greenprune.methods.gating.module import ConsensusGating


def collect(gating: ConsensusGating) -> dict[str, Any]:
    """Plain data and tensors that `restore` takes."""
    return {
        "made_with": _made_with(gating),
        "steps_done": gating.steps_done,
        "kept": gating.kept,
        "reachable": gating.reachable,
        "chosen": gating.chosen,
        "noise": gating.state.generator.get_state(),
        "gradient_rms": gating.state.gradients.rms,
        "importance": gating.state.gradients.importance.cpu(),
        "importance_steps": gating.state.gradients.importance_steps,
        "masked_max_abs_diff": gating.masked_max_abs_diff,
        "polarized_share": gating.polarized_share,
        "predicted_cost": gating.predicted_cost,
        "history": [(step, list(row)) for step, row in gating.rows],
    }


def restore(gating: ConsensusGating, stored: dict[str, Any]) -> None:
    """Take on what `collect` returned; `take_shape` came before."""
    gating.steps_done = stored["steps_done"]
    gating.reachable, gating.chosen = stored["reachable"], stored["chosen"]
    if gating.chosen is not None:
        gating.chosen = gating.chosen.to(gating.decided.device)
    gating.state.generator.set_state(stored["noise"].cpu())
    gating.state.gradients.rms = stored["gradient_rms"]
    gating.state.gradients.importance = stored["importance"].to(gating.state.gradients.sums.device)
    gating.state.gradients.importance_steps = stored["importance_steps"]
    gating.masked_max_abs_diff, gating.polarized_share = stored["masked_max_abs_diff"], stored["polarized_share"]
    gating.predicted_cost = stored["predicted_cost"]
    gating.rows = [(step, list(row)) for step, row in stored["history"]]


def _made_with(gating: ConsensusGating) -> dict[str, Any]:
    return {
        "keep": gating.keep,
        "steps": gating.steps,
        "tolerance": gating.tolerance,
        "cost": gating.cost,
        "round_to": gating.round_to,
        "units": gating.structure.units,
        "options": gating.options.model_dump(),
    }


def take_shape(gating: ConsensusGating, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Before `load_state_dict` copies anything: cut the network to the shape that `state` was taken from.

    Raises:
        ValueError: the state comes from a gating made with other arguments, or this one has lost what the state still has.
    """
    stored = state.get(f"{prefix}_extra_state")
    if stored is None:
        return  # load_state_dict says what is missing
    mine = _made_with(gating)
    other = [name for name, value in stored["made_with"].items() if mine.get(name) != value]
    if other:
        raise ValueError(f"the state comes from a gating made with other arguments: {', '.join(other)} differ")
    decided = state[f"{prefix}decided"].to(gating.decided.device)
    settled = gating.decided != UNDECIDED
    if not gating.searching or not torch.equal(gating.decided[settled], decided[settled]):
        raise ValueError(
            "what was removed does not come back: load the state into a gating newly built from the dense model"
        )
    gating.decide(decided, None)
    if stored["kept"] is not None:
        gating.kept = stored["kept"].cpu()
        unwrap(gating.network)
        gating.network = surgery.remove(gating.network, gating.left, gating.kept)
        gating.searching = False
