"""Which files a method stands on: its own, and those that it imports, and these import, within its package.

Imports are read, not executed. Those for the type checker alone do not count.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import greenprune.methods
from greenprune.bench.data.content import file_hash

if TYPE_CHECKING:
    from greenprune.methods import Method

PACKAGE = "greenprune.methods"
INSTALLED = ("site-packages", "dist-packages")


def method_hash(method: type[Method] | Callable[..., Any]) -> str:
    """SHA-256 of the names and contents of the files that a method, or a function of a user's, stands on."""
    contents = sorted((name, file_hash(path)) for name, path in files_of(method).items())
    return hashlib.sha256(repr(contents).encode()).hexdigest()


def files_of(method: type[Method] | Callable[..., Any]) -> dict[str, Path]:
    """The files that a method stands on, by the name that they are imported by.

    Of a third party's method: those of the package that it is part of, or those beside it where it is a file of its own;
    and those of `greenprune.methods` that they import.
    """
    own = inspect.getsourcefile(method)
    if own is None:
        return {}
    todo = [(method.__module__, Path(own))]
    root = _root(method.__module__, Path(own))
    found: dict[str, Path] = {}
    while todo:
        name, path = todo.pop()
        if name in found:
            continue
        found[name] = path
        for other in imported(path, name):
            place = _ours(other) or _theirs(other, root, method.__module__)
            if place is not None and place[0] not in found:
                todo.append(place)
    return found


def imported(path: Path, name: str) -> tuple[str, ...]:
    """The names that a file imports, `package.module.thing` where it imports a thing; relative ones in full."""
    return _imported(path.read_bytes(), name, path.name)


@lru_cache(maxsize=1024)
def _imported(text: bytes, name: str, file_name: str) -> tuple[str, ...]:
    return tuple(_imports(text, name, file_name))


def _imports(text: bytes, name: str, file_name: str) -> Iterator[str]:
    package = name if file_name == "__init__.py" else name.rpartition(".")[0]
    for node in _executed(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                parts = above[: len(above) - node.level + 1]
                base = ".".join([*parts, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The statements below, without those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):  # most of a file, and none of it imports
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (each for part in child.orelse for each in (part, *_executed(part)))
            continue
        yield child
        yield from _executed(child)


def _ours(name: str) -> tuple[str, Path] | None:
    """The file of `greenprune.methods` that a name is from."""
    if not name.startswith(f"{PACKAGE}."):
        return None
    rest = name.removeprefix(f"{PACKAGE}.")
    face = greenprune.methods._MODULE_OF  # what the package hands out by name, and where it is from
    if rest in face:
        rest = face[rest]
    return _file(PACKAGE, Path(next(iter(greenprune.methods.__path__))), rest)


def _root(module: str, path: Path) -> Path:
    """The folder that a module's name begins in."""
    parts = module.split(".")
    return path.parents[len(parts) - (0 if path.name == "__init__.py" else 1)]


def _theirs(name: str, root: Path, module: str) -> tuple[str, Path] | None:
    """The file of a third party that a name is from; of an installed one only within its own package."""
    if name.startswith("greenprune."):
        return None
    if any(part in INSTALLED for part in root.parts) and name.split(".")[0] != module.split(".")[0]:
        return None
    return _file("", root, name)


def _file(package: str, folder: Path, name: str) -> tuple[str, Path] | None:
    """The longest beginning of `name` that is a file below `folder`, which is the one of `package`."""
    parts = name.split(".")
    while parts:
        place = folder.joinpath(*parts)
        for path in (place.with_suffix(".py") if "." not in parts[-1] else place, place / "__init__.py"):
            if path.is_file():
                return ".".join([*([package] if package else []), *parts]), path
        parts = parts[:-1]
    return None
