"""The runtimes: those here by name, and any class as `module:Class`."""

from __future__ import annotations

from greenprune.bench.data.reference import named
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.runtimes.names import RUNTIMES
from greenprune.bench.runtimes.runtime import Runtime


def find(name: str) -> Runtime:
    """The runtime called `name`, ready to be used.

    Raises:
        UserError: there is none, it cannot be imported, or this machine lacks what it needs.
    """
    runtime = made(name)
    if wrong := runtime.lacks():
        raise UserError(f"runtime {name}: {wrong}")
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
    return found()
