"""Methods of third parties: installed with an entry point, or named as `module:Class`.

A package makes its methods known without any change here, in its pyproject.toml:

    [project.entry-points."greenprune.methods"]
    mine = "my_package.my_module:Mine"
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from greenprune.methods.options.base import Card, MethodOptions

if TYPE_CHECKING:
    from greenprune.methods.base import Method

GROUP = "greenprune.methods"
REFERENCE = r"^[\w.]+:\w+$"
"""The form of `module:Class`."""


class MethodError(ValueError):
    """A method that cannot be used; the message is one sentence that says why."""


class UnknownMethodError(MethodError):
    """No method has this name."""


@cache
def installed() -> tuple[dict[str, type[Method]], dict[str, str]]:
    """The methods of installed packages by name, and by name what is wrong with those that cannot be used.

    One broken package spoils nothing for suites that do not ask for its methods.
    """
    return collect(tuple(entry_points(group=GROUP)))


def collect(found: tuple[EntryPoint, ...]) -> tuple[dict[str, type[Method]], dict[str, str]]:
    """As `installed`, of these entry points."""
    good: dict[str, type[Method]] = {}
    bad: dict[str, str] = {}
    for entry in sorted(found, key=lambda e: (e.name, e.value)):
        try:
            method = load(entry.value)
        except MethodError as e:
            bad[entry.name] = str(e)
            continue
        if method.name in good and good[method.name] is not method:
            bad[method.name] = two_of_one_name(Card.of(good[method.name]), Card.of(method))
            continue
        good[method.name] = method
    return {name: method for name, method in good.items() if name not in bad}, bad


def merged(own: Mapping[str, Card]) -> tuple[dict[str, Card], dict[str, str]]:
    """The cards of `own` and of the installed methods by name, and by name what is wrong with those that cannot be used."""
    classes, broken = installed()
    good, bad = {name: Card.of(method) for name, method in classes.items()}, dict(broken)
    for name, card in good.items():
        if name in own:
            bad[name] = two_of_one_name(own[name], card)
    return {name: card for name, card in {**good, **own}.items() if name not in bad}, bad


def two_of_one_name(first: Card, second: Card) -> str:
    return (
        f'two methods are called "{first.name}": {first.reference} and {second.reference}; rename one of them, or '
        "uninstall its package"
    )


def load(reference: str) -> type[Method]:
    """The class `module:Class`; the working directory is searched too.

    Raises:
        MethodError: it cannot be imported, or is no complete method.
    """
    if not re.match(REFERENCE, reference):
        raise MethodError(f'"{reference}" is not of the form module:Class')
    module = module_of(reference)
    module_name, _, attribute = reference.partition(":")
    found = getattr(module, attribute, None)
    if found is None:
        raise MethodError(f'module "{module_name}" has no "{attribute}"')
    problem = what_lacks(found)
    if problem is not None:
        raise MethodError(f"{reference} {problem}")
    return found


def module_of(reference: str) -> ModuleType:
    """The module of `module:name`; the working directory is searched too.

    Raises:
        MethodError: it cannot be imported.
    """
    name = reference.partition(":")[0]
    with importable_working_directory():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as e:
            raise MethodError(
                f'there is no module "{e.name or name}" in the working directory or among the installed packages'
            ) from e
        except KeyboardInterrupt:
            raise
        except BaseException as e:  # importing runs the author's code, which may also call sys.exit
            first_line = (str(e).strip().splitlines() or [""])[0].rstrip(".")
            told = f": {first_line}" if first_line else ""
            raise MethodError(f'importing "{name}" failed with {type(e).__name__}{told}') from e


def what_lacks(candidate: object) -> str | None:
    """What is missing in `candidate` for a method, to follow its name in a sentence; None when it is complete."""
    from greenprune.methods.base import Method  # late: it imports torch, which whoever has written a method does too

    if not isinstance(candidate, type) or not issubclass(candidate, Method):
        hooks = ", ".join(sorted(Method.__abstractmethods__))
        return f"is not a subclass of greenprune.methods.Method; it lacks the hooks {hooks}"
    if missing := sorted(candidate.__abstractmethods__):
        return f"lacks the hook{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
    for name in ("name", "source"):
        if not isinstance(getattr(candidate, name, None), str):
            return f'lacks the class attribute "{name}", a text'
    if not isinstance(candidate.Options, type) or not issubclass(candidate.Options, MethodOptions):
        return "has Options that are not a subclass of greenprune.methods.MethodOptions"
    without = [name for name, field in candidate.Options.model_fields.items() if field.is_required()]
    if without:
        return f"has options without a default: {', '.join(without)}"
    return None


@contextlib.contextmanager
def importable_working_directory() -> Iterator[None]:
    """What lies in the working directory can be imported inside: `python -m` looks there, a console script does not."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)
