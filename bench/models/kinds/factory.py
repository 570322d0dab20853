"""A user's own function, `package.module:factory`, of the number of classes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.models.kinds.kind import Pretrained, Shape, brief, taken
from greenprune.methods.plugins import importable_working_directory

if TYPE_CHECKING:
    from torch import nn


class Factory:
    form = "package.module:factory"

    def takes(self, name: str) -> bool:
        module, _, attribute = name.partition(":")
        return bool(module and attribute)

    def known(self) -> list[str]:
        return []

    def check(self, name: str) -> None:
        """The module is imported, and so run."""
        imported("model", name, "a function of the number of classes that returns a torch.nn.Module")

    def make(self, name: str, classes: int, shape: Shape) -> nn.Module:
        """Image size and channels are given to a factory that takes them by one of the usual names."""
        factory = imported("model", name, "a function of the number of classes that returns a torch.nn.Module")
        channels, height, width = shape
        size = height if height == width else (height, width)
        offered = dict.fromkeys(("image_size", "img_size", "input_size"), size)
        offered |= dict.fromkeys(("channels", "in_channels", "in_chans", "num_channels"), channels)
        return factory(classes, **taken(factory, offered))

    def pretrained(self, name: str, which: str, shape: Shape) -> Pretrained:
        raise UserError(
            f'weights = "{which}": of {name} no published weights are known; allowed is a file of tensors (.safetensors, '
            ".pt, .pth) or the folder of a finished run"
        )


def imported(key: str, name: str, wanted: str) -> Callable[..., Any]:
    """The function `package.module:function`; its module is looked for in the working directory too.

    Args:
        key: of the suite, for the sentence.
        wanted: what it should be, for the sentence.

    Raises:
        UserError: there is none, or importing the module fails.
    """
    module_name, _, attribute = name.partition(":")
    with importable_working_directory():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UserError(
                f'{key} = "{name}": there is no module "{error.name or module_name}" in the working directory or among '
                "the installed packages"
            ) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # importing runs the user's code, which may also call sys.exit
            raise UserError(f'{key} = "{name}": importing "{module_name}" failed with {brief(error)}') from error
    found = getattr(module, attribute, None)
    if found is None:
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UserError(
            f'{key} = "{name}": module "{module_name}" has no "{attribute}"{did_you_mean(attribute, public)}'
        )
    if not callable(found):
        raise UserError(f'{key} = "{name}": "{attribute}" is a {type(found).__name__}; allowed is {wanted}')
    return found
