"""The stand-in for the NVML library, and a way to run scripts against it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.energy.sensors.place import SYSFS_VARIABLE

ROOT = Path(__file__).resolve().parents[3]
NO_COUNTER = "nvmlDeviceGetTotalEnergyConsumption@0-1e9=3"  # of the stand-in: a card that has none

# Every script can use: begin(**settings) sets the stand-in and starts its clock; clock() is its time; say(...) answers.
PREAMBLE = """
import json, os, sys, time
from greenprune.bench.energy import EnergyMeter

def begin(**settings):
    for name, value in settings.items():
        os.environ["STANDIN_" + name] = str(value)
    os.environ["STANDIN_EPOCH"] = repr(time.monotonic())

def clock():
    return time.monotonic() - float(os.environ["STANDIN_EPOCH"])

def gpus(reading):
    return [s.model_dump() for s in reading.sources if s.name.startswith("nvml")]

def say(**answer):
    print(json.dumps(answer))
"""


def build_standin(folder: Path) -> Path:
    """Compile the stand-in into `folder` as libnvidia-ml.so.1; skips the test where that is not possible."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler for the stand-in of the NVML library")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "libnvidia-ml.so.1"
    source = ROOT / "tests" / "nvml_standin" / "nvml.c"
    command = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([*command, "-o", str(target), str(source), "-lm"], check=True)
    return folder


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds the stand-in as libnvidia-ml.so.1."""
    return build_standin(tmp_path_factory.mktemp("nvml"))


def with_standin(standin: Path) -> dict[str, str]:
    """The environment of a process that finds the stand-in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "STANDIN_"))}
    return kept | {"LD_LIBRARY_PATH": f"{standin}:{kept.get('LD_LIBRARY_PATH', '')}", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def gpu_script(standin: Path) -> Callable[..., dict[str, Any]]:
    """Run Python source against the stand-in; returns what it passed to `say`."""

    def run(source: str, **environment: str) -> dict[str, Any]:
        env = {**with_standin(standin), **environment}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PREAMBLE + source],
            env=env,
            capture_output=True,
            text=True,
            timeout=300,  # of a machine that is busy with other things
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(autouse=True)
def no_sensors_of_this_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test finds the sensors that it makes itself, and not those of the machine it runs on."""
    monkeypatch.setenv(SYSFS_VARIABLE, str(tmp_path_factory.getbasetemp() / "no-sysfs"))
