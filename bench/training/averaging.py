"""An exponential moving average of the weights, which shrinks with the network.

It lies in the optimizer's state, beside the momentum: whatever removes a channel cuts it there, and a checkpoint holds it.
Statistics of norms are not averaged, they are moving averages already (as in torch.optim.swa_utils.AveragedModel).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

KEY = "average"
"""In the optimizer's state of a parameter."""


class Average:
    """The average of all that an optimizer trains: `decay` times itself plus 1 - `decay` times the weights, after each step.

    It begins with the weights after the first step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, decay: float) -> None:
        self._optimizer, self._decay = optimizer, decay

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Around the optimizer's step: one that finds a state takes it for its own, so there is none where nothing else is."""
        state = self._optimizer.state
        alone = {p: state.pop(p) for p in [p for p, known in state.items() if set(known) == {KEY}]}
        yield
        for parameter, known in alone.items():
            state[parameter].update(known)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        averages, weights = [], []
        for parameter in self._parameters():
            state = self._optimizer.state[parameter]
            if KEY in state:
                averages.append(state[KEY])
                weights.append(parameter.detach())
            else:
                state[KEY] = parameter.detach().clone()
        if averages:
            torch._foreach_lerp_(averages, weights, 1.0 - self._decay)

    @torch.no_grad()
    def put(self) -> None:
        """Put the average in place of the weights."""
        for parameter, average in self._pairs():
            parameter.copy_(average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average in place of the weights, inside."""
        before = [(parameter, parameter.detach().clone()) for parameter, _ in self._pairs()]
        self.put()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, own in before:
                    parameter.copy_(own)

    def _parameters(self) -> Iterator[torch.nn.Parameter]:
        for group in self._optimizer.param_groups:
            yield from group["params"]

    def _pairs(self) -> Iterator[tuple[torch.nn.Parameter, Tensor]]:
        for parameter in self._parameters():
            state = self._optimizer.state.get(parameter, {})
            if KEY in state:
                yield parameter, state[KEY]
