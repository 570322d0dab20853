"""A sensor that fails in the middle of a training run: the run finishes, and its record says what is invalid."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.energy.conftest import PREAMBLE, with_standin
from tests.bench.energy.rapl.test_rapl import RANGE_UJ
from tests.preloaded import Server

RUN = """
import functools, threading
from pathlib import Path
import greenprune.bench.run.worker, greenprune.bench.inference.pair, greenprune.bench.distributed.measuring
from greenprune.bench.data.load import load
from greenprune.bench.run.job import Job
from greenprune.bench.plan.plan import plan
from greenprune.bench.records.load import read_record
from greenprune.bench.suite.file import load_suite

greenprune.bench.inference.pair.CPU_BLOCK_S = 0.01

def trained(folder, meter, at_step, happens):
    # Run dense of tiny.toml in this process with `meter`; `happens` after the training step `at_step`.
    greenprune.bench.distributed.measuring.EnergyMeter = lambda **_: meter
    run, = [r for r in plan(load_suite("tiny.toml"), {"digits": load("digits")}, "cpu") if r.key == "dense-1-s0"]
    steps = []
    charge = greenprune.bench.training.loop.Ledger.charge
    def charged(self, *arguments, **options):
        steps.append(1)
        if len(steps) == at_step:
            happens()
        return charge(self, *arguments, **options)
    greenprune.bench.training.loop.Ledger.charge = charged
    job = Job(suite="tiny", key=run.key, settings=run.settings, data_root=None, folder=folder, command="")
    greenprune.bench.run.worker.run(job, lambda *_, **__: None)
    record = read_record(Path(folder) / "record.json")
    assert len(steps) > at_step
    sources = {s.name: s for s in record.energy["training"].sources}
    say(status=record.status, accuracy=record.test_score, sources={n: s.model_dump() for n, s in sources.items()},
        measured=record.energy["training"].energy_j("measured"), modelled=record.energy["training"].energy_j("modelled"),
        batches=[i.energy_ratio for i in record.inference], duration_s=record.energy["training"].duration_s)
"""


@pytest.fixture(scope="module")
def server(standin: Path) -> Iterator[Server]:
    """Of scripts that find the stand-in, with torch loaded: what fails here is looked for while a run goes on."""
    server = Server(with_standin(standin) | {"OMP_NUM_THREADS": "1"})
    yield server
    server.close()


@pytest.fixture
def gpu_script(standin: Path, server: Server) -> Callable[[str], dict[str, Any]]:
    """As everywhere in this folder."""

    def run(source: str) -> dict[str, Any]:
        code = f"import warnings\nwarnings.simplefilter('error')\n{PREAMBLE}{source}"
        environment = with_standin(standin) | {"OMP_NUM_THREADS": "1"}
        done = server.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.parametrize(("code", "text"), [(15, "the GPU is lost"), (16, "the GPU must be reset")])
def test_a_gpu_that_is_lost_in_the_middle_of_a_run(gpu_script, at_work, tmp_path, code, text) -> None:
    source = f"""
begin(TRACE=300, PERIOD_MS=10)
functions = ("GetTotalEnergyConsumption", "GetFieldValues", "GetPowerUsage", "GetComputeRunningProcesses_v3")
def lose():
    os.environ["STANDIN_ERRORS"] = ";".join(f"nvmlDevice{{name}}@{{clock()}}-1e9={code}" for name in functions)
trained({str(tmp_path)!r}, EnergyMeter("cuda"), 20, lose)
"""
    found = gpu_script(RUN + source)
    assert found["status"] == "done"
    assert found["accuracy"] is not None
    gpu = found["sources"]["nvml:0"]
    assert (gpu["valid"], gpu["energy_j"]) == (False, None)
    assert text in gpu["reason"]
    assert found["measured"] is None  # not 0 J, and not the joules until then
    assert found["modelled"] > 0  # the rest of the record stands
    assert all("measured" not in ratios and "modelled" in ratios for ratios in found["batches"])


def test_a_counter_that_is_reset_in_the_middle_of_a_run(gpu_script, at_work, tmp_path) -> None:
    source = f"""
begin(TRACE=300, PERIOD_MS=10)
def reset():
    os.environ["STANDIN_RESET_AT"] = str(clock())
trained({str(tmp_path)!r}, EnergyMeter("cuda"), 20, reset)
"""
    found = gpu_script(RUN + source)
    assert found["status"] == "done"
    gpu = found["sources"]["nvml:0"]
    assert gpu["energy_j"] is None or (gpu["kind"] == "sampled" and "reset" in gpu["note"])
    assert found["measured"] is None
    if gpu["energy_j"] is not None:
        assert gpu["energy_j"] == pytest.approx(300 * found["duration_s"], rel=0.1)


def test_a_rapl_counter_that_is_full_in_the_middle_of_a_run(gpu_script, at_work, tmp_path) -> None:
    source = f"""
from tests.bench.energy.rapl.test_rapl import zone
begin()
file = zone(Path({str(tmp_path / "cap")!r}) / "intel-rapl:0", "package-0", {RANGE_UJ} - 1_000_000) / "energy_uj"
trained({str(tmp_path)!r}, EnergyMeter("cpu", powercap=file.parents[1]), 20, lambda: file.write_text("2000000"))
"""
    found = gpu_script(RUN + source)
    assert found["status"] == "done"
    assert found["sources"]["rapl:package-0"]["energy_j"] == pytest.approx(3.0, rel=1e-5)


def test_a_rapl_counter_that_goes_away_in_the_middle_of_a_run(gpu_script, at_work, tmp_path) -> None:
    source = f"""
from tests.bench.energy.rapl.test_rapl import zone
begin()
file = zone(Path({str(tmp_path / "cap")!r}) / "intel-rapl:0", "package-0", 1_000_000) / "energy_uj"
trained({str(tmp_path)!r}, EnergyMeter("cpu", powercap=file.parents[1]), 20, file.unlink)
"""
    found = gpu_script(RUN + source)
    assert found["status"] == "done"
    package = found["sources"]["rapl:package-0"]
    assert package["energy_j"] is None
    assert "energy_uj cannot be read" in package["reason"]


def test_a_window_around_spawned_children_that_measure_too(gpu_script, tmp_path) -> None:
    (tmp_path / "spawned.py").write_text(
        "import time\n"
        "from greenprune.bench.energy import EnergyMeter\n"
        "def child(queue):\n"
        "    with EnergyMeter() as meter, meter.window('child') as w:\n"
        "        time.sleep(0.5)\n"
        "    queue.put([w.reading.sources[0].model_dump(), w.reading.duration_s])\n"
    )
    source = f"""
import multiprocessing
sys.path.insert(0, {str(tmp_path)!r})
from spawned import child
begin(TRACE=300, PERIOD_MS=10)
context = multiprocessing.get_context("spawn")
queue = context.SimpleQueue()
meter = EnergyMeter()
with meter.window("parent") as parent:
    children = [context.Process(target=child, args=(queue,)) for _ in range(2)]
    [c.start() for c in children]
    found = [queue.get() for _ in children]
    [c.join() for c in children]
say(children=found, codes=[c.exitcode for c in children], parent=gpus(parent.reading)[0],
    parent_s=parent.reading.duration_s)
"""
    found = gpu_script(source)
    assert found["codes"] == [0, 0]
    for gpu, duration_s in [*found["children"], (found["parent"], found["parent_s"])]:
        assert gpu["valid"]
        assert gpu["low_j"] <= 300 * duration_s <= gpu["high_j"]
