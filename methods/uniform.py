"""The control that pruning has to beat: the same network, narrower everywhere, trained from scratch.

"Scratch" in Liu et al. 2019, "Rethinking the Value of Network Pruning" (arXiv 1810.05270): many a pruned network is no
better than one of its size that was trained from the start. With `start = "sliced"` it starts from a slice of other weights
instead, of the channels of largest norm: pruning without looking at the data.
"""

from __future__ import annotations

import torch
from greenprune.methods.base import Method, Skip
from greenprune.methods.options.base import MethodOptions
from greenprune.methods.options.uniform import UniformOptions
from greenprune.methods.structure import surgery
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from greenprune.methods.structure.weights import sides
from torch import Tensor, nn


class Uniform(Method):
    """Cuts the same share of the channels of every layer before the training starts, then trains.

    The channels that stay keep their weights, so at `keep` = 1 this is the dense network, bit for bit.
    """

    name = "uniform"
    source = "Liu et al. 2019, arXiv 1810.05270"
    Options = UniformOptions

    @classmethod
    def starts_anew(cls, options: MethodOptions) -> bool:
        assert isinstance(options, UniformOptions)
        return options.start == "scratch"

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        structure = trace(model, example_inputs)
        if not structure.groups:
            raise Skip("no channels of this network can be removed")
        self.check_reachable(model, structure, structure.channel_units)
        sliced = self.options.start == "sliced"
        scores = sliced_scores(model, structure) if sliced else uniform_scores(structure)
        keep = self.select(model, structure, scores, structure.channel_units)
        self._model, self.masked_max_abs_diff = surgery.remove_checked(model, structure, keep, example_inputs)
        return self._model

    def finish(self) -> nn.Module:
        return self._model


def uniform_scores(structure: Structure) -> Tensor:
    """(U,) scores that fall evenly from 1 to 0 over the channels of each group: any threshold cuts the same share of all."""
    scores = torch.ones(structure.units)
    for group in structure.groups:
        scores[group.units] = 1.0 - (torch.arange(group.width) + 0.5) / group.width
    return scores


@torch.no_grad()
def sliced_scores(model: nn.Module, structure: Structure) -> Tensor:
    """As `uniform_scores`, with the channels of each group in the order of their L2 norms, the largest first."""
    norms, modules = torch.zeros(structure.units + 1), dict(model.named_modules())
    for side in sides(model, structure):
        if side.writes and side.weight(modules).ndim > 1:
            norms.index_add_(0, side.units, side.norms(modules, 2))
    scores = uniform_scores(structure)
    for group in structure.groups:
        order = norms[group.units].argsort(descending=True, stable=True)
        evenly = scores[group.units].clone()
        own = torch.empty_like(evenly)
        own[order] = evenly
        scores[group.units] = own
    return scores
