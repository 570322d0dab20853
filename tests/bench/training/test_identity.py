"""What a run is made of: the same for the same, another one for whatever decides the result."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from greenprune.bench import models
from greenprune.bench.models.definition import structure_hash, weights_hash
from greenprune.bench.suite.recipe import Training
from greenprune.bench.training import sources
from greenprune.bench.training.identity import code_hash_of, method_hash_of, network_hashes
from greenprune.bench.training.sources import files_of, method_hash
from greenprune.methods import Method, find
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor] = F.relu, scale: float = 1.0, heads: int = 2) -> None:
        super().__init__()
        self.act, self.scale = act, scale
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.attention = nn.MultiheadAttention(4, heads)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.scale * self.act(self.conv(x)).mean((2, 3)))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3))) if x.sum() > 0 else self.fc(-x.mean((2, 3)))


def test_a_network_is_what_it_computes_not_what_it_is_called() -> None:
    first = structure_hash(Net())
    assert structure_hash(Net()) == first  # its initial weights are others
    others = [Net(torch.sigmoid), Net(scale=0.5), Net(heads=4)]
    assert len({first, *map(structure_hash, others)}) == 4


def test_constants_of_a_forward_count() -> None:
    class Shifted(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.fc, self.by = nn.Linear(3, 10), [torch.tensor([by])]

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.mean((2, 3)) + self.by[0])

    assert structure_hash(Shifted(1.0)) == structure_hash(Shifted(1.0)) != structure_hash(Shifted(2.0))


def test_a_network_that_cannot_be_traced_is_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "from torch import nn\nclass Odd(nn.Module):\n    def forward(self, x):\n        return x if x.sum() > 0 else {}\n"
    found = []
    for name, other in (("odd_one", "-x"), ("odd_two", "-2 * x"), ("odd_three", "-x")):
        (tmp_path / f"{name}.py").write_text(text.format(other))
        monkeypatch.syspath_prepend(str(tmp_path))
        found.append(structure_hash(__import__(name).Odd()))
        monkeypatch.delitem(sys.modules, name)
    assert found[0] == found[2] != found[1]
    assert structure_hash(Untraceable()) == structure_hash(Untraceable())


def test_networks_are_left_in_their_mode_and_weights_are_told_apart() -> None:
    model = models.build("resnet20", 10, seed=0)
    model.layer1.eval()
    structure_hash(model)
    assert model.training
    assert not model.layer1.training
    hashes = [weights_hash(models.build("resnet20", 10, seed=seed)) for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_method_stands_on_its_file_and_what_that_imports_in_methods() -> None:
    files = {name.removeprefix("greenprune.methods.") for name in files_of(find("magnitude"))}
    assert {"magnitude", "base", "structure.surgery", "budget.select", "cost.costs"} <= files
    assert not {"gated", "gating.module", "slimming", "catalogue"} & files
    assert {"gating.module", "gating.heads"} <= {n.removeprefix("greenprune.methods.") for n in files_of(find("gated"))}
    assert all(path.is_file() for path in files_of(find("dynamic")).values())


class Restless:
    """Garbage whose end lets another thread go on, wherever the collector happens to run."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        time.sleep(1e-4)


def test_several_threads_may_ask_for_files_at_once() -> None:
    """Python 3.11 parses files in one thread alone: python/cpython#106905."""
    names = ("gated", "dynamic", "depgraph", "magnitude")
    alone = [method_hash(find(name)) for name in names]
    method_hash_of.cache_clear()
    sources._imported.cache_clear()

    def asked(name: str) -> str:
        Restless()
        return method_hash_of(name)

    threshold = gc.get_threshold()
    gc.set_threshold(60)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(asked, names)) == alone
    finally:
        gc.set_threshold(*threshold)


def test_several_threads_may_ask_for_networks_at_once() -> None:
    """torch.fx changes how modules are called while it traces, in all threads."""
    network_hashes.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: network_hashes("torchvision/squeezenet1_1", 10, seed), range(4)))
    assert len({structure for structure, _ in found}) == 1
    assert len({weights for _, weights in found}) == 4


THIRD_PARTY = """
from typing import TYPE_CHECKING
from greenprune.methods import Uniform
from mine_helper import factor
import mine_package.deep
import torch
if TYPE_CHECKING:
    from mine_types import Whatever


class Mine(Uniform):
    name = "mine"
    source = "here"
    by = factor
"""


def test_a_method_of_a_third_party_stands_on_the_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_package").mkdir()
    files = {
        "mine.py": THIRD_PARTY,
        "mine_helper.py": "factor = 1\n",
        "mine_types.py": "Whatever = int\n",
        "mine_package/__init__.py": "",
        "mine_package/deep.py": "from . import side\n",
        "mine_package/side.py": "value = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    method: type[Method] = find("mine:Mine")
    found = files_of(method)
    own = {name for name in found if not name.startswith("greenprune")}
    assert own == {"mine", "mine_helper", "mine_package.deep", "mine_package.side"}
    assert "greenprune.methods.uniform" in found
    before = method_hash(method)
    assert method_hash(method) == before
    for name in ("mine_helper.py", "mine_package/side.py", "mine.py"):
        (tmp_path / name).write_text(files[name] + "# edited\n")
        assert method_hash(method) != before
        (tmp_path / name).write_text(files[name])
    (tmp_path / "mine_types.py").write_text("Whatever = str\n")  # for the type checker alone
    assert method_hash(method) == before


def test_functions_that_a_recipe_names_are_their_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "def make(groups, *, lr, weight_decay):\n    return {0}\n"
    monkeypatch.chdir(tmp_path)
    found = []
    for name, result in (("opt_one", "None"), ("opt_two", "1"), ("opt_three", "None")):
        (tmp_path / f"{name}.py").write_text(text.format(result))
        found.append(code_hash_of(Training(epochs=1, optimizer=f"{name}:make")))
    assert len(set(found)) == 3  # their names are part of it, as of methods
    assert all(found)
    assert code_hash_of(Training(epochs=1)) is None
    code_hash_of.cache_clear()
    (tmp_path / "opt_one.py").write_text(text.format("2"))
    assert code_hash_of(Training(epochs=1, optimizer="opt_one:make")) != found[0]
