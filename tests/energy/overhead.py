"""What measuring costs, against the stand-in of the NVML library.

    python -m tests.energy.overhead --out results/energy-meter

writes overhead.json. Costs are CPU time of the thread or process that pays them, which a busy machine changes least.
Training is compared in interleaved blocks with and without an open window: CPU time of the process, sampler included,
and wall-clock time beside it. Ratios have their 95 % intervals; the ratio of the tenth percentiles compares the blocks
that the rest of the machine disturbed least.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.energy.conftest import ROOT, build_standin

SCRIPT = """
import contextlib, json, os, statistics, sys, time
os.environ["STANDIN_EPOCH"] = repr(time.monotonic())
from bench.energy import EnergyMeter
what, amount = sys.argv[1], float(sys.argv[2])
meter = EnergyMeter("cuda")
assert meter.describe()[0]["kind"] == "measured"

def window_s():
    costs_s, walls_s = [], []
    with meter.window("open all the time"):  # so that the sampler runs beside, as in a nested window
        for _ in range(int(amount)):
            begun_s, wall_s = time.thread_time(), time.perf_counter()
            with meter.window("x"):
                pass
            costs_s.append(time.thread_time() - begun_s)
            walls_s.append(time.perf_counter() - wall_s)
            time.sleep(0.002)
    return {"cpu_s": statistics.median(costs_s), "wall_s": statistics.median(walls_s)}

def sampler_share():
    shares = []
    with meter.window("x"):
        time.sleep(0.3)
        for _ in range(5):
            begun_s, wall_s = time.process_time(), time.perf_counter()
            time.sleep(amount / 5)
            shares.append((time.process_time() - begun_s) / (time.perf_counter() - wall_s))
    return {"share": statistics.median(shares), "best": min(shares), "worst": max(shares), "seconds": amount}

def training():
    import torch
    from bench.repeat import ratio_interval, repeat_until
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3),
                                  torch.nn.Flatten(), torch.nn.Linear(16 * 28 * 28, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    x, y = torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
    def steps(count):
        begun_s = time.perf_counter()
        for _ in range(count):
            torch.nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - begun_s
    steps(5)
    count = max(1, round(2.0 / (steps(20) / 20)))
    def block(context):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        with context():
            steps(count)
        return time.perf_counter() - wall_s, time.process_time() - cpu_s
    found = repeat_until(lambda: block(lambda: meter.window("training")), lambda: block(contextlib.nullcontext),
                         lambda block: block[1], ci=0.002, min_pairs=20, limit_s=amount)
    wall = ratio_interval([w for w, _ in found.a], [w for w, _ in found.b])
    fastest = [sorted(cpu_s for _, cpu_s in side)[len(side) // 10] for side in (found.a, found.b)]
    return {"fast_tenth_cpu_ratio": fastest[0] / fastest[1], "cpu_ratio": [found.ratio, found.low, found.high],
            "wall_ratio": wall, "pairs": found.pairs, "block_s": statistics.median(w for w, _ in found.a)}

print(json.dumps({"window": window_s, "sampler": sampler_share, "training": training}[what]()))
"""


def cost(what: str, amount: float, standin: Path) -> dict[str, Any]:
    """Run one of the three parts. `amount`: windows, seconds of sampling, or the limit of training in seconds."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "STANDIN_"))}
    search = f"{standin}:{kept.get('LD_LIBRARY_PATH', '')}"
    environment = {**kept, "LD_LIBRARY_PATH": search, "PYTHONPATH": str(ROOT), "STANDIN_TRACE": "300"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what, str(amount)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("results/energy-meter"))
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        standin = build_standin(Path(name))
        amounts = {"window": 500.0, "sampler": 20.0, "training": 150.0}
        found: dict[str, Any] = {what: cost(what, amount, standin) for what, amount in amounts.items()}
    found["command"] = "python -m tests.energy.overhead"
    found["versions"] = {name: importlib.metadata.version(name) for name in ("greenprune", "torch", "nvidia-ml-py")}
    found["versions"]["python"] = platform.python_version()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "overhead.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
