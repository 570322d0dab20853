"""The code blocks of the README and of docs/, found and run by Sybil.

Python blocks of a page are executed one after the other in one namespace. Blocks with a title are files, written where the
page's other blocks are run. TOML blocks that are suites are checked as suites. Commands of `greenprune` go through its parser,
their suites are loaded, and those in `RUN` are run; whatever else a block says to type must be in `NOT_RUN`.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from sybil import Document, Example, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from tests.docs.folders import folders

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]

NOT_RUN = {
    "python -m pip install ": "installs",
    "python -m pip install tox && tox": "these tests, in new environments",
    "pre-commit install": "changes the repository",
    "python -m tests.methods.zoo.table ": "measures for half an hour; tests/methods/zoo has tests of its own",
    "pytest --benchmark": "measures for a minute; tests/benchmarks has tests of its own",
    "sudo ": "changes the machine",
    "docker run ": "needs a container engine",
    "python examples/language_model.py": "trains for minutes; tests/examples has a short run",
}
"""Commands that are not run here, by how they begin, and why."""

RUN = {
    "greenprune doctor",
    'greenprune energy -- python -c "print(sum(range(10**6)))"',
    "greenprune compare results/paper-cpu results/paper-cpu",
}
"""Commands of greenprune that are cheap enough to be run."""

FRAGMENTS = {"[project.entry-points": "a part of a pyproject.toml", 'address = "auto"': "options of an engine"}
"""TOML that is no suite and no part of one, by how it begins."""

OPTIONAL = {"torch.onnx.export": "onnxscript"}
"""What a Python block needs that an installation may lack; without it the block is only compiled."""


class Block(argparse.Namespace):
    """One fenced block: `language`, `title` (a file name, or ""), `source`."""

    language: str
    title: str
    source: str


def document(page: str, evaluate: Callable[[Example], None]) -> Document:
    """The page as Sybil sees it, each fenced block an example for `evaluate`."""
    lexer = RawFencedCodeBlockLexer(
        re.compile(r'(?P<language>\w*)[ \t]*(?:title="(?P<title>[^"]*)")?[ \t]*$\n', re.MULTILINE)
    )

    def parser(text: Document) -> Iterator[Region]:
        for region in lexer(text):
            found = region.lexemes
            region.parsed = Block(language=found["language"], title=found["title"] or "", source=found["source"])
            region.evaluator = evaluate
            yield region

    return Document.parse(str(ROOT / page), parser)


class Runner:
    """Runs the blocks of one page in the folder `place`, which holds links to results/ and the blocks that are files.

    Args:
        place: an empty folder; the working directory while blocks are run.
        names: what Python blocks of the page find without having made it.
    """

    def __init__(self, place: Path, names: dict[str, Any]) -> None:
        self.place, self.names = place, names
        self.python = PythonEvaluator()

    def __call__(self, example: Example) -> None:
        block: Block = example.parsed
        example.document.namespace.update({k: v for k, v in self.names.items() if k not in example.document.namespace})
        if block.title:
            (self.place / block.title).write_text(block.source, encoding="utf-8")
        runs = {"python": self.run_python, "sh": self.run_shell, "toml": self.check_toml, "yaml": self.check_yaml}
        if block.language == "text":
            return
        if block.language not in runs:
            raise AssertionError(f'a block in "{block.language}": allowed are text, {", ".join(runs)}')
        runs[block.language](example, block)

    def run_python(self, example: Example, block: Block) -> None:
        missing = [name for call, name in OPTIONAL.items() if call in block.source and not _importable(name)]
        if missing:
            compile(block.source, example.path, "exec")
            return
        example.parsed = block.source
        self.python(example)

    def check_toml(self, example: Example, block: Block) -> None:
        data = tomllib.loads(block.source)
        if any(block.source.startswith(begins) for begins in FRAGMENTS):
            return
        if block.source.startswith("slurm_"):
            from greenprune.bench.engines.catalogue import checked
            from greenprune.bench.engines.cluster.options import EngineOptions

            checked(EngineOptions, data, block.title, "slurm")
            return
        whole = {
            "name": "fragment", "dataset": "digits", "model": "resnet20", "budgets": [0.5],
            "training": {"epochs": 1}, "methods": [{"name": "dense"}, {"name": "gated"}],
        }  # fmt: skip
        path = self.place / (block.title or "block.toml")
        if not block.title:
            text = block.source if "name" in data else _toml(whole, data) + block.source
            path.write_text(text, encoding="utf-8")
            if "name" in data:
                (self.place / f"{data['name']}.toml").write_text(text, encoding="utf-8")
        from greenprune.bench.suite.file import load_suite

        load_suite(path.name)

    def check_yaml(self, example: Example, block: Block) -> None:
        found = yaml.safe_load(block.source)
        if isinstance(found, dict):  # of Kubernetes
            found = [{"run": found["spec"]["entrypoint"]}]
        for step in found:
            self.check_command(step["run"], run=False)

    def run_shell(self, example: Example, block: Block) -> None:
        for line in block.source.splitlines():
            if command := re.sub(r"(^|\s+)#.*", "", line).strip():
                self.check_command(command, run=True)

    def check_command(self, command: str, *, run: bool) -> None:
        """Through the parser of greenprune; the rest must be known."""
        from greenprune.bench.cli.energy import split_command
        from greenprune.bench.cli.main import main, parser

        known = any(command.startswith(begins) for begins in NOT_RUN)
        command = command.rpartition("&& ")[2]  # what is installed before it matters not
        if not command.startswith("greenprune "):
            if not known:
                raise AssertionError(f"{command}: is neither of greenprune nor in NOT_RUN")
            return
        typed = shlex.split(command)[1:]
        argv, _ = split_command(typed)
        arguments = parser().parse_args(argv)
        if run and command in RUN:
            if code := main(typed):
                raise AssertionError(f"{command}: exit code {code}")
        elif hasattr(arguments, "suite"):
            from greenprune.bench.cli.arguments import suite_of

            for name in [arguments.suite, *getattr(arguments, "more", [])]:
                suite_of(argparse.Namespace(**vars(arguments) | {"suite": name}))


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def _toml(whole: dict[str, Any], given: dict[str, Any]) -> str:
    """The keys of `whole` that `given` lacks, inline, so that the tables of a fragment can follow."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in whole.items() if key not in given)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def example_names() -> dict[str, Any]:
    """What the README's Python block speaks of: a model, its inputs, a loader."""
    import torch
    import torch.nn.functional as F
    from greenprune.bench.models import build

    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, 32, 32, generator=generator)
    loader = [(images[i : i + 4], torch.arange(4)) for i in range(0, 40, 4)]
    return {
        "torch": torch,
        "F": F,
        "model": build("resnet20", 10, seed=0),
        "example_inputs": images[:2],
        "loader": loader,
    }


def prepare(place: Path) -> None:
    """Links to what the repository has, and a stored run, as blocks speak of them."""
    (place / "results").mkdir()
    os.symlink(ROOT / "examples", place / "examples")
    for folder in folders():
        os.symlink(folder, place / "results" / folder.name)


def stored_run(folder: Path) -> None:
    """A results folder with one run and its network, as `quickstart` would leave it: a record of paper-cpu, resnet20."""
    import shutil

    from greenprune.bench.models import build
    from greenprune.bench.records.store import save_model

    run = folder / "gated-0.5-s0"
    run.mkdir(parents=True)
    shutil.copy(ROOT / "results" / "paper-cpu" / "gated-0.5-s9" / "record.json", run)
    save_model(build("resnet20", 10, seed=0), run, name="resnet20", classes=10, input_shape=(3, 32, 32))
