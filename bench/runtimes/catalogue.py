"""The runtimes: those here by name, and any class as `module:Class`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from greenprune.bench.data.reference import brief, named
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.foreign import visible
from greenprune.bench.runtimes.names import RUNTIMES
from greenprune.bench.runtimes.runtime import Runtime

T = TypeVar("T")


def find(name: str) -> Runtime:
    """The runtime called `name`, ready to be used.

    Raises:
        UserError: there is none, it cannot be imported or made, this machine lacks what it needs, or it cannot say which
            versions it has.
    """
    runtime = made(name)
    if wrong := _asked(name, "lacks()", runtime.lacks):
        raise UserError(f"runtime {name}: {wrong}")
    described(name, runtime)
    return runtime


def made(name: str) -> Runtime:
    """As `find`, whether or not the machine has what it needs."""
    reference = RUNTIMES.get(name, name)
    if ":" not in reference:
        raise UserError(
            f'runtime "{name}": is unknown; allowed: {", ".join(RUNTIMES)}, or module:Class{did_you_mean(name, list(RUNTIMES))}'
        )
    found = named("runtime", reference)
    if not (isinstance(found, type) and issubclass(found, Runtime)):
        raise UserError(f'runtime "{name}": is no subclass of greenprune.bench.runtimes.runtime.Runtime')
    if missing := sorted(found.__abstractmethods__):
        raise UserError(f'runtime "{name}": lacks the method{"s" if len(missing) > 1 else ""} {", ".join(missing)}')
    return _asked(name, f"{found.__name__}()", found)


def described(name: str, runtime: Runtime) -> dict[str, str]:
    """The versions and settings of `runtime`, as text whatever they are.

    Args:
        name: as of `find`.

    Raises:
        UserError: its `describe` fails.
    """
    return _asked(name, "describe()", lambda: {visible(str(k)): visible(str(v)) for k, v in runtime.describe().items()})


def _asked(name: str, what: str, ask: Callable[[], T]) -> T:
    """What the author's code answers. Raises UserError where it fails, and where it calls sys.exit."""
    try:
        return ask()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as e:
        raise UserError(f'runtime "{name}": {what} failed with {brief(e)}') from e
