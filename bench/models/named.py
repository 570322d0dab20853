"""Which networks there are, and which function makes one. Imports torch where a network is asked for that needs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from greenprune.bench.errors import UserError, did_you_mean
from greenprune.methods.plugins import importable_working_directory

if TYPE_CHECKING:
    from torch import nn

TORCHVISION = "torchvision/"

RESNETS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}
OWN = (*RESNETS, "vgg16_bn", "vit_tiny_cifar")

_TORCHVISION_OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},  # otherwise it returns three outputs while training
}


def names() -> list[str]:
    """The networks defined here; `torchvision/<name>` and `package.module:factory` are accepted as well."""
    return list(OWN)


def check(name: str) -> None:
    """Make sure that `build(name, ...)` knows the network, without building it (a user's module is imported).

    Raises:
        UserError: the name is unknown; the message holds what is allowed and the nearest name.
    """
    if name not in OWN:
        factory_of(name)


def is_users_own(name: str) -> bool:
    """Whether making this network imports a module that the name names, instead of a library that we know."""
    return ":" in name and not name.startswith(TORCHVISION)


def factory_of(name: str) -> Callable[[int], nn.Module]:
    """What makes the network of a number of classes. Raises UserError: the name is unknown."""
    if name in OWN:
        from greenprune.bench.models.resnet import resnet
        from greenprune.bench.models.vgg import vgg16_bn
        from greenprune.bench.models.vit import vit_tiny_cifar

        if name in RESNETS:
            return partial(resnet, RESNETS[name])
        return vgg16_bn if name == "vgg16_bn" else vit_tiny_cifar
    if name.startswith(TORCHVISION):
        return _torchvision_factory(name.removeprefix(TORCHVISION))
    module_name, _, attribute = name.partition(":")
    if module_name and attribute:
        return _user_factory(name, module_name, attribute)
    near = did_you_mean(name, [*OWN, *(TORCHVISION + known for known in _torchvision_names())])
    raise UserError(
        f'model = "{name}" is unknown{near}; allowed are {", ".join(OWN)}, torchvision/<name> and '
        "package.module:factory"
    )


def _torchvision_names() -> list[str]:
    import torchvision

    # Classification models sit directly in torchvision.models; detection, segmentation, video in packages below it.
    return torchvision.models.list_models(module=torchvision.models)


def _torchvision_factory(name: str) -> Callable[[int], nn.Module]:
    import torchvision

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
    with importable_working_directory():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UserError(
                f'model = "{name}": there is no module "{error.name or module_name}" in the working directory or among '
                "the installed packages"
            ) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # importing runs the user's code, which may also call sys.exit
            raise UserError(f'model = "{name}": importing "{module_name}" failed with {brief(error)}') from error
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


def brief(error: BaseException) -> str:
    """Type and first line of an error, for use inside a sentence."""
    text = str(error).strip()
    first_line = text.splitlines()[0].rstrip(".") if text else ""
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
