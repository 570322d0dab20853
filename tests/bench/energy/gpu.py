"""Our meter, Zeus and CodeCarbon on one GPU at once, while a ResNet-56 trains. For a machine with an NVIDIA GPU:

    python -m pip install ".[compare]" && python -m tests.bench.energy.gpu --out results/energy-meter

writes gpu.json: what `greenprune doctor` finds, the idle power, and the joules of the GPU that each tool read over the
same windows. All read the same sensor, so this shows what they make of it, not how right it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from greenprune.bench import models
from greenprune.bench.cli.doctor import examine
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.carbon.intensity import grid_intensity
from greenprune.bench.energy.crosscheck import crosschecked

BATCH = 128
TOOLS = ("zeus", "codecarbon")


def training(model: str, device: torch.device) -> Callable[[float], int]:
    """Trains for so many seconds on random images; returns the number of steps. Warm already."""
    network = models.build(model, 10, seed=0).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    x, y = torch.randn(BATCH, 3, 32, 32, device=device), torch.randint(10, (BATCH,), device=device)

    def train(seconds: float) -> int:
        end_s, steps = time.perf_counter() + seconds, 0
        while time.perf_counter() < end_s:
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            steps += 1
        return steps

    train(5.0 if device.type == "cuda" else 0.0)
    return train


def compare(train: Callable[[float], int], meter: EnergyMeter, seconds: float, windows: int) -> list[dict[str, Any]]:
    """A row for each window: our reading of the GPU, and what the others say of a window around ours."""
    rows = []
    for _ in range(windows):
        with crosschecked(TOOLS, meter) as checks, meter.window("training") as window:
            steps = train(seconds)
        rows.append(
            {
                "steps": steps,
                "duration_s": window.reading.duration_s,
                "ours": [s.model_dump(mode="json") | {"net_j": s.net_j} for s in window.reading.sources],
                "warnings": list(window.reading.warnings),
                "others": [dataclasses.asdict(check) for check in checks],
            }
        )
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean watts of the GPU by tool, each over the time that it says it measured, and their ratio to ours.

    Watts and not joules: the windows of the others begin earlier and end later than ours.
    """
    watts: dict[str, list[float]] = {"greenprune": []}
    for row in rows:
        cards = [s for s in row["ours"] if s["name"].startswith("nvml")]
        if cards and all(s["valid"] for s in cards):
            watts["greenprune"].append(sum(s["energy_j"] for s in cards) / row["duration_s"])
        for check in row["others"]:
            if check["gpu_j"] is not None and check["duration_s"]:
                watts.setdefault(check["tool"], []).append(check["gpu_j"] / check["duration_s"])
    means = {tool: statistics.mean(values) for tool, values in watts.items() if values}
    ours = means.get("greenprune")
    return {
        "mean_gpu_power_w": means,
        "by_ours": {tool: mean / ours for tool, mean in means.items()} if ours else {},
        "problems": sorted({check["problem"] for row in rows for check in row["others"] if check["problem"]}),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("results/energy-meter"))
    parser.add_argument("--model", default="resnet56")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a window")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds of rest before, for the idle power")
    parser.add_argument("--train-on", choices=["cuda", "cpu"], default="cuda", help="cpu: to try this without a GPU")
    arguments = parser.parse_args(argv)
    if arguments.train_on == "cuda" and not torch.cuda.is_available():
        print("this PyTorch finds no CUDA device; --train-on cpu tries the command without one", file=sys.stderr)
        return 2
    doctor = examine(grid_intensity(None), idle_s=0.0)
    device = torch.device(arguments.train_on)
    train = training(arguments.model, device)
    synchronise = torch.cuda.synchronize if device.type == "cuda" else None
    with EnergyMeter("cuda", synchronise=synchronise) as meter:
        resting = meter.measure_idle(arguments.idle)
        rows = compare(train, meter, arguments.seconds, arguments.windows)
        sources = meter.describe()
    packages = ("greenprune", "zeus", "codecarbon", "nvidia-ml-py", "torch")
    found = {
        "summary": summary(rows),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "model": arguments.model,
        "batch_size": BATCH,
        "trained_on": device.type,
        "idle": resting.model_dump(mode="json"),
        "windows": rows,
        "sources": sources,
        "doctor": doctor,
        "versions": {name: _version(name) for name in packages},
        "command": "python -m tests.bench.energy.gpu " + " ".join(sys.argv[1:] if argv is None else argv),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["summary"], indent=1))
    return 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
