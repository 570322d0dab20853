"""What a finished network costs, counted on the network itself, and whether it kept its budget."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch
from greenprune.bench.records.cost import Cost, SampleMacs
from greenprune.bench.records.validity import broken_budget, unequal
from greenprune.bench.suite.settings import Settings
from greenprune.methods import Method, count_macs, count_params
from greenprune.methods.magnitude_unstructured import prunable_weights
from greenprune.methods.structure.macs import COUNTED, count
from greenprune.methods.structure.meter import MacMeter
from greenprune.methods.structure.remnant import is_thin
from torch import Tensor, nn

SAMPLED_IMAGES = 1000
BINS = 40


def measure_cost(
    settings: Settings,
    method: Method,
    pruned: nn.Module,
    dense: nn.Module,
    example: Tensor,
    singly: Iterable[Tensor],
) -> Cost:
    """Achieved cost, counted on the finished network, not reported by the method.

    Args:
        example: (2, C, H, W).
        singly: test images, (1, C, H, W) each, for networks whose cost depends on the image.
    """
    executed = count(dense, example)
    macs_dense = executed.total // len(example)
    sampled = None
    if method.budget_unit == "mean_macs":
        sampled = sample_macs(pruned, islice(singly, SAMPLED_IMAGES), macs_dense)
    uncounted = tuple(f"{operation} in {name or 'the network'}" for operation, name in executed.uncounted)
    if uncounted:
        warnings.warn(f"the MACs leave out operations that nobody can count: {', '.join(uncounted)}", stacklevel=2)
    connections = method.budget_unit == "connections"
    found = widths(pruned)
    return Cost(
        budget=settings.budget,
        tolerance=settings.tolerance,
        kind=settings.cost,
        round_to=settings.round_to,
        macs=count_macs(pruned, example) if sampled is None else round(sampled.mean * macs_dense),
        macs_dense=macs_dense,
        params=count_params(pruned),
        params_dense=count_params(dense),
        widths={name: found.get(name, 0) for name in widths(dense)},
        widths_dense=widths(dense),
        connections=count_connections(pruned) if connections else None,
        connections_dense=count_connections(dense) if connections else None,
        sample_macs=sampled,
        nearest_below=None if method.nearest is None else method.nearest.below,
        uncounted=uncounted,
    )


def widths(model: nn.Module) -> dict[str, int]:
    """Output channels of every convolution and linear layer, by its name in the dense network."""
    found = {}
    for name, module in model.named_modules():
        layer = module.centre if is_thin(module) else module
        if isinstance(layer, COUNTED):
            out = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
            found[name.removeprefix("network.").replace(".inner", "")] = int(out)  # type: ignore[arg-type]
    return found


def why_invalid(method: Method, cost: Cost) -> str | None:
    """The rule that the run broke, or None."""
    if method.prunes and (broken := broken_budget(cost)):
        return broken
    return unequal(method.masked_max_abs_diff)


def count_connections(model: nn.Module) -> int:
    """Nonzero weights of all convolutions, linear layers and projections of attention; a shared one counts once."""
    return sum(int(torch.count_nonzero(weight)) for weight in prunable_weights(model).values())


@torch.no_grad()
def sample_macs(model: nn.Module, images: Iterable[Tensor], dense_macs: int) -> SampleMacs:
    """Run `images`, (1, C, H, W) each, one by one in eval mode and count what every one of them executes.

    Args:
        dense_macs: of the dense network, for one image.
    """
    model.eval()
    shares = []
    for image in images:
        with MacMeter(exact=True) as meter:
            model(image)
        shares.append(meter.total / dense_macs)
    counts, edges = np.histogram(shares, bins=BINS, range=(0.0, max(1.0, *shares)))
    return SampleMacs(
        images=len(shares),
        mean=float(np.mean(shares)),
        std=float(np.std(shares)),
        low=min(shares),
        high=max(shares),
        edges=tuple(round(float(e), 6) for e in edges),
        counts=tuple(int(n) for n in counts),
    )
