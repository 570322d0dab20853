"""Scores over a pass of a split, batch by batch, from torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from greenprune.methods.ranks import together
from torch import Tensor

if TYPE_CHECKING:
    from torchmetrics import Metric

Prepare = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Meter:
    """Takes in outputs and targets batch by batch, and gives the scores of all of them.

    Args:
        metrics: a torchmetrics metric for each score, by the score's name.
        prepare: makes of outputs and targets what the metrics take; by default they stay as they are.
    """

    def __init__(self, metrics: Mapping[str, Metric], device: torch.device, prepare: Prepare | None = None) -> None:
        self.metrics = {name: metric.to(device) for name, metric in metrics.items()}
        self.prepare = prepare
        for metric in self.metrics.values():
            metric.sync_on_compute = metric._to_sync = False  # one rank asks alone, for what it shows

    @contextmanager
    def of_all_ranks(self) -> Iterator[None]:
        """Inside, what all ranks of a distributed training took in, each its share; all of them have to ask."""
        if not together.several():
            yield
            return
        for metric in self.metrics.values():
            metric._computed = None
            with together.talking():
                metric.sync()
        try:
            yield
        finally:
            for metric in self.metrics.values():
                metric.unsync(metric._is_synced)  # asking for a score has done it
                metric._computed = None

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Args: as of `Task.loss`, outputs in any precision."""
        outputs = outputs.detach().float()
        if self.prepare is not None:
            outputs, targets = self.prepare(outputs, targets)
        for metric in self.metrics.values():
            metric.update(outputs, targets)

    def scores(self) -> dict[str, float]:
        """Every score by its name; NaN where it is not defined for what was seen."""
        return {name: _figure(metric) for name, metric in self.metrics.items()}

    def main(self) -> float:
        """The first score."""
        return _figure(next(iter(self.metrics.values())))

    def reset(self) -> None:
        for metric in self.metrics.values():
            metric.reset()

    def state(self) -> dict[str, Any]:
        """What was seen so far, as plain data."""
        return {
            name: {"updates": metric._update_count, "state": dict(metric.metric_state)}
            for name, metric in self.metrics.items()
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take on what `state` gave. Raises KeyError, TypeError: it is that of another meter."""
        for name, metric in self.metrics.items():
            kept = state[name]
            for key in metric.metric_state:
                setattr(metric, key, kept["state"][key])
            metric._update_count = kept["updates"]
            metric._computed = None


def _figure(metric: Metric) -> float:
    """Seven digits: torchmetrics divides in float32, of which the rest is noise."""
    return float(f"{float(metric.compute()):.7g}")
