"""The generated pages of the documentation say everything that the parser and the schema know."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType

import pytest
from greenprune.bench.cli.main import parser
from greenprune.bench.suite.schema import schema

from tests.docs.readme import ROOT


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py, which is no package; MkDocs, which only its annotations and hooks need, may be missing."""
    names = ["mkdocs.config.defaults", "mkdocs.structure.files"]
    stand_ins = {name: ModuleType(name) for name in names if _missing("mkdocs")}
    for module in stand_ins.values():
        for name in ("MkDocsConfig", "File", "Files"):
            setattr(module, name, object)
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name, stand_in in stand_ins.items():
            patch.setitem(sys.modules, name, stand_in)
        spec.loader.exec_module(module)
    return module


def test_every_command_and_option_has_a_line(generate: ModuleType) -> None:
    page = generate.command_line(parser())
    commands = {name: command for name, command, _ in generate._commands(parser())}
    assert {"run", "plan", "report", "energy", "doctor", "compare"} <= set(commands)
    for name, command in commands.items():
        section = page.split(f"## greenprune {name}\n")[1].split("\n## ")[0]
        for action in command._actions:
            if action.dest != "help" and action.help != "==SUPPRESS==":
                assert f"`{(action.option_strings or [action.metavar or action.dest])[0]}`" in section, (
                    name,
                    action.dest,
                )


def test_every_key_of_a_suite_has_a_line(generate: ModuleType) -> None:
    page = generate.suite_keys(schema())
    keys = {key for table in [schema(), *schema()["$defs"].values()] for key in table.get("properties", ())}
    assert {"dataset", "budgets", "epochs", "crosscheck", "name"} <= keys
    assert [key for key in keys if f"| `{key}` |" not in page] == []


def test_cells_are_text_that_a_table_can_hold(generate: ModuleType) -> None:
    assert generate._cell("a | b\n<c> `d<e>`") == "a \\| b &lt;c> `d<e>`"
    for page in generate.pages().values():
        widths = [len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines() if line.startswith("|")]
        assert widths
        assert min(widths) >= 3


def _missing(name: str) -> bool:
    return importlib.util.find_spec(name) is None
