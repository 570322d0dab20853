"""What an engine costs beside the runs: many runs of a method that only sleeps, by `local` and by Slurm.

    python -m tests.bench.engines.overhead FOLDER --json results/engines/overhead.json [--runs 100] [--jobs 2]

Each run sleeps `--sleep` seconds in place of a training, one step of which is left. `per_run_s` is what a run took beside
its sleep, (wall time × runs at a time) / runs, start of the suite included; `overhead_s` how much more that is by Slurm.
Nothing may be lost and nothing done twice: each run writes a line when it begins. Needs a Slurm as the tests do (.ci/slurm).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[3]

METHOD = '''\
import os
import time

from greenprune.methods.dense import Dense


class Sleeps(Dense):
    """Trains nothing to speak of."""

    name = "sleeps"

    def prepare(self, model, example_inputs):
        with open("begun", "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(float(os.environ["SLEEP_S"]))
        return super().prepare(model, example_inputs)
'''

NETWORK = """\
import greenprune.bench.inference.pair
from torch import nn


def tiny(classes):
    greenprune.bench.inference.pair.CPU_BLOCK_S = 0.01
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))
"""

SUITE = """\
name = "sleeps"
dataset = "digits"
train_images = 64
model = "overhead_network:tiny"
budgets = [0.5]
seeds = {seeds}
training = {{ epochs = 1, batch_size = 64, precision = "float32" }}
methods = [{{ name = "overhead_method:Sleeps", label = "sleeps" }}]
measurement = {{ inference_seconds = 0.05, inference_batch_sizes = [1] }}
"""


def timed(folder: Path, out: str, sleep_s: float, *arguments: str) -> float:
    """Seconds that the suite took."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "SLEEP_S": str(sleep_s), "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)),
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "greenprune",
        "run",
        "sleeps.toml",
        "--out",
        out,
        "--device",
        "cpu",
        "--skip-measure",
    ]
    started_s = time.perf_counter()
    subprocess.run([*command, *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started_s


def counted(folder: Path, out: str, runs: int) -> dict[str, int]:
    """What was lost, and what was begun more than once."""
    records = [json.loads(path.read_text()) for path in (folder / out / "sleeps").glob("*/record.json")]
    done = Counter(record["key"] for record in records if record["status"] == "done")
    begun = len(set((folder / "begun").read_text().splitlines()))
    (folder / "begun").unlink()
    return {"lost": runs - len(done), "twice": begun - runs}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2, help="at a time")
    parser.add_argument("--sleep", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder, runs, jobs = arguments.folder, arguments.runs, arguments.jobs
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overhead_method.py").write_text(METHOD)
    (folder / "overhead_network.py").write_text(NETWORK)
    (folder / "sleeps.toml").write_text(SUITE.format(seeds=list(range(runs))))
    (folder / "cluster.toml").write_text(
        f"slurm_cpus_per_task = 1\nslurm_time = 60\nslurm_array_parallelism = {jobs}\n"
    )
    by: dict[str, tuple[str, ...]] = {
        "local": ("--jobs", str(jobs)),
        "slurm": ("--engine", "slurm", "--engine-config", "cluster.toml"),
    }
    found: dict[str, Any] = {
        "runs": runs, "jobs": jobs, "sleep_s": arguments.sleep, "cores": os.cpu_count(), "cpu": platform.processor(),
        "load_before": psutil.getloadavg()[0], "engines": {},
    }  # fmt: skip
    for name, options in by.items():
        wall_s = timed(folder, name, arguments.sleep, *options)
        found["engines"][name] = {
            "wall_s": round(wall_s, 1),
            "per_run_s": round(wall_s * jobs / runs - arguments.sleep, 2),
            **counted(folder, name, runs),
        }
        print(name, found["engines"][name], flush=True)
    engines = found["engines"]
    found["overhead_s"] = round(engines["slurm"]["per_run_s"] - engines["local"]["per_run_s"], 2)
    print(f"slurm takes {found['overhead_s']} s a run more than local")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(each["lost"] or each["twice"] for each in engines.values()))


if __name__ == "__main__":
    sys.exit(main())
