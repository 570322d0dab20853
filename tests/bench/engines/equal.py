"""A suite by jobs of a real Slurm, started on several shells at once, and by the engine `local`: equal bit for bit.

    python -m tests.bench.engines.equal FOLDER [--suite quickstart] [--starts 2] [--json results/engines/equal.json]

Budgets are of multiply-accumulates, which are counted: what a network may keep of the time or the energy is
measured, and no two measurements are equal. Needs a Slurm as the tests do (.ci/slurm).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from greenprune.bench.engines.cluster.stored import read_jobs

from tests.bench.run.kills import differences

ROOT = Path(__file__).parents[3]
CORES = 1


def start(folder: Path, suite: str, out: str, *arguments: str) -> subprocess.Popen[str]:
    """`greenprune run`; its output goes to `log`."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(CORES), "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)),
    }  # fmt: skip
    command = [sys.executable, "-m", "greenprune", "run", suite, "--out", out, "--device", "cpu", "--set", "cost=macs"]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [*command, "--skip-measure", *arguments], cwd=folder, env=environment, stdout=log, stderr=log, text=True
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--suite", default="quickstart")
    parser.add_argument("--starts", type=int, default=2, help="of the suite by Slurm, at once")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder, suite = arguments.folder, arguments.suite
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cluster.toml").write_text(f"slurm_cpus_per_task = {CORES}\nslurm_time = 60\n")
    by_slurm = ("--engine", "slurm", "--engine-config", "cluster.toml")
    began_s = time.perf_counter()
    starts = [start(folder, suite, "slurm", *by_slurm) for _ in range(arguments.starts)]
    codes = [each.wait() for each in starts]
    slurm_s = time.perf_counter() - began_s
    local = start(folder, suite, "local").wait()
    results, (theirs,) = folder / "slurm", sorted((folder / "local").iterdir())
    ours = results / theirs.name
    jobs = read_jobs(ours)
    found = {
        "suite": suite,
        "budgets": "macs",
        "starts": arguments.starts,
        "exit_codes": [*codes, local],
        "runs": len(list(theirs.glob("*/record.json"))),
        "jobs": len({path.name.partition("_log")[0] for path in (ours / "slurm" / "log").glob("*_log.out")}),
        "runs_with_a_job": len(jobs.runs),
        "slurm_s": round(slurm_s, 1),
        "torch": torch.__version__,
        "differences": differences(ours, theirs),
    }
    print(json.dumps(found, indent=1))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    lost = found["runs"] != found["jobs"] or not found["runs"]
    return int(bool(any(found["exit_codes"]) or found["differences"] or lost))


if __name__ == "__main__":
    sys.exit(main())
