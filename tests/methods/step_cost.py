"""What a step of the search costs, against a step of dense training, before anything is removed.

    python -m tests.methods.step_cost --out results/gated

writes step_cost.json: ResNet-20, batch 64, on one thread of the CPU. Steps of both kinds alternate in random order until
the interval of their ratio is narrow; compared is the CPU time of the process, which a busy machine changes least, and
the wall-clock time beside it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from bench.models import build
from bench.repeat import ratio_interval, repeat_until
from bench.train import autocast_for, resolve_precision
from methods import ConsensusGating, GatingOptions

CPU = torch.device("cpu")
BATCH = 64
STEPS = 100_000  # of the whole training: so many that the stretch does not change while we measure
BLOCK_STEPS = 4

KINDS: dict[str, tuple[GatingOptions, bool]] = {  # options, whether the gates have been released
    "majority, gates held open": (GatingOptions(), False),
    "majority": (GatingOptions(), True),
    "per_sample": (GatingOptions(execution="per_sample"), True),
}


def training_step(options: GatingOptions | None, released: bool = False) -> Callable[[], None]:
    """A function that takes one training step: dense (`options` None), or of the search with nothing removed yet."""
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,))
    model = build("resnet20", 10, seed=0).to(memory_format=torch.channels_last)
    gating = None
    if options is not None:
        gating = ConsensusGating(model, images[:2], keep=0.5, steps=STEPS, options=options)
        if released:
            gating.steps_done = round(STEPS * options.search_share * (options.open_share + 0.05))
            gating._prepare_next()
    network = model if gating is None else gating
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def step() -> None:
        with autocast_for(CPU, "auto")():
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


def compare(kind: str, limit_s: float, ci: float = 0.005) -> dict[str, Any]:
    """Ratio of a search step to a dense step, with its 95 % interval."""
    search, dense = training_step(*KINDS[kind]), training_step(None)
    block(search), block(dense)  # the first steps of both allocate
    found = repeat_until(
        lambda: block(search), lambda: block(dense), lambda times: times[0], ci=ci, min_pairs=20, limit_s=limit_s
    )
    wall = ratio_interval([w for _, w in found.a], [w for _, w in found.b])
    return {"cpu_ratio": [found.ratio, found.low, found.high], "wall_ratio": wall, "pairs": found.pairs}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/gated"))
    parser.add_argument("--seconds", type=float, default=90.0, help="limit for each kind of search step")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    found: dict[str, Any] = {kind: compare(kind, arguments.seconds) for kind in KINDS}
    found["precision"] = resolve_precision(CPU, "auto")
    found["command"] = "python -m tests.methods.step_cost"
    found["versions"] = {name: importlib.metadata.version(name) for name in ("greenprune", "torch")}
    found["versions"]["python"] = platform.python_version()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "step_cost.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
