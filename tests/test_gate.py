"""`pytest --benchmark` from the repository root, as a user types it, with good code and with bad."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = "tests/benchmarks/test_forward.py::test_forward[gated]"
ONE = ("-k", "test_forward and gated", "-p", "no:hypothesispytest", "--benchmark-rounds=20")

# Everything the processor does during a gated forward pass takes 30 % more of its time.
SLOWED = """
import time
from methods import ConsensusGating

forward = ConsensusGating.forward

def slowed(self, inputs):
    begun_s = time.process_time()
    outputs = forward(self, inputs)
    until_s = time.process_time() + 0.3 * (time.process_time() - begun_s)
    while time.process_time() < until_s:
        pass
    return outputs

ConsensusGating.forward = slowed
"""

# The processor draws 30 % more power during a gated forward pass. Modelled joules, also where there is a counter: a
# counter would see what else the machine does while this test runs.
HUNGRY = """
import dataclasses
import time
import bench.energy.meter
from bench.energy.modelled import CpuSource
from methods import ConsensusGating

bench.energy.meter.find_rapl = lambda powercap: ([], [])
forward, mark = ConsensusGating.forward, CpuSource.mark
extra_s = 0.0

def hungry(self, inputs):
    global extra_s
    begun_s = time.process_time()
    outputs = forward(self, inputs)
    extra_s += 0.3 * (time.process_time() - begun_s) * FACTOR
    return outputs

def higher(self):
    read = mark(self)
    return dataclasses.replace(read, total_j=read.total_j + extra_s * self._power.power_w)

ConsensusGating.forward, CpuSource.mark = hungry, higher
"""


def gate(*arguments, plugins=None):
    """Run it with plugins (a folder) that change the code."""
    # This process may itself be a worker of pytest-xdist, which pytest-benchmark would notice.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    search = [str(ROOT)] if plugins is None else [str(ROOT), str(plugins)]
    environment |= {"PYTHONPATH": os.pathsep.join(search), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "slowed.py").write_text(SLOWED, encoding="utf-8")
    (folder / "hungry.py").write_text(HUNGRY.replace("FACTOR", "1"), encoding="utf-8")
    (folder / "counterless.py").write_text(HUNGRY.replace("FACTOR", "0"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory, plugins):
    """Storage after the first run, and what that said."""
    storage = tmp_path_factory.mktemp("storage")
    # More rounds than below, so that the width of every interval is that of the run which is judged.
    arguments = ("--benchmark", *ONE, f"--benchmark-storage={storage}", "--benchmark-rounds=60", "-p", "counterless")
    code, output = gate(*arguments, plugins=plugins)
    assert code == 0, output
    return storage, output


@pytest.fixture
def storage(first, tmp_path):
    """A copy of the storage after the first run."""
    return Path(shutil.copytree(first[0], tmp_path / "storage"))


def runs(storage):
    return {path.name: json.loads(path.read_text()) for path in sorted(storage.glob("*/*.json"))}


def test_first_run_saves_and_says_so(first):
    storage, output = first
    assert f"{NAME}: no saved run of this benchmark as it is now; this one is saved" in output
    (run,) = runs(storage).values()
    assert run["regression_gate"]["passed"] is True
    (benchmark,) = run["benchmarks"]
    assert benchmark["fullname"] == NAME
    extra = benchmark["extra_info"]
    assert extra["macs"] > 40e6 * extra["images"] > 0  # ResNet-20 has 41 million per image, the heads add some
    assert extra["images_per_s"] > 0
    assert extra["energy_j"] > 0
    assert extra["energy_kind"] == "modelled"


def test_unchanged_code_passes_with_the_options_of_pytest_benchmark(storage, plugins, tmp_path):
    """Among them a damaged file in the storage, and one of a failed run."""
    (saved,) = storage.glob("*/*.json")
    failed = saved.read_text().replace('"passed": true', '"passed": false')
    saved.with_name("0002_gate.json").write_text(failed)
    damaged = saved.with_name("0003_gate.json")
    damaged.write_text("{")
    exported = tmp_path / "exported.json"
    options = ("--benchmark-only", "--benchmark-save=mine", f"--benchmark-json={exported}", "--benchmark-columns=min")
    arguments = ("--benchmark", *ONE, f"--benchmark-storage={storage}", *options, "-p", "counterless")
    code, output = gate(*arguments, plugins=plugins)
    assert code == 0, output
    assert "1 passed, 7 deselected" in output  # of tests/benchmarks; nothing else was collected
    assert "since 0001_gate.json" in output
    assert output.count(f"{damaged} is left out, it is not a readable run of benchmarks") == 1
    assert len(json.loads(exported.read_text())["benchmarks"]) == 1
    damaged.unlink()
    assert runs(storage)["0004_mine.json"]["regression_gate"]["passed"] is True


def test_a_gated_forward_that_is_30_percent_slower_fails(storage, plugins):
    code, output = gate(
        "--benchmark", *ONE, f"--benchmark-storage={storage}", "-p", "counterless", "-p", "slowed", plugins=plugins
    )
    assert code == 1, output
    (failure,) = [line for line in output.splitlines() if line.startswith(f"{NAME}: CPU time to ")]
    assert "that of 0001_gate.json; tolerated is 1.15 ×" in failure
    assert "modelled joules to " in failure  # modelled joules follow CPU time
    assert f"FAILED {NAME}" in output
    assert [run["regression_gate"]["passed"] for run in runs(storage).values()] == [True, False]


def test_a_gated_forward_that_takes_30_percent_more_joules_fails(storage, plugins):
    code, output = gate("--benchmark", *ONE, f"--benchmark-storage={storage}", "-p", "hungry", plugins=plugins)
    assert code == 1, output
    (failure,) = [line for line in output.splitlines() if line.startswith(f"{NAME}: modelled joules to ")]
    assert "that of 0001_gate.json; tolerated is 1.15 ×" in failure
    assert "CPU time" not in failure.partition(": ")[2]
    assert [run["regression_gate"]["passed"] for run in runs(storage).values()] == [True, False]


def test_plain_pytest_leaves_benchmarks_out():
    everything_else = ("--ignore-glob=tests/test_*", *(f"--ignore=tests/{f}" for f in ("energy", "methods", "plots")))
    code, output = gate("--collect-only", "-q", *everything_else)
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED, output
    assert "benchmarks" not in output


def test_a_benchmark_named_without_the_option_is_skipped():
    code, output = gate("tests/benchmarks/test_meter.py")
    assert code == 0, output
    assert "a benchmark: runs with --benchmark" in output
    assert "1 skipped" in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-n", "2"], "leave -n out, or add -n 0"),
        (["--benchmark-tolerance=much"], "much: allowed is a fraction from 0 up"),
        (["--benchmark-tolerance=-1"], "-1: allowed is a fraction from 0 up"),
        (["--benchmark-rounds=3"], "3: allowed is a whole number from 4 up"),
        (["--benchmark-storage=elasticsearch+https://host/index"], "compares with saved files"),
    ],
)
def test_what_cannot_work_is_one_sentence(arguments, sentence):
    code, output = gate("--benchmark", *arguments)
    assert code == pytest.ExitCode.USAGE_ERROR, output
    assert len([line for line in output.splitlines() if sentence in line]) == 1
    assert "Traceback" not in output
