"""A suite without a mistake, what it looks like with one, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from greenprune.bench.errors import UserError
from greenprune.bench.suite.file import load_suite

GOOD = """\
name = "mine"
dataset = "digits"
model = "resnet20"
budgets = [0.5, 0.3]
seeds = [0, 1]

[training]
epochs = 2

[[methods]]
name = "gated"

[[methods]]
name = "magnitude"
label = "l2"
options = { norm = "l2" }

[measurement]
inference_seconds = 1
"""

Write = Callable[[str], Path]


def changed(old: str, new: str) -> str:
    """GOOD with one change."""
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def problems(path: Path) -> list[str]:
    """What `load_suite` says about `path`, one line per problem, each without the file's name that it begins with."""
    with pytest.raises(UserError) as caught:
        load_suite(str(path))
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]
