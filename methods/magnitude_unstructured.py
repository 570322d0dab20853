"""Single weights masked by magnitude: train, zero the smallest, fine-tune (Han et al. 2015, arXiv 1506.02626).

The network keeps its shape: connections fall, multiply-accumulates, time and energy do not. It stands here to show that.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from greenprune.methods.base import Method, MethodOptions, Phase, Skip, step_of
from greenprune.methods.options.magnitude_unstructured import UnstructuredOptions
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.macs import COUNTED
from torch import Tensor, nn
from torch.nn.utils import prune


class MagnitudeUnstructured(Method):
    """Masks the smallest weights of all convolution and linear layers together (`torch.nn.utils.prune`, global).

    Here the budget is the fraction of the *connections* (nonzero weights) that stay. Biases and norms are left alone. The
    masks hold during fine-tuning and are made permanent at the end: zeros in tensors of the dense network's shapes.
    """

    name = "magnitude_unstructured"
    source = "Han et al. 2015, arXiv 1506.02626"
    budget_unit = "connections"
    Options = UnstructuredOptions
    tuning: ClassVar = {"train_share": (0.4, 0.5, 0.6, 0.7, 0.8), "fine_tune_peak": (0.1, 0.2, 0.5, 1.0)}

    @classmethod
    def phases(cls, options: MethodOptions) -> tuple[Phase, ...]:
        assert isinstance(options, UnstructuredOptions)
        return (
            Phase("train", options.train_share, peak=1.0),
            Phase("fine-tune", 1.0 - options.train_share, peak=options.fine_tune_peak),
        )

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        if not prunable_weights(model):
            raise Skip("there is no convolution and no linear layer whose weights could be masked")
        self._model = model
        return model

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        if self.step == step_of(self.options.train_share, self.steps):
            # The parameter stays the same object, so the optimizer and its momentum go on with it.
            for (module, name), mask in smallest_masked(prunable_weights(self._model), self.keep):
                prune.custom_from_mask(module, name, mask)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.step >= step_of(self.options.train_share, self.steps):  # the masks themselves come with the network
            for module, name in prunable_weights(self._model):
                prune.identity(module, name)

    def finish(self) -> nn.Module:
        for module, name in prunable_weights(self._model):
            if prune.is_pruned(module):
                prune.remove(module, name)
        return self._model


def prunable_weights(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """(module, "weight") of every convolution and linear layer."""
    return [(module, "weight") for module in model.modules() if isinstance(module, COUNTED)]


@torch.no_grad()
def smallest_masked(weights: list[tuple[nn.Module, str]], keep: float) -> list[tuple[tuple[nn.Module, str], Tensor]]:
    """A 0/1 mask for each of `weights`, so that of all of them together the fraction `keep` of largest magnitude stays.

    What `prune.global_unstructured` computes, which refuses weights in channels_last format. The number of closed weights
    is rounded up: the budget is never exceeded.
    """
    tensors = [getattr(module, name) for module, name in weights]
    magnitudes = torch.cat([tensor.detach().abs().reshape(-1).float() for tensor in tensors])
    closed = math.ceil((1.0 - keep) * len(magnitudes) - 1e-9)
    mask = torch.ones_like(magnitudes)
    mask[magnitudes.topk(closed, largest=False).indices] = 0.0
    parts = mask.split([tensor.numel() for tensor in tensors])
    return [(own, part.reshape(t.shape).to(t)) for own, part, t in zip(weights, parts, tensors, strict=True)]
