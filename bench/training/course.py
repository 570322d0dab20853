"""What of a training changes from step to step, as plain data, and back.

The order of the images has no state of its own: it is drawn from seed and epoch, so that a place in it is an epoch and the
number of its batches that are done. A source that draws otherwise has to add the state of its generator to `Course.state`.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from greenprune.bench.records.record import Epoch
from greenprune.bench.tasks.meter import Meter
from greenprune.methods.ranks import together
from greenprune.methods.structure.plain import StateError
from torch import Tensor, nn


@dataclass
class Course:
    """How far a training is.

    Attributes:
        step: optimizer steps that are done.
        epoch: that is running, from 1.
        batch: of its batches so many are done.
        loss_sum: over these batches, a scalar on the device.
        meter: of the score on these batches, as they were trained on.
        epoch_s: seconds that these batches took before this process.
        history: of the epochs that are over.
    """

    loss_sum: Tensor
    meter: Meter
    step: int = 0
    epoch: int = 1
    batch: int = 0
    epoch_s: float = 0.0
    history: list[Epoch] = field(default_factory=list)

    @classmethod
    def start(cls, device: torch.device, meter: Meter) -> Course:
        return cls(torch.zeros((), device=device), meter)

    @property
    def score(self) -> float | None:
        """On the batches of the running epoch; None where it is no finite number."""
        value = self.meter.main()
        return value if math.isfinite(value) else None

    def score_of_all_ranks(self) -> float | None:
        """As `score`, of what all ranks of a training saw; all of them have to ask."""
        with self.meter.of_all_ranks():
            return self.score

    def next_epoch(self) -> None:
        self.epoch, self.batch, self.epoch_s = self.epoch + 1, 0, 0.0
        self.loss_sum = torch.zeros_like(self.loss_sum)
        self.meter.reset()

    def state(self, epoch_s: float) -> dict[str, Any]:
        """`epoch_s`: seconds that the batches of the running epoch took so far."""
        with self.meter.of_all_ranks():
            seen = self.meter.state()
        return {
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "loss_sum": self.loss_sum,
            "meter": seen,
            "epoch_s": epoch_s,
            "history": [entry.model_dump(mode="json") for entry in self.history],
        }

    @classmethod
    def restored(cls, state: dict[str, Any], meter: Meter) -> Course:
        if together.rank() == 0:  # what all of them saw is kept once
            meter.restore(state["meter"])
        return cls(**state | {"meter": meter, "history": [Epoch.model_validate(entry) for entry in state["history"]]})


def random_state(device: torch.device) -> dict[str, Any]:
    """Of every generator that a network or a method may draw from without naming one."""
    numpy: Any = np.random.get_state(legacy=False)
    key = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return {
        "python": random.getstate(),
        "numpy": (key, int(numpy["state"]["pos"]), int(numpy["has_gauss"]), float(numpy["gauss"])),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    random.setstate(state["python"])
    key, *rest = state["numpy"]
    np.random.set_state(("MT19937", key.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def network_state(network: nn.Module) -> dict[str, Any]:
    return dict(network.state_dict())


def restore_network(network: nn.Module, state: dict[str, Any]) -> None:
    """Load `state`, and lay its tensors out in memory as they were: a product in another order is not the same bit for bit.

    Raises:
        StateError: it does not fit.
    """
    try:
        network.load_state_dict(state)
    except (RuntimeError, ValueError) as e:
        raise StateError(f"the network does not take the shape that it had ({str(e).splitlines()[0]})") from None
    own = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    for name, tensor in own:
        stored = state.get(name)
        if stored is not None and stored.stride() != tensor.stride():
            tensor.data = stored.to(tensor.device)


def optimizer_state(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Any]:
    """Parameters by their names, because a method may remove and add some on the way.

    Raises:
        StateError: the optimizer has parameters that are not the network's.
    """
    names = {id(p): name for name, p in network.named_parameters()}
    groups, states = [], {}
    for group in optimizer.param_groups:
        if any(id(p) not in names for p in group["params"]):
            raise StateError("the optimizer trains parameters that are not the network's")
        groups.append({**group, "params": [names[id(p)] for p in group["params"]]})
    for p, state in optimizer.state.items():
        if id(p) in names:
            states[names[id(p)]] = dict(state)
    return {"groups": groups, "state": states}


def restored_groups(state: dict[str, Any], network: nn.Module) -> list[dict[str, Any]]:
    """The parameter groups of an optimizer for `network`.

    Raises:
        StateError: the network lacks one of the parameters.
    """
    own = dict(network.named_parameters())
    try:
        return [{**group, "params": [own[name] for name in group["params"]]} for group in state["groups"]]
    except KeyError as e:
        raise StateError(f"the network has no parameter {e}") from None


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], network: nn.Module) -> None:
    """Momentum and the like, for an optimizer made with `restored_groups`."""
    own = dict(network.named_parameters())
    for name, kept in state["state"].items():
        optimizer.state[own[name]] = dict(kept)
