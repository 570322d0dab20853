"""A module that holds a network, so that surgery may replace the network while it is trained."""

from __future__ import annotations

from typing import Any

import torch
from greenprune.methods.structure import surgery
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn


class Slot(nn.Module):
    """Computes what `model` computes; `model` may be cut, once.

    `state_dict` says what was cut, and `load_state_dict` into the slot of a network that is still whole cuts it first.

    Args:
        model: the dense network.
        structure: of `model`.
    """

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        super().__init__()
        self.model = model
        self.structure = structure
        self.kept: Tensor | None = None  # (U,) bool, the units that stayed; None: nothing was cut
        self.register_load_state_dict_pre_hook(_take_shape)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)

    def cut(self, keep: Tensor, example_inputs: ExampleInputs, optimizer: torch.optim.Optimizer | None) -> float:
        """Remove the units that `keep` (U,) closes; max |delta logit| as of `surgery.remove_checked`."""
        self.model, difference = surgery.remove_checked(self.model, self.structure, keep, example_inputs, optimizer)
        self.kept = keep.cpu()
        return difference

    def get_extra_state(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Nothing is left to do: `_take_shape` came before."""


def _take_shape(slot: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    assert isinstance(slot, Slot)
    stored = state.get(f"{prefix}_extra_state")
    kept = None if stored is None else stored["kept"]
    if kept is None or (slot.kept is not None and torch.equal(slot.kept, kept)):
        return
    if slot.kept is not None:
        raise ValueError("what was cut does not come back: load the state into the slot of a whole network")
    slot.model = surgery.remove(slot.model, slot.structure, kept)
    slot.kept = kept
