"""One optimizer step: forward and backward of a batch, in parts where it is asked for, what a method does, and the average."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from greenprune.bench.suite.recipe import Training
from greenprune.bench.tasks.task import Autocast, Task
from greenprune.bench.training.averaging import Average
from greenprune.bench.training.ranks import averaged, begin_alike, own_draws
from greenprune.methods import Method
from greenprune.methods.ranks.norms import global_batch_norm
from torch import Tensor, nn


class Stepper:
    """Takes the steps of a training.

    Attributes:
        average: of the weights, where the recipe has one.
    """

    def __init__(
        self,
        network: nn.Module,
        method: Method,
        task: Task,
        optimizer: torch.optim.Optimizer,
        recipe: Training,
        autocast: Autocast,
    ) -> None:
        self._network, self._method, self._task, self._optimizer = network, method, task, optimizer
        self._recipe, self._autocast = recipe, autocast
        self.average = None if recipe.ema_decay is None else Average(optimizer, recipe.ema_decay)
        self._seed = torch.initial_seed()
        begin_alike(network)

    @property
    def trained(self) -> list[nn.Parameter]:
        """All parameters of the optimizer."""
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def __call__(self, x: Tensor, y: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """Take a step with the batch at a learning rate; its mean loss without a method's penalty, and the outputs.

        Of several ranks each takes its share of the batch, and the loss is that of the whole.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["learning_rate_scale"]
        losses, outputs = [], []
        smoothing = self._recipe.label_smoothing
        with global_batch_norm():
            for part, targets, share in self._parts(x, y):
                with own_draws(self._seed, self._method.step):
                    loss, found = self._task.step(self._network, part, targets, smoothing, self._autocast)
                whole = loss + self._method.penalty()
                (whole if share == 1.0 else whole * share).backward()
                losses.append(loss.detach() * share)
                outputs.append(found)
        loss = averaged(self.trained, losses[0] if len(losses) == 1 else torch.stack(losses).sum())
        if self._recipe.clip_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, self._recipe.clip_gradient_norm)
        self._method.after_backward()
        with nullcontext() if self.average is None else self.average.apart():
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._method.after_step(self._optimizer)
        if self.average is not None:
            self.average.update()
        return loss, outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _parts(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor, float]]:
        """The batch in about equal parts, each with its share of the images."""
        count = self._recipe.accumulate_steps
        for part, targets in zip(x.tensor_split(count), y.tensor_split(count), strict=True):
            if len(part):
                yield part, targets, len(part) / len(x)

    def evaluated(self) -> AbstractContextManager[None]:
        """The network as it is to be evaluated in the middle of a training, inside."""
        return nullcontext() if self.average is None or not self._recipe.ema_evaluate else self.average.in_place()

    def compared(self, score: Callable[[], float | None]) -> tuple[str, ...]:
        """Of an average that is not evaluated: what `score` gives with it, in a sentence without its full stop."""
        if self.average is None or self._recipe.ema_evaluate:
            return ()
        with self.average.in_place():
            found = score()
        told = "none" if found is None else self._task.score.text(found)
        return (f"held-out {self._task.score.name} of the moving average of the weights: {told}",)

    def last(self) -> None:
        """After the last step: what is evaluated takes the place of the weights for good."""
        if self.average is not None and self._recipe.ema_evaluate:
            self.average.put()
