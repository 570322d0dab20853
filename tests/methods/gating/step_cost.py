"""What a step of the search costs, against a step of dense training, before anything is removed.

    python -m tests.methods.gating.step_cost --out .benchmarks

writes step_cost.json: ResNet-20, batch 64, on one thread of the CPU. Steps of both kinds alternate in random order; compared
is the CPU time of the process, which a busy machine changes least, and the wall-clock time beside it.

Where the tensors of a process happen to lie in memory changes a step by some percent, and stays as it is as long as the
process lives. So several processes are measured, each with memory of random sizes taken beforehand; the figure is the mean
over processes, the interval that of this mean. They keep their memory as the runs of a suite do (bench/run/process.py):
dense steps are the faster for it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from greenprune.bench.energy.usage.processors import cpu_model
from greenprune.bench.inference.repeat import ratio_interval, repeat_until
from greenprune.bench.machine.precision import autocast_for, resolve_precision
from greenprune.bench.models import build
from greenprune.bench.run.process import ENVIRONMENT
from greenprune.methods import ConsensusGating, GatingOptions
from scipy import stats

CPU = torch.device("cpu")
BATCH = 64
STEPS = 100_000  # of the whole training: so many that the stretch does not change while we measure
BLOCK_STEPS = 4

KINDS: dict[str, tuple[GatingOptions, bool]] = {  # options, whether the gates have been released
    "majority, gates held open": (GatingOptions(), False),
    "majority": (GatingOptions(), True),
    "per_sample": (GatingOptions(execution="per_sample"), True),
}


def training_step(options: GatingOptions | None, released: bool = False, precision: str = "auto") -> Callable[[], None]:
    """A function that takes one training step: dense (`options` None), or of the search with nothing removed yet."""
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,))
    model = build("resnet20", 10, seed=0).to(memory_format=torch.channels_last)
    gating = None
    if options is not None:
        gating = ConsensusGating(model, images[:2], keep=0.5, steps=STEPS, options=options)
        if released:
            tightening = 1.0 - options.settle_share - options.open_share  # a third of it is over
            gating.steps_done = round(STEPS * options.search_share * (options.open_share + tightening / 3.0))
            gating._prepare(gating.state, gating._gain)
    network = model if gating is None else gating
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def step() -> None:
        with autocast_for(CPU, precision)():
            logits = network(images)
        loss = F.cross_entropy(logits.float(), labels)
        if gating is not None:
            loss = loss + gating.penalty()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if gating is not None:
            assert not gating.step(optimizer)  # True would mean that something was removed

    return step


def block(step: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds and wall-clock seconds of a few steps."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for _ in range(BLOCK_STEPS):
        step()
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


def compare(kind: str, precision: str, limit_s: float, ci: float = 0.004) -> dict[str, Any]:
    """Ratio of a search step to a dense step, in this process."""
    search, dense = training_step(*KINDS[kind], precision), training_step(None, precision=precision)
    for step in (search, dense):
        block(step), block(step)  # the first steps allocate
    found = repeat_until(
        lambda: block(search), lambda: block(dense), lambda times: times[0], ci=ci, min_pairs=20, limit_s=limit_s
    )
    wall, _, _ = ratio_interval([w for _, w in found.a], [w for _, w in found.b])
    return {"cpu_ratio": found.ratio, "wall_ratio": wall, "pairs": found.pairs}


def measure_here(seed: int, precision: str, limit_s: float) -> dict[str, Any]:
    """All kinds in this process, among memory of random sizes."""
    torch.set_num_threads(1)
    sizes = random.Random(seed)
    taken = []
    found = {}
    for kind in sizes.sample(list(KINDS), len(KINDS)):
        taken += [torch.empty(64 * sizes.randrange(1, 4096), dtype=torch.uint8) for _ in range(4)]
        found[kind] = compare(kind, precision, limit_s)
    return found


def mean_of_ratios(ratios: Sequence[float]) -> list[float]:
    """Geometric mean, low and high end of its 95 % interval (t distribution)."""
    logs = torch.tensor(ratios, dtype=torch.float64).log()
    half = float(stats.t.ppf(0.975, len(ratios) - 1)) * float(logs.std()) / math.sqrt(len(ratios))
    return [math.exp(float(logs.mean()) + by) for by in (0.0, -half, half)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".benchmarks"))
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="limit for each kind of search step in each process"
    )
    parser.add_argument("--processes", type=int, default=6, help="at least 2")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--here", type=int, metavar="SEED", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.processes < 2:
        parser.error(f"--processes {arguments.processes}: allowed is at least 2, for an interval")
    if arguments.here is not None:
        print(json.dumps(measure_here(arguments.here, arguments.precision, arguments.seconds)))
        return
    runs = []
    for seed in range(arguments.processes):
        command = [sys.executable, "-m", __spec__.name, "--here", str(seed), "--seconds", str(arguments.seconds)]
        command += ["--precision", arguments.precision]
        done = subprocess.run(command, env={**ENVIRONMENT, **os.environ}, check=True, stdout=subprocess.PIPE, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    found: dict[str, Any] = {}
    for kind in KINDS:
        found[kind] = {name: mean_of_ratios([run[kind][name] for run in runs]) for name in ("cpu_ratio", "wall_ratio")}
        found[kind]["cpu_ratio_by_process"] = [run[kind]["cpu_ratio"] for run in runs]
        found[kind]["pairs"] = sum(run[kind]["pairs"] for run in runs)
    found["precision"] = resolve_precision(CPU, arguments.precision)
    found["processor"] = cpu_model()[0]
    found["command"] = (
        f"python -m tests.methods.gating.step_cost --seconds {arguments.seconds:g} --processes {len(runs)}"
    )
    name = "step_cost.json"
    if arguments.precision != "auto":
        found["command"] += f" --precision {arguments.precision}"
        name = f"step_cost_{arguments.precision}.json"
    found["versions"] = {name: importlib.metadata.version(name) for name in ("greenprune", "torch")}
    found["versions"]["python"] = platform.python_version()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / name).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
