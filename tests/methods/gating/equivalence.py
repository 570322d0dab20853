"""What the gates compute, what masks compute and what removal leaves, on ten networks.

    python -m tests.methods.gating.equivalence --out .benchmarks

writes equivalence.csv: for each network and budget the largest absolute difference of a logit (eval mode, float32, logits of
ordinary size) between the gated network and the smaller one, and between the masked network and the smaller one; what
can be gated; the MACs that are kept.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from greenprune.methods import ConsensusGating, GatingOptions, count_macs
from greenprune.methods.budget.select import select
from greenprune.methods.gating.wiring import unwrap
from greenprune.methods.structure.surgery import evaluate, masked, remove

from tests.methods.networks import calibrated

NETWORKS = [
    "resnet20",
    "resnet56",
    "vgg16_bn",
    "torchvision/resnet18",
    "torchvision/resnet50",
    "torchvision/mobilenet_v2",
    "torchvision/densenet121",
    "torchvision/regnet_y_400mf",
    "torchvision/efficientnet_b0",
    "torchvision/convnext_tiny",
]


def differences(name: str, budgets: Sequence[float]) -> Iterator[dict[str, Any]]:
    """One row per budget; the kept units are drawn at random, layers and residual streams included."""
    model, x = calibrated(name)
    dense_macs = count_macs(model, x)
    gating = ConsensusGating(model, x, keep=min(budgets), steps=10, options=GatingOptions(streams=True))
    gating.steps_done = 3  # the gates have been released
    structure = gating.structure
    generator = torch.Generator().manual_seed(1)
    for keep in budgets:
        chosen = select(structure, torch.rand(structure.units, generator=generator), keep, 0.02)
        gating.logit_mean.copy_(torch.where(chosen, 5.0, -5.0))
        by_gates = evaluate(gating, x)
        plain = copy.deepcopy(gating.network)
        unwrap(plain)
        with masked(plain, structure, chosen):
            by_masks = evaluate(plain, x)
        small = remove(plain, structure, chosen)
        removed = evaluate(small, x)
        yield {
            "network": name,
            "channel_groups": len(structure.groups),
            "residual_branches": len(structure.branches),
            "budget": keep,
            "kept_macs_percent": round(100 * count_macs(small, x) / dense_macs, 2),
            "gated_against_removed_max_abs": float((by_gates - removed).abs().max()),
            "masked_against_removed_max_abs": float((by_masks - removed).abs().max()),
            "largest_logit": round(float(removed.abs().max()), 2),
        }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".benchmarks"))
    arguments = parser.parse_args(argv)
    rows = [row for name in NETWORKS for row in differences(name, (0.3, 0.5, 0.7))]
    arguments.out.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(arguments.out / "equivalence.csv", index=False, float_format="%.3g", lineterminator="\n")
    print(frame.to_string())


if __name__ == "__main__":
    main()
