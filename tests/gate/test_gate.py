"""`pytest --benchmark` from the repository root, as a user types it, with good code and with bad.

Whether a real clock tells 1.3 from 1.0 depends on what else the machine does meanwhile, so a test that asked it would now
and then fail, or pass, for no reason of ours. The exact factors are asked of a stand-in for the processor's clock, which
counts work; the real clock is asked for a factor that no machine hides.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = "tests/benchmarks/test_forward.py::test_forward[gated]"
ONE = ("-k", "test_forward and gated", "-p", "no:hypothesispytest", "--benchmark-rounds=8")

# Time and joules of the processor are those of the modules it ran: the same work always takes the same. A gated forward
# pass takes CPU_FACTOR times as much of its time and ENERGY_FACTOR times as much of its energy.
COUNTED = """
import dataclasses
import time
import types
import greenprune.bench.energy.meter
import greenprune.bench.energy.sources.modelled
import tests.benchmarks.blocks
from greenprune.bench.energy.sources.modelled import CpuSource
from greenprune.methods import ConsensusGating
from torch.nn.modules.module import register_module_forward_hook

cpu_s = extra_s = 0.0

def count(module, inputs, outputs):
    global cpu_s
    cpu_s += 1e-5

def changed(self, inputs):
    global cpu_s, extra_s
    begun_s = cpu_s
    outputs = forward(self, inputs)
    extra_s += (ENERGY_FACTOR - CPU_FACTOR) * (cpu_s - begun_s)
    cpu_s += (CPU_FACTOR - 1) * (cpu_s - begun_s)
    return outputs

def energy(self):
    return dataclasses.replace(mark(self), total_j=(cpu_s + extra_s) * self._power.power_w)

forward, mark = ConsensusGating.forward, CpuSource.mark
register_module_forward_hook(count)
ConsensusGating.forward, CpuSource.mark = changed, energy
greenprune.bench.energy.find._rapl = lambda place: greenprune.bench.energy.find.Found()  # it would see real joules
greenprune.bench.energy.sources.modelled.RAM_W_PER_GB = 1e-12  # that of memory follows the wall clock
tests.benchmarks.blocks.time = types.SimpleNamespace(perf_counter=time.perf_counter, process_time=lambda: cpu_s)
"""

# The real clock: everything the processor does during a gated forward pass takes three times its time.
SLOWED = """
import time
import greenprune.bench.energy.meter
from greenprune.methods import ConsensusGating

forward = ConsensusGating.forward
greenprune.bench.energy.find._rapl = lambda place: greenprune.bench.energy.find.Found()  # it would see the rest of the machine

def slowed(self, inputs):
    begun_s = time.process_time()
    outputs = forward(self, inputs)
    until_s = time.process_time() + (FACTOR - 1) * (time.process_time() - begun_s)
    while time.process_time() < until_s:
        pass
    return outputs

ConsensusGating.forward = slowed
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


def counted(cpu: float, energy: float) -> str:
    """Name of the plugin with these factors."""
    return f"counted_{round(100 * cpu)}_{round(100 * energy)}"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    for cpu, energy in ((1, 1), (1.1, 1.1), (1.3, 1.3), (1, 1.3)):
        source = COUNTED.replace("CPU_FACTOR", str(cpu)).replace("ENERGY_FACTOR", str(energy))
        (folder / f"{counted(cpu, energy)}.py").write_text(source, encoding="utf-8")
    for factor in (1, 3):
        (folder / f"slowed_{factor}.py").write_text(SLOWED.replace("FACTOR", str(factor)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory, plugins):
    """Storage after the first run, and what that said."""
    storage = tmp_path_factory.mktemp("storage")
    arguments = ("--benchmark", *ONE, f"--benchmark-storage={storage}", "-p", counted(1, 1))
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
    arguments = ("--benchmark", *ONE, f"--benchmark-storage={storage}", *options, "-p", counted(1, 1))
    code, output = gate(*arguments, plugins=plugins)
    assert code == 0, output
    assert "1 passed, " in output  # of tests/benchmarks; nothing else was collected
    assert "CPU time × 1.00 [1.00, 1.00], modelled joules × 1.00 [1.00, 1.00] since 0001_gate.json" in output
    assert output.count(f"{damaged} is left out, it is not a readable run of benchmarks") == 1
    assert len(json.loads(exported.read_text())["benchmarks"]) == 1
    damaged.unlink()
    assert runs(storage)["0004_mine.json"]["regression_gate"]["passed"] is True


def test_a_gated_forward_that_is_30_percent_slower_fails(storage, plugins):
    code, output = gate("--benchmark", *ONE, f"--benchmark-storage={storage}", "-p", counted(1.3, 1.3), plugins=plugins)
    assert code == 1, output
    (failure,) = [line for line in output.splitlines() if line.startswith(f"{NAME}: CPU time to 1.30 [1.30, 1.30] ×")]
    assert "that of 0001_gate.json; tolerated is 1.15 ×" in failure
    assert "modelled joules to 1.30 [1.30, 1.30] ×" in failure  # modelled joules follow CPU time
    assert f"FAILED {NAME}" in output
    assert [run["regression_gate"]["passed"] for run in runs(storage).values()] == [True, False]


def test_a_gated_forward_that_takes_30_percent_more_joules_fails(storage, plugins):
    code, output = gate("--benchmark", *ONE, f"--benchmark-storage={storage}", "-p", counted(1, 1.3), plugins=plugins)
    assert code == 1, output
    (failure,) = [line for line in output.splitlines() if line.startswith(f"{NAME}: modelled joules to 1.30 ")]
    assert "that of 0001_gate.json; tolerated is 1.15 ×" in failure
    assert "CPU time" not in failure.partition(": ")[2]
    assert [run["regression_gate"]["passed"] for run in runs(storage).values()] == [True, False]


def test_ten_percent_more_is_shown_and_tolerated(storage, plugins):
    code, output = gate("--benchmark", *ONE, f"--benchmark-storage={storage}", "-p", counted(1.1, 1.1), plugins=plugins)
    assert code == 0, output
    assert "CPU time × 1.10 [1.10, 1.10], modelled joules × 1.10 [1.10, 1.10] since 0001_gate.json" in output
    code, output = gate(
        *("--benchmark", *ONE, f"--benchmark-storage={storage}", "--benchmark-compare=0001"),
        *("--benchmark-tolerance=0.05", "-p", counted(1.1, 1.1)),
        plugins=plugins,
    )
    assert code == 1, output
    assert "tolerated is 1.05 ×" in output


def test_the_real_clock_sees_a_gated_forward_that_is_three_times_slower(tmp_path, plugins):
    for factor, expected in ((1, 0), (3, 1)):
        arguments = ("--benchmark", *ONE, f"--benchmark-storage={tmp_path}", "-p", f"slowed_{factor}")
        code, output = gate(*arguments, plugins=plugins)
        assert code == expected, output
    (failure,) = [line for line in output.splitlines() if line.startswith(f"{NAME}: CPU time to ")]
    assert "modelled joules to " in failure
    factor = float(failure.partition("CPU time to ")[2].split()[0])
    assert 2 < factor < 4.5


def test_plain_pytest_leaves_benchmarks_out():
    others = (p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name not in ("benchmarks", "__pycache__"))
    everything_else = ("--ignore-glob=tests/test_*", *(f"--ignore=tests/{name}" for name in others))
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
