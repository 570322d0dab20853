"""Which networks there are, by name. Imports a library where a network is asked for that needs it."""

from __future__ import annotations

from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.models.kinds.factory import Factory
from greenprune.bench.models.kinds.huggingface import HuggingFace
from greenprune.bench.models.kinds.kind import Kind
from greenprune.bench.models.kinds.own import OWN, Own
from greenprune.bench.models.kinds.timm import Timm
from greenprune.bench.models.kinds.torchvision import Torchvision

KINDS: tuple[Kind, ...] = (Own(), Torchvision(), Timm(), HuggingFace(), Factory())
"""In the order in which they are asked whether a name is theirs."""


def names() -> list[str]:
    """The networks defined here; those of other kinds are accepted as well."""
    return list(OWN)


def kind_of(name: str) -> Kind:
    """Whose name it is. Raises UserError: nobody's."""
    for kind in KINDS:
        if kind.takes(name):
            return kind
    near = next(
        filter(None, (did_you_mean(name, kind.known()) for kind in KINDS)), ""
    )  # a library is asked when needed
    raise UserError(f'model = "{name}" is unknown{near}; allowed are {_forms()}')


def _forms() -> str:
    *most, last = (kind.form for kind in KINDS)
    return f"{', '.join(most)} and {last}"


def check(name: str) -> None:
    """Make sure that `build(name, ...)` knows the network, without building it (a user's module is imported).

    Raises:
        UserError: the name is unknown; the message holds what is allowed and the nearest name.
    """
    kind_of(name).check(name)


def is_users_own(name: str) -> bool:
    """Whether making this network imports a module that the name names, instead of a library that we know."""
    return ":" in name and not any(kind.takes(name) for kind in KINDS if not isinstance(kind, Factory))
