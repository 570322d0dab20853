"""A folder to work in with networks of a user's own, and one small suite that was killed and then finished."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from greenprune.bench.run import process as processes
from greenprune.bench.run import side_by_side

from tests.preloaded import Server

NETWORKS = '''\
"""A user's networks, some of them with a fate: what fate.json says about their seed happens to them."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

import greenprune.bench.inference.pair


class Fate(nn.Module):
    """Hands its input on; at the third training step the fate comes true."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        fate = Path("fate.json")
        if self.steps != 3 or not fate.exists():
            return x
        match json.loads(fate.read_text()).get(str(torch.initial_seed())):
            case "crash":
                print("3")  # JSON, but no event
                print("last words", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGSEGV)
            case "raise":
                raise RuntimeError("no luck today")
            case "hang":
                Path("hanging").write_text(str(os.getpid()))
                time.sleep(600)
        return x


def tiny(classes):
    greenprune.bench.inference.pair.CPU_BLOCK_S = 0.01  # nothing here depends on how exact timings are
    return nn.Sequential(
        Fate(),
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
    )


def flat(classes):
    """Nothing to prune."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))
'''

SUITE = """\
name = "tiny"
dataset = "digits"
model = "tiny_networks:tiny"
budgets = [0.5]
seeds = [0]

[training]
epochs = 2
batch_size = 64

[[methods]]
name = "dense"

[[methods]]
name = "gated"

[[methods]]
name = "magnitude"

[measurement]
inference_seconds = 0.1
inference_batch_sizes = [16]
"""


SLOWEST = (
    "engines/test_slurm",
    "cli/test_main",  # tells the story that others wait for
    "run/test_interruptions",
    "distributed/test_run",
    "inference/test_budget_costs",
    "gate/test_gate",
)
"""Files that take a minute or more, in this order: begun last, one of them keeps one process busy while the others have
nothing left to do."""


MEASURE = (
    "bench/command/",
    "bench/energy/",
    "bench/inference/",
    "bench/cli/test_energy",
    "bench/records/test_run_energy",
    "bench/run/test_shares",
    "bench/suite/test_views",
    "docs/test_blocks",
    "integrations/test_lightning",
    "methods/structure/test_counting",
)
"""What measures seconds or joules by the real clock; so does whatever uses the stand-in of the NVML library."""

AGAIN = 2
"""A machine that stops a process for a tenth of a second spoils one measurement, not what measures. A test of these fails
when it fails three times; that it was run again is in the summary (R)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(part in item.nodeid for part in MEASURE) or "standin" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=AGAIN))

    def place(item: pytest.Item) -> int:
        return next((i for i, part in enumerate(SLOWEST) if part in item.nodeid), len(SLOWEST))

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def quick_workers() -> Iterator[dict[str, str]]:
    """Workers that a test's own process starts come with their libraries loaded; see `tests.preloaded`. The environment in
    which they were."""
    environment = processes.ENVIRONMENT | os.environ | {"OMP_NUM_THREADS": "1"}
    server = Server(environment)
    with pytest.MonkeyPatch.context() as patch:
        for starts in (processes, side_by_side):
            patch.setattr(starts, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": server.popen}))
        yield environment
    server.close()


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny_networks.py and tiny.toml. To be the working directory, see `at_work`."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "tiny_networks.py").write_text(NETWORKS, encoding="utf-8")
    (folder / "tiny.toml").write_text(SUITE, encoding="utf-8")
    return folder


@pytest.fixture
def at_work(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workplace, as working directory of this process and of those that it starts."""
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return workplace


FIGURES = "greenprune.plots.report.report.FIGURES"


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures: to draw them takes longer than all the rest of a small suite."""
    monkeypatch.setattr(FIGURES, ())


@dataclass(frozen=True)
class Story:
    """What happened to the suite tiny.toml, and the folder with its results."""

    folder: Path
    complete_when_killed: dict[str, bytes]  # run and content of its record
    orphan_ended: bool  # the process of the run that was training
    exit_code: int  # of the second start
    output: str


@pytest.fixture(scope="session")
def story(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """`tell` it, once for all processes that run the tests: the others have a copy of its folder."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return tell(workplace)
    import fcntl  # not on Windows, where the tests run in one process

    shared = tmp_path_factory.getbasetemp().parent / "story"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = shared / "story.pickle"
        if not kept.exists():
            own = tell(workplace)
            shutil.copytree(own.folder, shared / "tiny")
            kept.write_bytes(pickle.dumps(own))
            return own
    folder = Path(shutil.copytree(shared / "tiny", workplace / "results" / "tiny"))
    return replace(pickle.loads(kept.read_bytes()), folder=folder)


def tell(workplace: Path) -> Story:
    """Start the suite, kill the launcher with SIGKILL while the second run trains, start it again and let it finish."""
    command = [sys.executable, "-m", "greenprune", "run", "tiny.toml"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    folder, fate, hanging = workplace / "results" / "tiny", workplace / "fate.json", workplace / "hanging"
    with (workplace / "first.log").open("w") as log:
        launcher = subprocess.Popen(command, cwd=workplace, env=environment, stdout=log, stderr=log)
        try:
            wait_until(lambda: bool(records(folder)) or launcher.poll() is not None)
            fate.write_text('{"0": "hang"}')
            wait_until(lambda: bool(hanging.exists() and hanging.read_text()) or launcher.poll() is not None)
        finally:
            launcher.kill()
            launcher.wait()
    complete = records(folder)
    orphan = int(hanging.read_text())
    fate.unlink()
    ended = wait_until(lambda: not is_running(orphan), limit_s=30)
    if not ended:
        os.kill(orphan, 9)
    again = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
    return Story(folder, complete, ended, again.returncode, again.stdout + again.stderr)


def wait_until(true: Callable[[], bool], limit_s: float = 120) -> bool:
    """Whether it came true."""
    end_s = time.monotonic() + limit_s
    while not true() and time.monotonic() < end_s:
        time.sleep(0.02)
    return true()


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def records(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("*/record.json"))}
