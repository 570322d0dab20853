"""A network by its name, freshly initialised."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from greenprune.bench.data.reference import brief
from greenprune.bench.errors import UserError
from greenprune.bench.models.kinds.kind import SMALL, Shape
from greenprune.bench.models.kinds.own import OWN
from greenprune.bench.models.named import kind_of
from greenprune.bench.models.traps import avoid_cpu_trap
from greenprune.bench.text import plural
from greenprune.methods import logits_of
from torch import nn


def build(name: str, classes: int, seed: int | None = None, shape: Shape = SMALL) -> nn.Module:
    """A freshly initialised network, on the CPU, in training mode, that maps (B, *shape) to (B, classes).

    Strided 1×1 convolutions in networks from elsewhere are rewritten, on every device alike; see bench/models/traps.py.

    Args:
        name: one of `names()`, `torchvision/<name>`, `timm/<name>`, `hf/<id or folder>`, or `package.module:factory`; the
            factory is called with `classes` and looked up in the current working directory as well. No weights are loaded.
        classes: number of outputs.
        seed: of the initial weights; the global random number generators are left as they are. None draws from them.
        shape: channels, height and width of an image. Networks whose constructor takes them are made for them.

    Raises:
        UserError: the name is unknown, or the network does not fit: not a module, or no (B, classes) result.
    """
    kind = kind_of(name)
    kind.check(name)
    with _seeded(seed):
        try:
            model = kind.make(name, classes, shape)
        except (KeyboardInterrupt, UserError):
            raise
        except BaseException as error:  # a user's factory may raise anything
            raise UserError(
                f"{name}: building it for {plural(classes, 'class', 'classes')}{_of(shape)} failed with {brief(error)}"
            ) from error
    if not isinstance(model, nn.Module):
        raise UserError(f"{name}: returned a {type(model).__name__}; allowed is a torch.nn.Module")
    if name not in OWN:
        model = avoid_cpu_trap(model)
        _check_output(name, model, classes, shape)
    return model


def _of(shape: Shape) -> str:
    channels, height, width = shape
    return "" if shape == SMALL else f" of {height}×{width} images with {plural(channels, 'channel')}"


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):  # networks are built on the CPU: its generator is the only one involved
        torch.default_generator.manual_seed(seed)
        yield


@torch.no_grad()
def _check_output(name: str, model: nn.Module, classes: int, shape: Shape) -> None:
    """Refuse a foreign network that gives no such outputs for our images before hours are spent on it."""
    training = model.training
    channels, height, width = shape
    example = torch.zeros(1, *shape, device=next((p.device for p in model.parameters()), None))
    try:
        output = model.eval()(example)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # somebody else's forward
        count = {1: "one channel", 3: "three channels"}.get(channels, plural(channels, "channel"))
        raise UserError(f"{name}: does not run on {height}×{width} images with {count}: {brief(error)}") from error
    finally:
        model.train(training)
    try:
        found: object = tuple(logits_of(output).shape)
    except ValueError:
        found = type(output).__name__
    if not isinstance(found, tuple) or found[:2] != (1, classes):
        raise UserError(
            f"{name}: gives {found} for one image; allowed are logits of shape (1, {classes}), "
            "alone or first or under the name logits in what it returns; of each pixel also under the name out"
        )
