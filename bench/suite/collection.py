"""Several suites under one name: a TOML file with a list of them, such as `paper`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greenprune.bench.errors import UserError
from greenprune.bench.suite.file import load_suite, read_toml, shipped

ALLOWED = "a list of names of shipped suites, or of paths of TOML files beside this one"


def expand(names: Sequence[str]) -> list[str]:
    """The suites that `names` mean, in their order; every one of them is there and sound.

    Args:
        names: of shipped suites or collections, or paths of TOML files.

    Raises:
        UserError: as `load_suite`; or a list that is none, or two suites that would write into the same folder.
    """
    found = [member for name in names for member in _members(name)]
    folders: dict[str, str] = {}
    for member in found:
        folder = load_suite(member).name
        if folder in folders:
            raise UserError(
                f"{member}: its name, {folder}, is that of {folders[folder]} too; allowed: one suite for each results folder"
            )
        folders[folder] = member
    return found


def _members(name: str) -> list[str]:
    data = read_toml(name)
    if "suites" not in data:
        return [name]
    unknown = [key for key in data if key not in ("suites", "description")]
    if unknown:
        raise UserError(f"{name}: {unknown[0]}: unknown key beside suites; allowed: description")
    suites: Any = data["suites"]
    if not isinstance(suites, list) or not suites or not all(isinstance(member, str) for member in suites):
        raise UserError(f"{name}: suites = {suites}: allowed is {ALLOWED}")
    if name in shipped():
        return suites
    return [member if member in shipped() else str(Path(name).parent / member) for member in suites]
