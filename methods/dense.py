"""The reference: the whole network, trained like all others."""

from __future__ import annotations

from greenprune.methods.base import Method
from greenprune.methods.structure.inputs import ExampleInputs
from torch import nn


class Dense(Method):
    """Trains the network and removes nothing. It ignores the budget."""

    name = "dense"
    source = "control"
    prunes = False

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        self._model = model
        return model

    def finish(self) -> nn.Module:
        return self._model
