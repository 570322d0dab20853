"""The control that every ranking has to beat: channels and layers removed at random, at equal cost, before training.

Random selection is the control of Liu et al. 2019 (arXiv 1810.05270) and of Mittal et al. 2018 (arXiv 1801.10447).
"""

from __future__ import annotations

import torch
from greenprune.methods.base import Method, Skip
from greenprune.methods.options.random_channels import RandomOptions
from greenprune.methods.structure import surgery
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn


class Random(Method):
    """Removes units in an order drawn from the run's seed, then trains what is left from its initial weights."""

    name = "random"
    source = "control (Liu et al. 2019, arXiv 1810.05270)"
    Options = RandomOptions

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        structure = trace(model, example_inputs)
        removable = structure.channel_units | bool(self.options.layers)
        if not removable.any():
            raise Skip("no channel and no layer of this network can be removed")
        self.check_reachable(model, structure, removable)
        keep = self.select(model, structure, random_scores(structure, self.seed), removable)
        self._model, self.masked_max_abs_diff = surgery.remove_checked(model, structure, keep, example_inputs)
        return self._model

    def finish(self) -> nn.Module:
        return self._model


def random_scores(structure: Structure, seed: int) -> Tensor:
    """(U,) uniform scores in [0, 1), a function of `seed` alone."""
    return torch.rand(structure.units, generator=torch.Generator().manual_seed(seed))
