"""A module that holds a network, so that surgery may replace the network while it is trained."""

from __future__ import annotations

from torch import Tensor, nn


class Slot(nn.Module):
    """Computes what `model` computes; `model` may be replaced."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)
