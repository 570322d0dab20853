"""Single weights masked by magnitude: train, zero the smallest, fine-tune (Han et al. 2015, arXiv 1506.02626).

The network keeps its shape: connections fall, multiply-accumulates, time and energy do not. It stands here to show that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from greenprune.methods.base import Method, Phase, Skip, step_of
from greenprune.methods.options.base import MethodOptions
from greenprune.methods.options.magnitude_unstructured import UnstructuredOptions
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.units import is_attention, is_writer, projections
from torch import Tensor, nn


class MagnitudeUnstructured(Method):
    """Masks the smallest weights of all layers that make channels of others together, see `prunable_weights`.

    Here the budget is the fraction of the *connections* (nonzero weights) that stay. Biases and norms are left alone. Masked
    weights are zeros in tensors of the dense network's shapes, and stay zeros while the others are fine-tuned.
    """

    name = "magnitude_unstructured"
    source = "Han et al. 2015, arXiv 1506.02626"
    budget_unit = "connections"
    Options = UnstructuredOptions
    tuning: ClassVar = {"train_share": (0.4, 0.5, 0.6, 0.7, 0.8), "fine_tune_peak": (0.1, 0.2, 0.5, 1.0)}

    made_by_prepare: ClassVar = frozenset({"_hooks"})

    @classmethod
    def phases(cls, options: MethodOptions) -> tuple[Phase, ...]:
        assert isinstance(options, UnstructuredOptions)
        return (
            Phase("train", options.train_share, peak=1.0),
            Phase("fine-tune", 1.0 - options.train_share, peak=options.fine_tune_peak),
        )

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        self._weights = prunable_weights(model)
        if not self._weights:
            raise Skip("there is no convolution and no linear layer whose weights could be masked")
        self._model = model
        self._cut_at = max(1, step_of(self.options.train_share, self.steps))
        self._masks: dict[str, Tensor] = {}
        # Hooks, and not `after_backward`: a gradient is clipped before that, and what is masked is no part of its norm.
        self._hooks = [w.register_hook(self._masked(name)) for name, w in self._weights.items() if w.requires_grad]
        return model

    def _masked(self, name: str) -> Callable[[Tensor], Tensor]:
        """What takes a gradient of this weight, and gives it without the masked entries."""

        def without(gradient: Tensor) -> Tensor:
            return gradient * self._masks[name] if self._masks else gradient

        return without

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        if self.step == self._cut_at:
            self._masks = smallest_masked(self._weights, self.keep)
            self._mask_state(optimizer)
        self._mask_weights()

    @torch.no_grad()
    def _mask_weights(self) -> None:
        for name, mask in self._masks.items():
            self._weights[name].mul_(mask)

    @torch.no_grad()
    def _mask_state(self, optimizer: torch.optim.Optimizer) -> None:
        """Momentum, and an average of the weights: it is evaluated as it is, between the steps."""
        for name, mask in self._masks.items():
            weight = self._weights[name]
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape and value.is_floating_point():
                    value.mul_(mask.to(value.device))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._masks = {name: mask.to(self._weights[name].device) for name, mask in self._masks.items()}

    def finish(self) -> nn.Module:
        for hook in self._hooks:
            hook.remove()
        self._mask_weights()  # an average of the weights may have taken their place
        return self._model


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of all convolutions, linear layers and projections of attention: the connections, by their names.

    A weight that several layers share is there once, also where it is a table of embeddings at the same time. One that is
    computed of other parameters (weight norm) is none of them: no mask would hold.
    """
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        for leaf in _weights_of(module):
            weight = module._parameters.get(leaf)
            if weight is not None and id(weight) not in seen:
                seen.add(id(weight))
                found[f"{name}.{leaf}" if name else leaf] = weight
    return found


def _weights_of(module: nn.Module) -> tuple[str, ...]:
    if not is_writer(module):
        return ()
    return projections(module) if is_attention(module) else ("weight",)


@torch.no_grad()
def smallest_masked(weights: Mapping[str, Tensor], keep: float) -> dict[str, Tensor]:
    """A mask for each of `weights`, False where it is closed: of all together the fraction `keep` of largest magnitude stays.

    The number of closed weights is rounded up: the budget is never exceeded.
    """
    magnitudes = torch.cat([weight.detach().abs().reshape(-1).float() for weight in weights.values()])
    closed = math.ceil((1.0 - keep) * len(magnitudes) - 1e-9)
    mask = torch.ones_like(magnitudes, dtype=torch.bool)
    mask[magnitudes.topk(closed, largest=False).indices] = False
    parts = mask.split([weight.numel() for weight in weights.values()])
    return {name: part.reshape(weight.shape) for (name, weight), part in zip(weights.items(), parts, strict=True)}
