"""Things of the user's own, named `package.module:name`."""

from __future__ import annotations

from typing import Any

from greenprune.bench.errors import UserError, did_you_mean
from greenprune.methods.plugins import MethodError, module_of


def named(key: str, reference: str) -> Any:
    """What `reference` names, which the suite gives for `key`; the module may lie in the working directory.

    Raises:
        UserError: there is nothing of that name.
    """
    given = f'{key} = "{reference}"'
    try:
        module = module_of(reference)
    except MethodError as error:
        raise UserError(f"{given}: {error}") from error
    module_name, _, attribute = reference.partition(":")
    found = getattr(module, attribute, None)
    if found is None:
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UserError(f'{given}: module "{module_name}" has no "{attribute}"{did_you_mean(attribute, public)}')
    return found


def called(key: str, reference: str, what: str) -> Any:
    """The function that `reference` names, see `named`.

    Args:
        what: is allowed, in words.

    Raises:
        UserError: there is none.
    """
    found = named(key, reference)
    if not callable(found):
        attribute = reference.partition(":")[2]
        raise UserError(f'{key} = "{reference}": "{attribute}" is a {type(found).__name__}; allowed is {what}')
    return found


def brief(error: BaseException) -> str:
    """Type and first line of an error, for use inside a sentence."""
    text = str(error).strip()
    first_line = text.splitlines()[0].rstrip(".") if text else ""
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
