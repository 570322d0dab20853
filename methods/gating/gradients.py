"""How strongly the loss may pull at gates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOSS_SCALE = 64.0
"""From this factor on the loss was scaled for half precision; below, a loss is weighted or batches are added up."""


class GradientScale:
    """Brings the gradients of all gates to one scale, so that no network, loss or batch size needs its own tuning.

    Each unit's gradient is weighted (see `gating_setup.price_weights`), divided by the root mean square over all units (a
    moving average), and multiplied by `gain`.

    Half precision multiplies the loss before its backward pass (`torch.amp.GradScaler`), and the optimizer divides by the same
    factor after it. How much that is says the gradient that reaches a part of the loss, see `watched`. What is kept here is
    divided by it; what is handed back is not, as the optimizer does that.

    Attributes:
        sums: (U,) weighted gradients of the gates, added up since the last step.
        reached: what the loss was multiplied by in the backward passes since the last step, added up.
        rms: 0 until something was seen.
        importance: (U,) mean square of each gate's own gradient, not weighted, since `forget_importance`.
        importance_steps: over how many steps.
    """

    def __init__(self, weights: Tensor, momentum: float = 0.98) -> None:
        self.weights, self.momentum = weights, momentum
        self.gain = 1.0
        self.rms = 0.0
        self.sums = torch.zeros_like(weights)
        self.reached: Tensor | float = 0.0
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

    def watched(self, part: Tensor | float) -> Tensor:
        """`part`, which is added to the loss as it is: its gradient is what the loss is multiplied by."""
        if not isinstance(part, Tensor):
            part = torch.full((), part, device=self.weights.device, dtype=torch.float32, requires_grad=True)
        if part.requires_grad:
            part.register_hook(self._note_reached)
        return part

    def _note_reached(self, gradient: Tensor) -> None:
        self.reached = self.reached + gradient.detach()

    def update(self, sums: Tensor) -> None:
        """Once a step, after backward: take in what was seen. Nothing is learned of a step that overflowed.

        Args:
            sums: (U,), this process's `sums`, or their mean over all processes.
        """
        factor, self.reached = float(self.reached), 0.0
        if factor >= LOSS_SCALE:
            sums = sums / factor
        if not math.isfinite(factor + float(sums.sum())):
            self.sums.zero_()
            return
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
