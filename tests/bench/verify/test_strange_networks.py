"""A stranger's network that raises whatever it likes: a wrong cell of its own row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.load import load
from greenprune.bench.data.splits import Split
from greenprune.bench.records.record import write_record
from greenprune.bench.records.store import save_model
from greenprune.bench.verify.means import Means
from greenprune.bench.verify.run import check_run
from torch import nn

from tests.plots.records import record

NETWORK = """
from torch import nn

class Strange(nn.Module):
    raises_at = 0

    def __init__(self, classes):
        super().__init__()
        self.layer = nn.Linear(3, classes)

    def forward(self, x):
        if len(x) == Strange.raises_at:
            raise AttributeError("mask")
        return self.layer(x.mean((2, 3)))
"""


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "strange_networks.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import strange_networks  # type: ignore[import-not-found]

    monkeypatch.setattr(strange_networks.Strange, "raises_at", 0)
    return strange_networks


def few_images() -> Dataset:
    data = load("digits")
    return replace(data, test=Split(data.test.images[:9], data.test.targets[:9]))


@pytest.mark.parametrize(
    ("raises_at", "columns"),
    [(0, set()), (4, {"weights"}), (9, {"score"}), (2, {"weights", "MACs"})],  # two while it is loaded and counted
)
def test_whatever_it_raises_is_a_wrong_cell(
    tmp_path: Path, strange: ModuleType, raises_at: int, columns: set[str]
) -> None:
    name = "strange_networks:Strange"
    network: nn.Module = strange.Strange(10)
    save_model(network, tmp_path, name=name, classes=10, input_shape=(3, 32, 32))
    settings = {"dataset": "digits", "model": name, "task": {"name": "classification"}}
    write_record(record(settings=settings), tmp_path)
    data = few_images()
    strange.Strange.raises_at = raises_at
    row, found = check_run(tmp_path, "mine/dense-1-s0", Means(lambda _: data, trust=True))
    assert found is not None
    told = {name: cell.text for name, cell in row.cells.items() if "AttributeError: mask" in cell.text}
    assert set(told) == columns
    assert all(cell.state == "wrong" for name, cell in row.cells.items() if name in told)
    assert torch.is_grad_enabled()
