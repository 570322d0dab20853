"""A command starts at once: what it does not need is not imported."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.plots.records import record, store

LISTED = """
import contextlib, io, json, sys
told = io.StringIO()
with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told), contextlib.suppress(SystemExit):
    from greenprune.bench.cli.main import main
    code = main(json.loads(sys.argv[1]))
    if code:
        sys.exit(told.getvalue())
with open(sys.argv[2], "w") as file:  # `energy` lets go of the standard output when its command has ended
    json.dump(sorted(sys.modules), file)
"""
HEAVY = {"torch", "torchvision", "torch_pruning"}
SLOW = {"pydantic", "rich", "pandas", "numpy", "matplotlib", "codecarbon", "psutil"}


def modules(*arguments: str) -> set[str]:
    """What is imported when the command has done its work, in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "modules.json"
        subprocess.run([sys.executable, "-c", LISTED, json.dumps(arguments), listed], capture_output=True, check=True)
        return {name.split(".")[0] for name in json.loads(listed.read_text())}


def test_the_package_alone_imports_nothing_of_others() -> None:
    code = "import sys, greenprune; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not (HEAVY | SLOW) & set(out.split())


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("plan", "--help"), ("report", "--help")])
def test_help_needs_no_torch(arguments: tuple[str, ...]) -> None:
    assert not HEAVY & modules(*arguments)


def test_the_help_of_all_needs_the_standard_library_alone() -> None:
    assert not (HEAVY | SLOW) & modules("--help")


@pytest.mark.parametrize("arguments", [("schema",), ("doctor", "--idle", "0"), ("energy", "--", "true")])
def test_what_looks_at_no_network_imports_no_torch(arguments: tuple[str, ...]) -> None:
    assert not HEAVY & modules(*arguments)


def test_a_measured_command_needs_neither_tables_nor_figures() -> None:
    assert not {"matplotlib", "scipy"} & modules("energy", "--", "true")


def test_reading_records_imports_no_torch(tmp_path: Path) -> None:
    store(tmp_path / "results", record("dense"), record("gated"))
    folder = str(tmp_path / "results")
    assert not HEAVY & modules("report", folder, "--out", str(tmp_path / "report"))
    assert not HEAVY & modules("compare", folder, folder)


def test_a_suite_is_checked_without_torch(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('name = "x"')
    code = f"""
import sys
from greenprune.bench.cli.main import main
assert main(["run", {str(tmp_path / "bad.toml")!r}]) == 2
print(*sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(out.split())
