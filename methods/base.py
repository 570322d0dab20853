"""The interface of a pruning method: a handful of hooks that a training loop calls.

A method never runs the training loop and the loop never knows which method it runs:

    method = Gated(options, keep=0.5, steps=2800)
    network = method.prepare(model, example_inputs)        # what is trained
    for each step:
        loss = task_loss(network(x), y) + method.penalty()
        loss.backward()
        method.after_backward(); optimizer.step()          # may add to the gradients
        method.after_step(optimizer)                       # may remove channels and layers, in place
    method.settle(held_out_images)                         # may set a threshold
    small = method.finish()                                # a plain nn.Module, physically smaller
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from greenprune.methods.budget import select as budget
from greenprune.methods.budget.limits import lowest
from greenprune.methods.budget.reach import Nearest, check_budget, warn
from greenprune.methods.cost.kinds import CostKind
from greenprune.methods.cost.measured_cost import CostTable
from greenprune.methods.options.base import BudgetUnit, Card, MethodOptions
from greenprune.methods.structure import plain
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn


@dataclass(frozen=True)
class Phase:
    """A stretch of a method's training.

    Attributes:
        name: what the method does meanwhile, e.g. "search", "train", "fine-tune".
        share: fraction of the optimizer steps; the shares of all phases add up to 1.
        peak: height of a new learning-rate cycle (warm-up, then decay to 0) that starts with this phase, relative to
            the recipe's learning rate; None continues the cycle that is running.
    """

    name: str
    share: float
    peak: float | None = None


class Skip(Exception):  # noqa: N818 - it is an answer, not an error
    """Raised by `prepare` when a method cannot work on this network; the message says why."""


class Method(ABC):
    """One way of making a network cheaper during one training run. Subclasses override a few of the hooks.

    Class attributes:
        name: how suites call the method.
        source: the paper (or reason) it comes from.
        prunes: False for controls that ignore the budget (`dense`).
        budget_unit: what the budget counts. "macs": the result is plain and physically smaller. "connections": nonzero
            weights of a network that keeps its shape, so neither MACs nor time fall. "mean_macs": mean over images of
            a network that keeps its gates and skips work. Only with "macs" a budget can be stated in another `cost`.
        Options: a frozen pydantic model with the method's options.
        made_by_prepare: attributes that are no plain data, that `prepare` makes and nothing changes afterwards, see
            `state_dict`.
        tuning: the options that are worth choosing for a network and a data set, and the values to try; every combination
            that the method takes is a candidate of `greenprune tune`. Empty: there is nothing to choose.

    Args:
        options: an instance of `Options`, or None for the defaults.
        keep: the budget, the fraction of the dense cost (see `budget_unit` and `cost`) that the result may have, in (0, 1].
        steps: optimizer steps of the whole training, all phases together.
        tolerance: the result costs at least `keep - tolerance` (and never more than `keep`).
        seed: seeds whatever the method draws itself.
        cost: what the budget is stated in: "macs", "params", "latency" or "energy".
        table: measured by `greenprune.methods.calibrate`, for latency and energy.
        round_to: groups of channels keep a multiple of so many, or stay as they are.

    Raises:
        ValueError: `keep` outside (0, 1], `steps` or `round_to` below 1, no table for a measured cost, or a cost that
            this method cannot keep a budget of.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    prunes: ClassVar[bool] = True
    budget_unit: ClassVar[BudgetUnit] = "macs"
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    tuning: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    made_by_prepare: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        options: MethodOptions | None = None,
        *,
        keep: float,
        steps: int,
        tolerance: float = 0.02,
        seed: int = 0,
        cost: CostKind = "macs",
        table: CostTable | None = None,
        round_to: int = 1,
    ) -> None:
        if not 0.0 < keep <= 1.0:
            raise ValueError(f"keep = {keep}: allowed is a fraction of the dense cost above 0 and at most 1")
        if steps < 1:
            raise ValueError(f"steps = {steps}: allowed is at least 1")
        if round_to < 1:
            raise ValueError(f"round_to = {round_to}: allowed is at least 1")
        if self.prunes:
            budget.check_table(cost, table)
            self.check_cost(cost)
        self.cost, self.table, self.round_to = cost, table, round_to
        self.predicted_cost: float | None = None  # fraction of the dense cost, set where the network is cut
        self.options: Any = options if options is not None else self.Options()
        self.keep, self.steps, self.tolerance, self.seed = keep, steps, tolerance, seed
        self.step = 0  # optimizer steps taken so far
        self.masked_max_abs_diff: float | None = None  # set where the network is cut, see `surgery`
        self.nearest: Nearest | None = None  # set by `prepare` where the budget can only be undershot

    @classmethod
    def check_cost(cls, cost: CostKind) -> None:
        """Raise ValueError where the method cannot keep a budget stated in `cost`."""
        Card.of(cls).check_cost(cost)

    def select(self, model: nn.Module, structure: Structure, scores: Tensor, removable: Tensor) -> Tensor:
        """(U,) bool: the units to keep for the method's budget, see `budget.select`; notes the predicted cost."""
        cost = budget.make_cost(self.cost, structure, model, self.table)
        keep = budget.select(structure, scores, self.keep, self.tolerance, removable, cost, self.round_to)
        self.predicted_cost = float(cost(keep.float()))
        coarse = self.round_to > 1 or cost.staircase
        if self.nearest is None and self.predicted_cost < lowest(self.keep, self.tolerance, coarse=coarse) - 1e-9:
            # Other scores meet it, these do not: the units are too coarse for the order in which they go.
            *_, above = budget.nearest(structure, scores, self.keep, self.tolerance, removable, cost, self.round_to)
            self.nearest = Nearest(self.predicted_cost, 1.0 if above is None else above)
            warn(self.nearest, self.keep, self.tolerance, cost)
        return keep

    def check_reachable(self, model: nn.Module, structure: Structure, removable: Tensor) -> None:
        """Raise BudgetError where the method's budget lies below the floor, and note in `nearest` (and warn) where the
        network's units are too coarse to meet it, see `reach.check_budget`."""
        cost = budget.make_cost(self.cost, structure, model, self.table)
        self.nearest = check_budget(structure, self.keep, self.tolerance, removable, cost, self.round_to)

    @classmethod
    def phases(cls, options: MethodOptions) -> tuple[Phase, ...]:
        """The stretches of the training. Default: one, with one learning-rate cycle."""
        return (Phase("train", 1.0, peak=1.0),)

    @classmethod
    def starts_anew(cls, options: MethodOptions) -> bool:
        """Whether `prepare` is to be given a network with initial weights, also where there are others to start from."""
        return False

    @abstractmethod
    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        """Take `model` over and return the module to be trained (it may be `model` itself).

        Args:
            model: the dense network, on its device.
            example_inputs: one small batch on the same device, (B, C, H, W) or see `structure.inputs.Inputs`; for tracing only.

        Raises:
            Skip: the method cannot work on this network.
        """

    def param_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The optimizer's parameter groups for the prepared `network`.

        A group may hold `learning_rate_scale` (default 1) and `weight_decay` (default: the recipe's).
        """
        return [{"params": list(network.parameters())}]

    def penalty(self) -> Tensor | float:
        """What the method adds to the loss of the current batch; called after the forward pass."""
        return 0.0

    def after_backward(self) -> None:
        """Called between `backward` and the optimizer step; may add to the gradients (a subgradient, for example)."""
        return

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Called after every optimizer step. May change the network and the optimizer's parameters in place.

        Overrides call `super().after_step(optimizer)`, which counts the step.
        """
        self.step += 1

    def settle(self, images: Callable[[], Iterator[Tensor]]) -> None:
        """Called once after the last step, before `finish`; for what has to be set on images that were not trained on.

        Args:
            images: gives the held-out images, without labels and as they are tested, in batches (B, C, H, W); anew with
                each call.
        """
        return

    @abstractmethod
    def finish(self) -> nn.Module:
        """The result, called once, after the last step: a plain module without masks or hooks, and without gates
        unless `budget_unit` is "mean_macs"."""

    def kept_cost(self) -> float | None:
        """The cost of the network as it stands (expected, while gates are open), as a fraction of the dense MACs.

        None: unchanged, or let the harness count.
        """
        return None

    def history(self) -> dict[str, Any]:
        """What the method wants to tell afterwards (plain JSON data), e.g. gate consensus over time."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What changes while the network is trained, besides the network itself: plain data, see `structure.plain`.

        With it a training that was interrupted goes on, bit for bit on a CPU: the method is made again with the same
        arguments, prepares the same dense network, takes on this state (`load_state_dict`), and then the prepared network
        loads its tensors. Called after `after_step`. The default are all attributes that are plain data; modules, frozen
        models and what `made_by_prepare` names are left out, because `prepare` makes them again.

        Raises:
            StateError: there is an attribute of another kind. Such a training begins anew when it was interrupted.
        """
        return plain.collect(self, self.made_by_prepare)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on what `state_dict` gave; called after `prepare`.

        What changes the names or the shapes of the network's tensors on the way must bring the network into the shape of
        the state, here or in hooks of the network's own `load_state_dict`, as `structure.slot.Slot` does.
        """
        plain.restore(self, state)


def step_of(share: float, steps: int) -> int:
    """The optimizer step at which `share` of the training is over."""
    return round(share * steps)
