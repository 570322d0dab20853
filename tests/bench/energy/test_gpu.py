"""The comparison that waits for a GPU, tried on the stand-in of the NVML library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.bench.energy import gpu
from tests.bench.energy.conftest import ROOT


def test_it_runs_from_end_to_end_against_a_card_of_300_w(standin: Path, tmp_path: Path) -> None:
    dummy = tmp_path / "bin" / "nvidia-smi"  # CodeCarbon looks for one that runs
    dummy.parent.mkdir()
    dummy.write_text("#!/bin/sh\nexit 0\n")
    dummy.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "STANDIN_"))}
    environment = {
        **kept,
        "PYTHONPATH": str(ROOT),
        "LD_LIBRARY_PATH": f"{standin}:{kept.get('LD_LIBRARY_PATH', '')}",
        "PATH": f"{dummy.parent}:{kept.get('PATH', '')}",
        "STANDIN_TRACE": "300",
    }
    options = ["--model", "resnet20", "--seconds", "3", "--windows", "2", "--idle", "1", "--train-on", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.energy.gpu", "--out", str(tmp_path), *options],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    watts = found["summary"]["mean_gpu_power_w"]
    assert watts["greenprune"] == pytest.approx(300, rel=0.05)
    assert watts["codecarbon"] == pytest.approx(300, rel=0.2)
    if "zeus" in watts:
        assert watts["zeus"] == pytest.approx(300, rel=0.2)
    else:
        assert "Zeus" in found["summary"]["problems"][0]
    (idle,) = [s for s in found["idle"]["sources"] if s["name"] == "nvml:0"]
    assert idle["energy_j"] == pytest.approx(300 * found["idle"]["duration_s"], rel=0.05)
    assert len(found["windows"]) == 2
    for row in found["windows"]:
        assert row["steps"] >= 1
        assert {check["tool"] for check in row["others"]} == {"zeus", "codecarbon"}
    assert any(row["source"] == "nvml:0" for row in found["doctor"]["sources"])


def test_watts_are_by_the_time_of_each_tool_and_an_invalid_reading_is_left_out() -> None:
    def row(ours_j: float | None, theirs_j: float | None) -> dict:
        source = {"name": "nvml:0", "valid": ours_j is not None, "energy_j": ours_j}
        problem = None if theirs_j is not None else "Zeus: no"
        other = {"tool": "zeus", "gpu_j": theirs_j, "duration_s": 11.0, "problem": problem}
        return {"ours": [source], "duration_s": 10.0, "others": [other]}

    found = gpu.summary([row(1000.0, 1100.0), row(None, 2200.0), row(2000.0, None)])
    assert found["mean_gpu_power_w"] == {"greenprune": 150.0, "zeus": 150.0}
    assert found["by_ours"]["zeus"] == pytest.approx(1.0)
    assert found["problems"] == ["Zeus: no"]
    assert gpu.summary([row(None, 1100.0)])["by_ours"] == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_without_a_gpu_it_says_so(capsys) -> None:
    assert gpu.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err
