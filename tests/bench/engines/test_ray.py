"""Runs as tasks of Ray, on a Ray that is started here."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from greenprune.bench.data.load import load
from greenprune.bench.engines.engine import Engine, Place
from greenprune.bench.engines.launch import Outcome, launch
from greenprune.bench.engines.local import Local
from greenprune.bench.engines.ray import NOT_HERE, EngineOptions, make
from greenprune.bench.errors import UserError
from greenprune.bench.plan.cluster import Site
from greenprune.bench.plan.plan import plan
from greenprune.bench.records.load import read_record
from greenprune.bench.run.display import Lines
from greenprune.bench.suite.file import load_suite
from rich.console import Console
from safetensors.torch import load_file

from tests.conftest import SUITE, wait_until

NETWORK = '''\
"""Stops for ever once it was saved, as long as the file `fate` says so."""

import os
import time
from pathlib import Path

import tiny_networks
from torch import nn


class Fated(nn.Module):
    def forward(self, x):
        if self.training and Path("fate").exists() and list(Path("by_ray").rglob("checkpoint.pt")):
            Path("hanging").write_text(str(os.getpid()))
            time.sleep(600)
        return x


def fated(classes):
    return nn.Sequential(Fated(), tiny_networks.tiny(classes))
'''


@pytest.fixture(scope="module")
def ray_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")  # Ray gives a task as many threads as it has cores: bits depend on that
        without_broken_amdsmi(tmp_path_factory.mktemp("stub"), patch)
        ray = pytest.importorskip("ray", reason="Ray is not installed: python -m pip install 'greenprune[ray]'")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
        yield
        ray.shutdown()


def without_broken_amdsmi(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Ray, here and in its own processes, takes it that AMD's package can be imported where it is there. Zeus brings it
    along, and without AMD's library it cannot."""
    try:
        importlib.import_module("amdsmi")
    except ImportError:
        return
    except Exception:
        (folder / "amdsmi.py").write_text("raise ImportError('no library')")
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))


@pytest.fixture
def suite(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A suite of one run that is saved at every step, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fated_network.py").write_text(NETWORK)
    (tmp_path / "tiny_networks.py").write_text((workplace / "tiny_networks.py").read_text())
    only_dense = "".join(f'[[methods]]\nname = "{name}"\n\n' for name in ("gated", "magnitude"))
    text = SUITE.replace(only_dense, "").replace("tiny_networks:tiny", "fated_network:fated")
    (tmp_path / "tiny.toml").write_text(text + "\n[run]\ncheckpoint_minutes = 0.0001\n")
    yield tmp_path / "tiny.toml"
    for name in ("fated_network", "tiny_networks"):
        sys.modules.pop(name, None)


def done_by(engine: Engine, suite: Path, folder: Path) -> Outcome:
    data = {"digits": load("digits")}
    loaded = load_suite(str(suite))
    return launch(
        "tiny", plan(loaded, data, "cpu"), folder, engine=engine, data_root=None, command="",
        display=Lines(Console(quiet=True)), data=data, running=loaded.run,
    )  # fmt: skip


def test_a_killed_process_is_started_again_and_ends_as_if_nothing_had_happened(ray_here: None, suite: Path) -> None:
    here, by_ray = suite.parent / "here", suite.parent / "by_ray"
    assert done_by(Local(Place()), suite, here).finished == ("dense-1-s0",)
    fate, hanging = suite.parent / "fate", suite.parent / "hanging"
    fate.touch()
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(done_by, make(EngineOptions(), Place()), suite, by_ray)
        assert wait_until(lambda: outcome.done() or (hanging.exists() and hanging.read_text() != ""))
        fate.unlink()
        ray_worker = psutil.Process(int(hanging.read_text())).parent()
        assert ray_worker is not None
        os.kill(ray_worker.pid, signal.SIGKILL)
        assert outcome.result(timeout=120).finished == ("dense-1-s0",)
    record = read_record(by_ray / "dense-1-s0" / "record.json")
    assert (record.status, record.valid, record.interruptions) == ("done", True, 1)
    networks = [load_file(folder / "dense-1-s0" / "model.safetensors") for folder in (here, by_ray)]
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


def test_a_run_begins_when_its_pilot_has_ended(ray_here: None, suite: Path) -> None:
    """And finds in its record how long it may train."""
    pruned = SUITE.replace("[training]", 'views = ["samples", "macs"]\n\n[training]', 1)
    suite.write_text(pruned.replace('[[methods]]\nname = "gated"\n\n', ""))
    outcome = done_by(make(EngineOptions(), Place()), suite, suite.parent / "by_ray")
    assert outcome.finished[-1] == "magnitude-0.5-s0-equal-macs"
    assert set(outcome.finished) == {"dense-1-s0", "magnitude-0.5-s0", "magnitude-0.5-s0-equal-macs"}


def test_what_no_node_has_is_refused_instead_of_waited_for(ray_here: None, suite: Path) -> None:
    engine = make(EngineOptions(num_cpus=64, num_gpus=2), Place())
    with pytest.raises(
        UserError, match=r"a run needs 64 CPU, 2 GPU, and no node has as much; the most of each is 2 CPU, 0 GPU"
    ):
        done_by(engine, suite, suite.parent / "by_ray")


def test_where_ray_is_not_installed_it_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    engine = make(EngineOptions(), Place())
    with pytest.raises(UserError) as caught:
        engine.submit((), print)
    assert str(caught.value) == NOT_HERE
    assert list(engine.cancel(tmp_path)) == []  # `greenprune cancel` asks every engine


def test_a_plan_knows_what_a_run_is_given() -> None:
    asked = Site("ray", at_once=4, gpus=1)
    assert EngineOptions(num_cpus=6).site(asked).cores == 6
    assert EngineOptions().site(asked).gpus == 1
    assert EngineOptions(num_gpus=0).site(asked).gpus == 0


def test_the_device_is_that_of_the_nodes() -> None:
    assert EngineOptions(address="auto", num_gpus=1).device("auto") == "cuda"  # whatever is here
    assert EngineOptions(num_gpus=0).device("auto") == "cpu"
    assert EngineOptions().device("auto") is None
    assert EngineOptions(address="auto").device("cuda") == "cuda"
    with pytest.raises(UserError, match="--device cuda: runs have no GPU"):
        EngineOptions(num_gpus=0).device("cuda")
