"""A network by its name, freshly initialised."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.models.named import OWN, brief, factory_of
from greenprune.bench.models.traps import avoid_cpu_trap
from greenprune.methods import logits_of
from torch import nn


def build(name: str, classes: int, seed: int | None = None) -> nn.Module:
    """A freshly initialised network, on the CPU, in training mode, that maps (B, 3, 32, 32) to (B, classes).

    Strided 1×1 convolutions in networks from elsewhere are rewritten, on every device alike; see bench/models/traps.py.

    Args:
        name: one of `names()`, `torchvision/<name>` (never downloads weights), or `package.module:factory`; the factory
            is called with `classes` and looked up in the current working directory as well.
        classes: number of outputs.
        seed: of the initial weights; the global random number generators are left as they are. None draws from them.

    Raises:
        UserError: the name is unknown, or the network does not fit: not a module, or no (B, classes) result.
    """
    factory = factory_of(name)
    with _seeded(seed):
        try:
            model = factory(classes)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's factory may raise anything
            raise UserError(f"{name}: building it for {classes} classes failed with {brief(error)}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"{name}: returned a {type(model).__name__}; allowed is a torch.nn.Module")
    if name not in OWN:
        model = avoid_cpu_trap(model)
        _check_output(name, model, classes)
    return model


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):  # networks are built on the CPU: its generator is the only one involved
        torch.default_generator.manual_seed(seed)
        yield


@torch.no_grad()
def _check_output(name: str, model: nn.Module, classes: int) -> None:
    """Refuse a foreign network that cannot classify our images before hours are spent on it."""
    training = model.training
    example = torch.zeros(1, 3, 32, 32, device=next((p.device for p in model.parameters()), None))
    try:
        output = model.eval()(example)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # somebody else's forward
        raise UserError(f"{name}: does not run on 32×32 images with three channels: {brief(error)}") from error
    finally:
        model.train(training)
    try:
        shape: object = tuple(logits_of(output).shape)
    except ValueError:
        shape = type(output).__name__
    if shape != (1, classes):
        raise UserError(
            f"{name}: gives {shape} for one image; allowed are logits of shape (1, {classes}), "
            "alone or first or under the name logits in what it returns"
        )
