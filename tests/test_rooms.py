"""Imports go one way: between the rooms as they are listed here, and between files without a loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "greenprune.bench": ROOT / "bench",
    "greenprune.methods": ROOT / "methods",
    "greenprune.plots": ROOT / "plots",
    "greenprune": ROOT / "src" / "greenprune",
}

ROOMS = {
    "methods": ("ranks", "structure", "cost", "options", "budget", "base", "gating", "skipping", "*"),
    "bench": (
        "errors", "foreign", "paths", "text", "terminal", "energy", "command", "machine", "data", "models", "records", "tasks",
        "export", "runtimes", "suite", "distributed", "inference", "training", "verify", "plan", "run", "engines", "tune",
        "prune", "cli",
    ),
    "plots": ("frame", "tables", "figures", "report"),
    "integrations": ("*",),
}  # fmt: skip
"""A room may import those before it. A room is a folder with all below it, or a file; "*": every other file."""

PACKAGES = {
    "methods": (),
    "bench": ("methods",),
    "plots": (
        "bench.errors",
        "bench.foreign",
        "bench.terminal",
        "bench.text",
        "bench.energy",
        "bench.records",
        "bench.runtimes.names",
        "bench.suite.views",
    ),  # records, and words
    "integrations": ("bench",),  # training loops of other people
}
"""What of other packages a package may import. The command line alone draws: `bench.cli` may import all of `plots`."""


def modules() -> dict[str, Path]:
    """Every Python file by the name that it is imported by."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


KNOWN = modules()


def imported(text: str) -> Iterator[tuple[str, int]]:
    """Our modules that a file with this text imports, each with its line.

    Those inside functions and those for the type checker alone count too: a file that is only typed with another one
    cannot be understood without it either.
    """
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in line {node.lineno}: {node.module}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in KNOWN:
                name = name.rpartition(".")[0]
            if name:
                yield name, node.lineno


@cache
def graph() -> dict[str, dict[str, int]]:
    """By module: what it imports, and in which line."""
    return {name: imports_of(name, path.read_text(encoding="utf-8")) for name, path in KNOWN.items()}


def imports_of(name: str, text: str) -> dict[str, int]:
    return {other: line for other, line in imported(text) if other != name}


def graph_with(name: str, line: str) -> dict[str, dict[str, int]]:
    """The graph as it would be with this import in a function at the end of a module."""
    text = f"{KNOWN[name].read_text(encoding='utf-8')}\n\ndef late() -> None:\n    {line}\n"
    return graph() | {name: imports_of(name, text)}


def loop(imports: Mapping[str, Mapping[str, int]]) -> list[str]:
    """One loop of imports, first file last again; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as e:
        return list(reversed(e.args[1]))
    return []


def room_of(name: str) -> str:
    """ "methods.gating" of "greenprune.methods.gating.module", "methods.base" of "greenprune.methods.base"."""
    return ".".join(name.split(".")[1:3])


def place(room: str) -> int:
    package, _, name = room.partition(".")
    order = ROOMS[package]
    if name in order:
        return order.index(name)
    assert "*" in order, f"{room}: a room that is not listed in this test; say where it belongs"
    return order.index("*")


def allowed(room: str, other: str) -> bool:
    """Whether a file in `room` may import the module `other`, both without "greenprune."."""
    package, of = room.split(".")[0], other.split(".")[0]
    if package == of:
        return place(room_of(f"greenprune.{other}")) <= place(room)
    if room == "bench.cli" and of == "plots":
        return True
    return any(f"{other}.".startswith(f"{name}.") for name in PACKAGES[package])


def upward(imports: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What imports a room that it may not, as sentences."""
    found = []
    for name, others in imports.items():
        room = room_of(name)
        if "." not in room:  # the face of a package: below everybody, above everything
            continue
        for other, line in others.items():
            short = other.removeprefix("greenprune.")
            same = room_of(other) == room
            if not same and (short == "greenprune" or not allowed(room, short)):
                found.append(f"{name}, line {line}, imports {other}: {room} may not import {room_of(other) or other}")
    return found


def test_no_two_files_import_each_other() -> None:
    assert not loop(graph()), " -> ".join(loop(graph()))


def test_rooms_import_only_what_lies_before_them() -> None:
    found = upward(graph())
    assert not found, "\n".join(found)


def test_what_can_be_drawn_can_be_drawn_without_torch() -> None:
    """No file that a module of plots imports, however far away and however late, imports torch."""
    imports = graph()
    todo, reached = [name for name in imports if name.startswith("greenprune.plots")], {}
    while todo:
        name = todo.pop()
        if name not in reached:
            parents = {name.rsplit(".", n)[0] for n in range(1, name.count("."))}  # their __init__ runs too
            reached[name] = top_level_imports(KNOWN[name])
            todo += [*(other for other in imports[name] if other in reached[name]), *parents]
    assert len(reached) > 30
    heavy = {name for name, found in reached.items() if {"torch", "torchvision"} & {f.split(".")[0] for f in found}}
    assert not heavy


def top_level_imports(path: Path) -> set[str]:
    """What runs when the file is imported, as far as it is an import."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in KNOWN else str(node.module))
    return found


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("methods.cost.costs", "from greenprune.methods.gating.module import ConsensusGating", "methods.gating"),
        ("methods.base", "from greenprune.bench.errors import UserError", "bench.errors"),
        ("methods.gating.heads", "import greenprune.methods", "methods"),
        ("bench.run.worker", "from greenprune.plots.frame.load import load", "plots.frame"),
        ("bench.data.data", "from greenprune.bench.training import loop", "bench.training"),
        ("plots.frame.frame", "from greenprune.bench.training.loop import train", "bench.training"),
        ("plots.tables.best", "from greenprune.plots.report.report import write_report", "plots.report"),
        ("plots.frame.rows", "from greenprune import ConsensusGating", "greenprune"),
    ],
)
def test_an_upward_import_is_found(name: str, line: str, said: str) -> None:
    (sentence,) = upward(graph_with(f"greenprune.{name}", line))
    assert sentence.startswith(f"greenprune.{name}, line ")
    assert sentence.endswith(f"{'.'.join(name.split('.')[:2])} may not import {said}")


def test_a_loop_is_found() -> None:
    line = "from greenprune.methods.gating.module import ConsensusGating"
    found = loop(graph_with("greenprune.methods.gating.heads", line))
    assert found[0] == found[-1]
    assert {"greenprune.methods.gating.heads", "greenprune.methods.gating.module"} <= set(found)


def test_a_room_that_nobody_placed_is_named() -> None:
    with pytest.raises(AssertionError, match=r"plots\.maps: a room that is not listed"):
        place("plots.maps")


def borrowed(name: str, text: str) -> list[str]:
    """What a file imports from another one that only imports it itself, as sentences. A package's own face may do so."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module in KNOWN and KNOWN[node.module].name != "__init__.py":
            lent = imports_at_top(KNOWN[node.module])
            found += [
                f"{name}, line {node.lineno}: {alias.name} is defined in {lent[alias.name]}, not in {node.module}"
                for alias in node.names
                if alias.name in lent and f"{node.module}.{alias.name}" not in KNOWN
            ]
    return found


@cache
def imports_at_top(path: Path) -> dict[str, str]:
    """By name: from which of our modules a file has it."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    froms = [node for node in body if isinstance(node, ast.ImportFrom) and str(node.module).startswith("greenprune")]
    return {alias.asname or alias.name: str(node.module) for node in froms for alias in node.names}


def test_names_are_imported_from_where_they_are_defined() -> None:
    found = [line for name, path in KNOWN.items() for line in borrowed(name, path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)
    assert borrowed("x", "from greenprune.methods.structure.trace import Structure, trace") == [
        "x, line 1: Structure is defined in greenprune.methods.structure.units, not in greenprune.methods.structure.trace"
    ]
