"""What measuring costs, against the stand-in of the NVML library.

    python -m tests.bench.energy.overhead --out results/energy-meter

writes overhead.json. Costs are CPU time of the thread that pays them, which a busy machine changes least. What the meter
costs a training has three parts, each measured where it is largest:

- the sampler's thread, from its own clock, per second that a window is open;
- opening and closing the window, on the thread of the training;
- what the training itself takes longer because the sampler wakes up beside it: CPU time of the training's thread for the
  same steps with and without an open window, many short blocks in seeded random order, one thread. The estimate, fixed
  beforehand, is the 20 % trimmed mean of the pairs' log-ratios with its bootstrap interval.

The CPU time of the whole process by that of the training alone is not the answer on a machine where the training gets a
part of a core: the sampler then works for longer than the same training would take elsewhere.
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

import psutil

from tests.bench.energy.conftest import ROOT, build_standin

SCRIPT = """
import json, os, statistics, sys, time
os.environ["STANDIN_EPOCH"] = repr(time.monotonic())
from greenprune.bench.energy import EnergyMeter
what, amount, device = sys.argv[1], float(sys.argv[2]), sys.argv[3]
BLOCK_S, WINDOW_S = 0.2, 60.0
meter = EnergyMeter(device)
assert meter.describe()[0]["kind"] == ("measured" if device == "cuda" else "modelled")

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
    # A machine that is busy with other things slows stretches of them down.
    fifth = len(costs_s) // 5
    stretches = [statistics.median(costs_s[i : i + fifth]) for i in range(0, 5 * fifth, fifth)]
    return {"cpu_s": statistics.median(costs_s), "best": min(stretches), "wall_s": statistics.median(walls_s)}

def sampler_share():
    # Beside it what a thread takes that wakes as often and reads one file: an awakening has its price on every machine.
    shares, bare = [], []
    for _ in range(5):
        with meter.window("x"):
            time.sleep(0.3)
            begun_s, wall_s = time.process_time(), time.perf_counter()
            time.sleep(amount / 5)
            shares.append((time.process_time() - begun_s) / (time.perf_counter() - wall_s))
        begun_s, wall_s = time.process_time(), time.perf_counter()
        while time.perf_counter() - wall_s < amount / 5:
            time.sleep(0.1)
            with open("/proc/self/stat", "rb") as file:
                file.read()
        bare.append((time.process_time() - begun_s) / (time.perf_counter() - wall_s))
    return {"share": statistics.median(shares), "best": min(shares), "worst": max(shares), "seconds": amount,
            "bare_share": statistics.median(bare), "times_bare": statistics.median(a / b for a, b in zip(shares, bare))}

def training():
    import threading
    import numpy as np
    import torch
    from scipy.stats import trim_mean
    from greenprune.bench.inference.repeat import repeat_until
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3),
                                  torch.nn.Flatten(), torch.nn.Linear(16 * 28 * 28, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    x, y = torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
    def steps(count):
        for _ in range(count):
            torch.nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    steps(5)
    begun_s = time.thread_time()
    steps(20)
    count = max(1, round(BLOCK_S / ((time.thread_time() - begun_s) / 20)))
    with meter.window("so that the sampler's thread is there"):
        pass
    sampler, = [t for t in threading.enumerate() if t.name == "greenprune-energy"]
    clock = time.pthread_getcpuclockid(sampler.ident)
    edges_s, open_s, sampler_s, got_s = [], [], [], []
    def block(metered):
        sampled_s, wall_s, edge_s = time.clock_gettime(clock), time.perf_counter(), time.thread_time()
        window = meter.begin("training") if metered else None
        begun_s = time.thread_time()
        steps(count)
        ended_s = time.thread_time()
        if metered:
            window.end()
            edges_s.append(time.thread_time() - ended_s + begun_s - edge_s)
            open_s.append(time.perf_counter() - wall_s)
            sampler_s.append(time.clock_gettime(clock) - sampled_s)
            got_s.append(ended_s - begun_s)
        return ended_s - begun_s
    found = repeat_until(lambda: block(True), lambda: block(False), float, ci=0.0, max_pairs=100000, limit_s=amount)
    logs = np.log(np.divide(found.a, found.b))
    draws = np.random.default_rng(0).choice(logs, (4000, len(logs)))
    low, high = np.percentile(trim_mean(draws, 0.2, axis=1), [2.5, 97.5])
    beside = [float(np.exp(v)) for v in (trim_mean(logs, 0.2), low, high)]
    edge_s, share = statistics.median(edges_s), sum(sampler_s) / sum(open_s)
    own = share + edge_s / WINDOW_S
    return {"sampler_share_of_a_core": share, "window_edges_cpu_s": edge_s, "own_cost_of_a_window_of_60_s": own,
            "training_thread_ratio": beside, "together_ratio": [v + own for v in beside],
            "mean_training_thread_ratio": [found.ratio, found.low, found.high], "pairs": found.pairs,
            "block_cpu_s": statistics.median(found.b), "share_of_a_core_that_the_training_got": sum(got_s) / sum(open_s)}

print(json.dumps({"window": window_s, "sampler": sampler_share, "training": training}[what]()))
"""


def cost(what: str, amount: float, standin: Path, device: str = "cuda") -> dict[str, Any]:
    """Run one of the three parts. `amount`: windows, seconds of sampling, or the limit of training in seconds."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "STANDIN_"))}
    search = f"{standin}:{kept.get('LD_LIBRARY_PATH', '')}"
    environment = {**kept, "LD_LIBRARY_PATH": search, "PYTHONPATH": str(ROOT), "STANDIN_TRACE": "300"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what, str(amount), device],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("results/energy-meter"))
    parser.add_argument("--seconds", type=float, default=300.0, help="of each comparison of training")
    arguments = parser.parse_args(argv)
    load = psutil.cpu_percent(1.0)
    with tempfile.TemporaryDirectory() as name:
        standin = build_standin(Path(name))
        amounts = {"window": 500.0, "sampler": 20.0, "training": arguments.seconds}
        found: dict[str, Any] = {what: cost(what, amount, standin) for what, amount in amounts.items()}
        found["training_without_sensors"] = cost("training", arguments.seconds, standin, "cpu")
    found["load_of_the_machine_percent"] = load
    found["command"] = " ".join(["python -m tests.bench.energy.overhead", *(sys.argv[1:] if argv is None else argv)])
    found["versions"] = {name: importlib.metadata.version(name) for name in ("greenprune", "torch", "nvidia-ml-py")}
    found["versions"]["python"] = platform.python_version()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "overhead.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
