"""The suite that is measured together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import greenprune.bench.inference.pair
import pytest
import torch

from tests.bench.inference.joint import FACTORY, WIDTHS, add


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A suite's results folder with three runs and their networks."""
    (tmp_path / "joint_networks.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(greenprune.bench.inference.pair, "CPU_BLOCK_S", 0.01)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    folder = tmp_path / "results" / "mine"
    for key, width in WIDTHS.items():
        add(folder, key, width)
    yield folder
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
