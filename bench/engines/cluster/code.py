"""The code that jobs run, kept beside the results: what is edited or installed while they wait is not theirs.

Kept are greenprune, and of a user's own modules those that are loaded; what is installed (site-packages) is not.
"""

from __future__ import annotations

import hashlib
import importlib
import secrets
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

KEPT = {".py", ".toml", ".csv", ".html", ".css", ".js", ".json", ".typed", ".txt"}
PARTS = ("bench", "methods", "plots", "integrations", "results")
LARGEST_BYTES = 2_000_000
"""Of a file; what is larger is no code."""


def keep(folder: Path) -> Path:
    """Copy the code into `folder`; the folder to import it from, named after what it holds. Raises OSError."""
    files = dict(sorted({**_ours(), **_users()}.items()))
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    place = folder / f"code-{digest.hexdigest()[:12]}"
    if not place.exists():
        temporary = folder / f".{place.name}.{secrets.token_hex(4)}"
        for name, path in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, temporary / name)
        try:
            temporary.rename(place)
        except OSError:  # another start was first
            shutil.rmtree(temporary, ignore_errors=True)
            if not place.exists():
                raise
    return place


def _ours() -> dict[str, Path]:
    """Files of greenprune by their path below the folder to import from."""
    top = Path(str(importlib.import_module("greenprune").__file__)).parent
    found = dict(_files(top, "greenprune", deep=True))
    for part in PARTS:
        place = importlib.import_module(f"greenprune.{part}").__path__[0]
        found |= _files(Path(place), f"greenprune/{part}", deep=part != "results")
    return found


def _users() -> dict[str, Path]:
    """Files of the loaded modules that are neither installed nor greenprune's nor Python's own."""
    found: dict[str, Path] = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if (
            _is_within(name)
            or name in ("greenprune", "__main__", "__mp_main__")
            or not path
            or not path.endswith(".py")
        ):
            continue
        file, kept = Path(path).absolute(), name.replace(".", "/")
        if any(file.is_relative_to(place) for place in _installed()) or "site-packages" in file.parts:
            continue
        if file.name == "__init__.py":
            found |= _files(file.parent, kept, deep=True)
        elif file.is_file():
            found[f"{kept}.py"] = file
    return found


def _is_within(name: str) -> bool:
    """Whether a module is within a package that has a file, and is kept with it; a folder without `__init__.py` has none."""
    top, dot, _ = name.partition(".")
    return bool(dot) and getattr(sys.modules.get(top), "__file__", None) is not None


def _installed() -> list[Path]:
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [Path(path) for path in (*paths, *site.getsitepackages(), site.getusersitepackages())]


def _files(folder: Path, name: str, *, deep: bool) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*") if deep else folder.glob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if path.suffix in KEPT and not hidden and path.is_file() and path.stat().st_size <= LARGEST_BYTES:
            yield f"{name}/{inside}", path
