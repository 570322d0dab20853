"""How far the losses of two ranks are from those of one process with the same batches, for every method, in 50 steps.

    python -m tests.bench.distributed.agreement [--out results/several-devices/agreement.json]

In float64 the difference is that of the mathematics: it has to stay below 1e-5. In float32 it is that of the order in which
numbers are added up, which a training magnifies from step to step.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.bench.distributed.work import LENGTHS, METHODS, Found, alone, by_ranks

SAME = 1e-5
RANKS = 2


def farthest(ours: Found, theirs: Found) -> dict[str, Any]:
    """The largest difference of two courses of losses, where it is, and the first step (from 1) with more than 1e-5."""
    found = [abs(a - b) for a, b in zip(ours.losses, theirs.losses, strict=True)]
    return {
        "largest_loss_difference": max(found),
        "at_step": found.index(max(found)) + 1,
        "first_step_above_1e-5": next((i for i, each in enumerate(found, 1) if each > SAME), None),
        "same_shapes": [t.shape for t in ours.weights.values()] == [t.shape for t in theirs.weights.values()],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--length", choices=LENGTHS, default="long")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    arguments = parser.parse_args()
    length, rows = LENGTHS[arguments.length], {}
    names = {method: {"float64": method, "float32": f"{method} in float32"} for method in arguments.methods}
    with tempfile.TemporaryDirectory() as folder:
        ranks = by_ranks(
            Path(folder), arguments.length, [name for own in names.values() for name in own.values()], RANKS
        )
    for method, own in names.items():
        rows[method] = {kind: farthest(ranks[name][0], alone(name, arguments.length)) for kind, name in own.items()}
        print(
            method, *(f"{kind} {row['largest_loss_difference']:.1e}" for kind, row in rows[method].items()), flush=True
        )
    found = {
        "what": f"losses of {RANKS} ranks on a CPU against one process with the same batches",
        "command": "python -m tests.bench.distributed.agreement",
        "network": length.network,
        "images": f"noise, 3 x {length.side} x {length.side}",
        "batch_size": length.batch_size,
        "steps": length.steps,
        "float32_memory_format": "channels_last",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "methods": rows,
    }
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    worst = max(row["float64"]["largest_loss_difference"] for row in rows.values())
    print(f"in float64 the largest difference is {worst:.1e}; allowed is {SAME:g}")
    return int(worst > SAME)


if __name__ == "__main__":
    sys.exit(main())
