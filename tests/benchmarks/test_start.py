"""What it takes until a command has done next to nothing: a fresh process, its imports, its arguments."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.benchmarks import references
from tests.benchmarks.side_by_side import SideBySide


@pytest.mark.parametrize(
    "arguments", [["--help"], ["schema"], ["energy", "--", "true"]], ids=["help", "schema", "energy"]
)
def test_start(side_by_side: SideBySide, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "greenprune", *arguments]

    def start() -> None:
        subprocess.run(command, check=True, capture_output=True)

    side_by_side(start, references.interpreter())
