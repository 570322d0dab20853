"""What the ranks of a training do together, step by step. In a training of one process nothing here does anything.

The gradients are averaged by hand, all of them in one operation, and not by DistributedDataParallel's reducer: that is built
for one network that does not change. Methods remove and replace parameters in the middle of a training (it would have to be
made again each time, by a loop that does not know when), leave out layers whose gates a batch closes (parameters without a
gradient, which have to stay without one: an optimizer passes them over), and add to the gradients what they derive from them,
after accumulation and before clipping. What is lost is the overlap of communication and backward pass.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from greenprune.bench.distributed.team import collected, tell, told
from greenprune.bench.errors import UserError
from greenprune.bench.machine.contention import Usage, usage
from greenprune.bench.training.keeper import Keeper
from greenprune.methods.ranks import together
from torch import Tensor, nn

OWN = ("energies", "ledger")
"""What of a checkpoint is another one in each rank: joules that it read."""


@torch.no_grad()
def averaged(parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
    """Bring the gradients to their means over all ranks; the mean of `loss`.

    A parameter that has no gradient in any rank is left without one.
    """
    if not together.several():
        return loss
    trained = list(parameters)
    have = tell([p.grad is not None for p in trained]).any(0).tolist()
    by_type: dict[torch.dtype, list[Tensor]] = {loss.dtype: [loss]}
    for parameter, there in zip(trained, have, strict=True):
        if there:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            by_type.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    loss = loss.clone()
    by_type[loss.dtype][0] = loss
    for tensors in by_type.values():
        flat = together.mean(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)])
    return loss


@torch.no_grad()
def begin_alike(network: nn.Module) -> None:
    """Give the network of every rank the numbers of the first one's."""
    if not together.several():
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in network.state_dict().values():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel():
            by_type.setdefault(tensor.dtype, []).append(tensor)
    for tensors in by_type.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with together.talking():
            torch.distributed.broadcast(flat, 0)
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)])


@contextlib.contextmanager
def own_draws(seed: int, step: int) -> Iterator[None]:
    """Inside, each rank draws random numbers of its own: dropout of other images is other dropout.

    What is drawn outside, by a method, is the same in all ranks, which have to decide alike. Nothing but `seed` and `step` is
    needed to draw the same again.
    """
    if not together.several():
        yield
        return
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed((seed * 1_000_003 + step * together.size() + together.rank() + 1) % 2**63)
        yield


@dataclass(frozen=True)
class Step:
    """What the ranks did in a step.

    Attributes:
        samples, forward_macs: of all of them.
        due: whether the training is to be saved.
    """

    samples: int
    forward_macs: int
    due: bool


def step_of_all(samples: int, forward_macs: int, keeper: Keeper | None, trained: Iterable[nn.Parameter]) -> Step:
    """Raises UserError: the ranks do not train the same parameters any more."""
    due = keeper is not None and keeper.due()
    if not together.several():
        return Step(samples, forward_macs, due)
    stop = keeper is not None and keeper.stop is not None
    shapes = hash(tuple(tuple(p.shape) for p in trained)) % 2**62
    found = tell([samples, forward_macs, due, stop, shapes])
    if len(set(found[:, 4].tolist())) > 1:
        raise UserError(
            f"training.devices: the method took other decisions in one of the {together.size()} ranks than in the others; "
            "allowed are methods that decide by the weights, by their seed or by what `greenprune.methods.ranks` tells them, "
            "or one device"
        )
    samples, forward_macs, saves, stops, _ = found.sum(0).tolist()
    if stops and keeper is not None and keeper.stop is None:
        keeper.stop = "stopped with another rank"
    return Step(samples, forward_macs, saves > 0 or stops > 0)


def of_all_ranks(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of this rank with what is another one in the others."""
    if not together.several():
        return state
    return state | {"ranks": [_loaded(each) for each in collected(_stored({key: state[key] for key in OWN}))]}


def of_this_rank(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of a checkpoint, what this rank goes on from."""
    return state if state is None or "ranks" not in state else state | state["ranks"][together.rank()]


def shared(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The checkpoints that the first rank found, in all of them."""
    if not together.several():
        return states
    return _loaded(told(_stored(states)))


def total(number: int) -> int:
    """The sum over all ranks."""
    return int(tell([number]).sum()) if together.several() else number


def usage_of_ranks(node: int) -> Usage:
    """As `usage`, all ranks of this node being this process."""
    here = usage()
    if not together.several():
        return here
    found = tell([round(1e6 * here.own_s), node])
    return replace(here, own_s=1e-6 * float(found[found[:, 1] == node, 0].sum()))


def _stored(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _loaded(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True)
