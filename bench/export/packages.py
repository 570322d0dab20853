"""The packages that exporting and other runtimes need, and that an installation may lack."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from greenprune.bench.errors import UserError

EXTRA = "greenprune[runtimes]"


def lacking(*packages: str) -> str | None:
    """A sentence without its full stop on those of `packages` that are not installed; None where all are."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    are = "is" if len(missing) == 1 else "are"
    return f'{", ".join(missing)} {are} not installed; python -m pip install "{EXTRA}"'


def require(what: str, *packages: str) -> None:
    """Raise UserError where one of `packages`, which `what` needs, is not installed."""
    if wrong := lacking(*packages):
        raise UserError(f"{what}: {wrong}")


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
