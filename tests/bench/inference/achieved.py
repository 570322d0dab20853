"""Whether budgets of time or joules are kept: what was asked for, what the table of measured costs predicts, what is measured.

    python -m tests.bench.inference.achieved --runtime eager --batch-size 1 --out results/budgets

calibrates ResNet-20 as a run does, lets each method cut the untrained network to the budget, and measures it side by side
with dense in that runtime at that batch size. Nothing is trained: what a network takes does not depend on its weights.
`gated` gets worths of its units that are drawn, so it closes whole layers and narrows others as after a search.

Writes <cost>-<runtime>-<batch size>.json, in 2 to 5 minutes on two cores. A ratio within 10 % of the request is within the
budget.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.reading import Kind
from greenprune.bench.inference.calibration import measure
from greenprune.bench.inference.pair import compare
from greenprune.bench.inference.served import serve
from greenprune.bench.machine.machine import describe_machine, describe_versions
from greenprune.bench.models import build
from greenprune.bench.records.inference import Inference
from greenprune.bench.run.process import ENVIRONMENT
from greenprune.bench.runtimes.catalogue import made
from greenprune.bench.runtimes.names import EAGER
from greenprune.bench.suite.entry import MethodEntry
from greenprune.bench.suite.measurement import Measurement
from greenprune.bench.suite.recipe import Training
from greenprune.bench.suite.settings import Settings
from greenprune.methods import BudgetError, ConsensusGating, CostTable, registry
from greenprune.methods.budget.limits import MEASURED_TOLERANCE
from torch import Tensor, nn

METHODS = ("uniform", "magnitude", "depgraph", "gated")
STEPS = 100
SPREAD = 0.7
"""Standard deviation of the logarithm of what a unit is worth for its cost, over layers."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runtime", default=EAGER)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--cost", choices=("latency", "energy"), default="latency")
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,))
    parser.add_argument("--seconds", type=float, default=3.0, help="measured per network")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path(".benchmarks"))
    asked = parser.parse_args(arguments)
    if any(os.environ.get(key) != value for key, value in ENVIRONMENT.items()):  # as runs have it
        command = [sys.executable, "-m", "tests.bench.inference.achieved", *(arguments or sys.argv[1:])]
        return subprocess.call(command, env=os.environ | ENVIRONMENT)
    torch.set_num_threads(asked.threads)
    settings = Settings(
        dataset="cifar10", images={}, model=asked.model, method=MethodEntry(name="gated"), budget=asked.keep,
        tolerance=0.02, seed=0, training=Training(epochs=1, precision="float32", channels_last=False),
        measurement=Measurement(
            runtimes=(asked.runtime,), inference_batch_sizes=(asked.batch_size,), inference_seconds=asked.seconds
        ),
        device="cpu", cost=asked.cost, budget_batch_size=asked.batch_size, budget_runtime=asked.runtime,
    )  # fmt: skip
    images = torch.randn(max(64, asked.batch_size), 3, asked.image_size, asked.image_size)
    found = achieved(settings, images, asked.methods, asked.seeds)
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / f"{asked.cost}-{asked.runtime}-{asked.batch_size}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")
    return 0


def achieved(settings: Settings, images: Tensor, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """What is written; plain JSON data.

    Args:
        images: (N, C, H, W) of any content.
    """
    dense = build(settings.model, 10, seed=0).eval()
    with EnergyMeter("cpu") as meter:
        started_s = time.perf_counter()
        table, kind = measure(settings, dense, images[:2], meter)
        calibration_s = time.perf_counter() - started_s
        print(
            f"calibrated in {calibration_s:.0f} s, slopes {table.slope:.2f} and {table.closing_slope:.2f}", flush=True
        )
        rows = []
        for name in methods:
            for seed in seeds:
                try:
                    network, predicted, leaves = cut(name, settings, copy.deepcopy(dense), images[:2], table, seed)
                except BudgetError as e:
                    rows.append({"method": name, "seed": seed, "problem": str(e)})
                    print(f"{name}, seed {seed}: {e}", flush=True)
                    continue
                measured = beside_dense(settings, network, dense, images, meter)
                row = _row(settings, measured, kind)
                rows.append({"method": name, "seed": seed, "predicted": predicted, **row, "closed_layers": leaves})
                print(f"{name}, seed {seed}: predicted {predicted:.3f}, achieved {row['achieved']:.3f}", flush=True)
        sources = meter.describe()
    device = torch.device("cpu")
    return {
        "model": settings.model, "cost": settings.cost, "runtime": settings.budget_runtime,
        "batch_size": settings.budget_batch_size, "request": settings.budget, "networks": rows,
        "calibration": {
            "duration_s": round(calibration_s, 1), "slope": table.slope,
            "closing_slope": table.closing_slope, "scale": table.scale, "whole": table.whole,
            "unit": table.unit, "energy_kind": kind, "samples": [sample.model_dump() for sample in table.samples],
            "points": sum(len(shape.inputs) * len(shape.outputs) for shape in table.shapes), "rounds": table.rounds,
        },
        "seconds": settings.measurement.inference_seconds, "threads": torch.get_num_threads(),
        "machine": describe_machine(device),
        "versions": describe_versions() | made(settings.budget_runtime).describe(), "energy_sources": list(sources),
        "command": " ".join(["python -m tests.bench.inference.achieved", *sys.argv[1:]]),
    }  # fmt: skip


def cut(
    name: str, settings: Settings, model: nn.Module, example: Tensor, table: CostTable, seed: int
) -> tuple[nn.Module, float, dict[str, str]]:
    """`model` cut by the method's own selection, the predicted cost, and what each closed layer left."""
    arguments: dict[str, Any] = {"keep": settings.budget, "steps": STEPS, "cost": settings.cost, "table": table}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of budgets that can only be undershot
        if name == "gated":
            return _cut_by_gates(ConsensusGating(model, example, seed=seed, **arguments), seed)
        method = registry()[name](seed=seed, **arguments)
        trained = method.prepare(model, example)
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.0)
        for _ in range(STEPS):
            method.after_step(optimizer)
        network = method.finish().eval()
    assert method.predicted_cost is not None
    return network, method.predicted_cost, {}


def _cut_by_gates(gating: ConsensusGating, seed: int) -> tuple[nn.Module, float, dict[str, str]]:
    """As a search ends whose gates were released with drawn worths and have learned nothing since."""
    structure, generator = gating.structure, torch.Generator().manual_seed(seed)
    prices = gating.terms.cost.prices()
    worths = prices * torch.exp(0.1 * torch.randn(structure.units, generator=generator))
    for branch in structure.branches:
        own = torch.exp(SPREAD * torch.randn((), generator=generator))
        worths[[branch.unit, *structure.channels_inside(branch.unit)]] *= own
    gating.state.gradients.importance = worths.to(gating.state.gradients.importance)
    gating._order_gates()
    gating.steps_done = gating.search_steps
    gating._project()
    gating._cut(torch.optim.SGD(gating.parameters(), lr=0.0))
    assert gating.kept is not None
    assert gating.predicted_cost is not None
    closed = {b.name for b in structure.branches if not gating.kept[b.unit]}
    leaves = {name: left for name, left in gating.history()["leaves"].items() if name in closed}
    return gating.finish().eval(), gating.predicted_cost, leaves


def beside_dense(
    settings: Settings, network: nn.Module, dense: nn.Module, images: Tensor, meter: EnergyMeter
) -> Inference:
    """Measured as at the end of a run. Raises RuntimeError where the runtime cannot run it."""
    assert settings.budget_batch_size is not None
    if settings.budget_runtime == EAGER:
        return compare(
            network, dense, images, batch_size=settings.budget_batch_size,
            seconds=settings.measurement.inference_seconds, precision=settings.training.precision, meter=meter,
        )  # fmt: skip
    (entry,) = serve(settings, network, dense, images, meter, held_out=list, score=lambda model: None)
    if entry.problem is not None:
        raise RuntimeError(f"{entry.runtime}: {entry.problem}")
    return entry.inference[0]


def _row(settings: Settings, measured: Inference, kind: Kind | None) -> dict[str, Any]:
    if kind is None:
        ratio = measured.latency_ratio, measured.latency_ratio_low, measured.latency_ratio_high
    else:
        ratio = measured.energy_ratio[kind]
    within = abs(ratio[0] - settings.budget) <= MEASURED_TOLERANCE * settings.budget
    return {"achieved": ratio[0], "low": ratio[1], "high": ratio[2], "within": within}


if __name__ == "__main__":
    sys.exit(main())
