"""Things of the user's own, named `package.module:name`."""

from __future__ import annotations

import importlib
from typing import Any

from greenprune.bench.errors import UserError, did_you_mean
from greenprune.methods.plugins import importable_working_directory


def called(key: str, reference: str, what: str) -> Any:
    """The function that `reference` names, which the suite gives for `key`; the module may lie in the working directory.

    Args:
        what: is allowed, in words.

    Raises:
        UserError: there is none.
    """
    module_name, _, attribute = reference.partition(":")
    given = f'{key} = "{reference}"'
    with importable_working_directory():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UserError(
                f'{given}: there is no module "{error.name or module_name}" in the working directory or among the installed '
                "packages"
            ) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # importing runs the user's code, which may also call sys.exit
            raise UserError(f'{given}: importing "{module_name}" failed with {brief(error)}') from error
    found = getattr(module, attribute, None)
    if found is None:
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UserError(f'{given}: module "{module_name}" has no "{attribute}"{did_you_mean(attribute, public)}')
    if not callable(found):
        raise UserError(f'{given}: "{attribute}" is a {type(found).__name__}; allowed is {what}')
    return found


def brief(error: BaseException) -> str:
    """Type and first line of an error, for use inside a sentence."""
    text = str(error).strip()
    first_line = text.splitlines()[0].rstrip(".") if text else ""
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
