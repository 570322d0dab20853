"""Every tool on every case."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.energy.comparison.cases import CASES, Case
from tests.bench.energy.comparison.outcome import TOOLS, Outcome, outcome
from tests.bench.energy.comparison.script import SCRIPT
from tests.bench.energy.conftest import ROOT, build_standin


def measure(case: Case, tool: str, standin: Path, folder: Path) -> Outcome:
    """Run `tool` on `case` in a process of its own, with `folder` for its script and a dummy nvidia-smi."""
    script = folder / "measure.py"  # a file, because Zeus starts processes that import it
    script.write_text(SCRIPT)
    dummy = folder / "bin" / "nvidia-smi"  # CodeCarbon looks for one that runs
    dummy.parent.mkdir(exist_ok=True)
    dummy.write_text("#!/bin/sh\nexit 0\n")
    dummy.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "STANDIN_"))}
    environment = {
        **kept,
        "LD_LIBRARY_PATH": f"{standin}:{kept.get('LD_LIBRARY_PATH', '')}",
        "PYTHONPATH": f"{ROOT}:{kept.get('PYTHONPATH', '')}",
        "PATH": f"{dummy.parent}:{kept.get('PATH', '')}",
        **{f"STANDIN_{name}": str(value) for name, value in case.settings.items()},
        **case.environment,
    }
    names = ("windows", "window_s", "reset_after_s", "meanwhile", "rapl", "range_uj", "stopped_s", "low_w")
    asked = json.dumps({name: getattr(case, name) for name in names})
    shutil.rmtree(folder / "cap", ignore_errors=True)
    done = subprocess.run(
        [sys.executable, str(script), tool, asked],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        start_new_session=True,  # so that it can be stopped with all its processes
    )  # fmt: skip
    if done.returncode:
        return Outcome(case.name, tool, case.windows, None, None, None, None, (done.stderr.splitlines() or ["?"])[-1])
    return outcome(case, tool, json.loads(done.stdout.splitlines()[-1]))


def compare(cases: Sequence[Case] = CASES, tools: Sequence[str] = tuple(TOOLS)) -> list[Outcome]:
    """Every tool on every case, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        standin = build_standin(folder / "nvml")
        return [measure(case, tool, standin, folder) for case in cases for tool in tools]
