"""How strongly the loss may pull at gates."""

from __future__ import annotations

import torch
from torch import Tensor


class GradientScale:
    """Brings the gradients of all gates to one scale, so that no network, loss or batch size needs its own tuning.

    Each unit's gradient is weighted (see `gating_setup.price_weights`), divided by the root mean square over all units (a
    moving average), and multiplied by `gain`.

    Attributes:
        sums: (U,) weighted gradients of the gates, added up since the last step.
        rms: 0 until something was seen.
        importance: (U,) mean square of each gate's own gradient, not weighted, since `forget_importance`.
        importance_steps: over how many steps.
    """

    def __init__(self, weights: Tensor, momentum: float = 0.98) -> None:
        self.weights, self.momentum = weights, momentum
        self.gain = 1.0
        self.rms = 0.0
        self.sums = torch.zeros_like(weights)
        self.forget_importance()

    def forget_importance(self) -> None:
        """What the gates meant so far is of a network that was hardly trained: begin anew."""
        self.importance, self.importance_steps = torch.zeros_like(self.weights), 0

    def apply(self, gates: Tensor, units: Tensor) -> Tensor:
        """`gates` (units,) or (B, units) forward; scaled gradient backward."""
        if gates.requires_grad:
            gates.register_hook(lambda gradient: self.scaled(gradient, units))
        return gates

    def scaled(self, gradient: Tensor, units: Tensor) -> Tensor:
        """Takes note of the gradient of the gates of `units`, (units,) or (B, units), and returns it scaled."""
        gradient = gradient * self.weights[units]
        self.sums.index_add_(0, units, gradient.detach().sum(0) if gradient.ndim == 2 else gradient.detach())
        if self.rms == 0.0:
            return torch.zeros_like(gradient)
        return gradient * (self.gain / self.rms)

    def update(self, sums: Tensor) -> None:
        """Once a step, after backward: take in what was seen.

        Args:
            sums: (U,), this process's `sums`, or their mean over all processes.
        """
        squares = sums.square()
        seen = squares[squares > 0]
        if len(seen):
            now = float(seen.mean().sqrt())
            self.rms = now if self.rms == 0.0 else self.momentum * self.rms + (1.0 - self.momentum) * now
            self.importance_steps += 1
            self.importance = self.importance.lerp((sums / self.weights).square(), 1.0 / self.importance_steps)
        self.sums.zero_()


def with_gradient_gain(value: Tensor, gain: float) -> Tensor:
    """`value` forward, `gain` times its gradient backward."""
    scaled = value * gain
    return value.detach() + (scaled - scaled.detach())
