"""Networks by name: CIFAR ResNets, VGG-16-BN, any torchvision classification model, or a user's own factory."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torchvision
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.models.resnet import resnet
from greenprune.bench.models.traps import avoid_cpu_trap
from greenprune.bench.models.vgg import vgg16_bn
from torch import nn

__all__ = ["build", "check", "names"]

TORCHVISION = "torchvision/"

_BUILTIN: dict[str, Callable[[int], nn.Module]] = {
    **{f"resnet{depth}": partial(resnet, depth) for depth in (20, 32, 44, 56, 110)},
    "vgg16_bn": vgg16_bn,
}

_TORCHVISION_OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},  # otherwise it returns three outputs while training
}


def names() -> list[str]:
    """The networks defined here; `torchvision/<name>` and `package.module:factory` are accepted as well."""
    return list(_BUILTIN)


def check(name: str) -> None:
    """Make sure that `build(name, ...)` knows the network, without building it (a user's module is imported).

    Raises:
        UserError: the name is unknown; the message holds what is allowed and the nearest name.
    """
    _find(name)


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
    factory = _find(name)
    with _seeded(seed):
        try:
            model = factory(classes)
        except Exception as error:  # a user's factory may raise anything
            raise UserError(f"{name}: building it for {classes} classes failed with {_brief(error)}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"{name}: returned a {type(model).__name__}; allowed is a torch.nn.Module")
    if name not in _BUILTIN:
        model = avoid_cpu_trap(model)
        _check_output(name, model, classes)
    return model


def _find(name: str) -> Callable[[int], nn.Module]:
    if name in _BUILTIN:
        return _BUILTIN[name]
    if name.startswith(TORCHVISION):
        return _torchvision_factory(name.removeprefix(TORCHVISION))
    module_name, _, attribute = name.partition(":")
    if module_name and attribute:
        return _user_factory(name, module_name, attribute)
    near = did_you_mean(name, [*_BUILTIN, *(TORCHVISION + known for known in _torchvision_names())])
    raise UserError(
        f'model = "{name}" is unknown{near}; allowed are {", ".join(_BUILTIN)}, torchvision/<name> and '
        "package.module:factory"
    )


def _torchvision_names() -> list[str]:
    # Classification models sit directly in torchvision.models; detection, segmentation, video in packages below it.
    return torchvision.models.list_models(module=torchvision.models)


def _torchvision_factory(name: str) -> Callable[[int], nn.Module]:
    known = _torchvision_names()
    if name not in known:
        raise UserError(
            f'model = "{TORCHVISION}{name}": torchvision has no classification model "{name}"'
            f"{did_you_mean(name, known)}; allowed are the {len(known)} names of "
            "torchvision.models.list_models(module=torchvision.models)"
        )
    options = _TORCHVISION_OPTIONS.get(name, {})
    return lambda classes: torchvision.models.get_model(name, weights=None, num_classes=classes, **options)


def _user_factory(name: str, module_name: str, attribute: str) -> Callable[[int], nn.Module]:
    with _importable_working_directory():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UserError(
                f'model = "{name}": there is no module "{error.name or module_name}" in the working directory or among '
                "the installed packages"
            ) from error
        except Exception as error:  # importing runs the user's code
            raise UserError(f'model = "{name}": importing "{module_name}" failed with {_brief(error)}') from error
    factory = getattr(module, attribute, None)
    if factory is None:
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UserError(
            f'model = "{name}": module "{module_name}" has no "{attribute}"{did_you_mean(attribute, public)}'
        )
    if not callable(factory):
        raise UserError(
            f'model = "{name}": "{attribute}" is a {type(factory).__name__}; allowed is a function of the number of '
            "classes that returns a torch.nn.Module"
        )
    return factory


@contextlib.contextmanager
def _importable_working_directory() -> Iterator[None]:
    # Console scripts, unlike `python -m`, do not search the working directory, where a user's own model lies.
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)


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
        logits = model.eval()(example)
    except Exception as error:  # somebody else's forward
        raise UserError(f"{name}: does not run on 32×32 images with three channels: {_brief(error)}") from error
    finally:
        model.train(training)
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != (1, classes):
        raise UserError(f"{name}: gives {shape} for one image; allowed is a tensor of shape (1, {classes})")


def _brief(error: Exception) -> str:
    """Type and first line of an error, for use inside a sentence."""
    text = str(error).strip()
    first_line = text.splitlines()[0].rstrip(".") if text else ""
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
