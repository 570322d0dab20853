"""What Torch-Pruning's generic recipe makes of one network."""

from __future__ import annotations

import time
import warnings
from typing import Any

import torch
from greenprune.methods import count_macs
from greenprune.methods.structure import outputs
from torch import Tensor, nn

from tests.methods.zoo.entry import Entry

KEEP, STEPS = 0.5, 50


def measure(entry: Entry) -> dict[str, Any]:
    """Prune by weight magnitude, group by group and the same share of each, in small steps until `KEEP` is met.

    The recipe of its README, and nothing that is particular to the network: the layers that write the output are ignored,
    no number of heads is given. `refused`: what it raised, or why the result does not count.
    """
    warnings.simplefilter("ignore")
    import torch_pruning as tp

    network, inputs = entry.network(), entry.inputs()
    example: Any = dict(inputs.kwargs) if inputs.kwargs else inputs.args if len(inputs.args) > 1 else inputs.args[0]
    dense_macs = count_macs(network, inputs)
    with torch.no_grad():
        before = shapes(inputs.call(network))
    began_s = time.process_time()
    try:
        pruner = tp.pruner.BasePruner(
            network,
            example,
            importance=tp.importance.MagnitudeImportance(p=2),
            iterative_steps=STEPS,
            pruning_ratio=1.0,
            ignored_layers=last_layers(network, inputs),
        )
        kept, ratios = 1.0, []
        while kept > KEEP and len(ratios) < STEPS:
            pruner.step()
            kept = count_macs(network, inputs) / dense_macs
            ratios.append(kept)
        found = {"kept": kept, "seconds": time.process_time() - began_s}
    except Exception as error:  # whatever it raises is the result
        return {"refused": f"{type(error).__name__}: {error}".splitlines()[0], "seconds": time.process_time() - began_s}
    with torch.no_grad():
        after = shapes(inputs.call(network))
    if kept > KEEP:
        return found | {"refused": f"keeps {kept:.3f} at its largest pruning ratio"}
    if before != after:
        return found | {"refused": "the output changes its shape"}
    return found


def shapes(output: Any) -> list[tuple[int, ...]]:
    return [tuple(t.shape) for t in outputs.tensors(output)]


@torch.no_grad()
def last_layers(network: nn.Module, inputs: Any) -> list[nn.Module]:
    """The layers whose output is an output of the network, or else the last one that ran."""
    made: dict[nn.Module, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda m, x, y: made.update({m: y}) if isinstance(y, Tensor) else None)
        for module in network.modules()
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
    ]
    try:
        output = inputs.call(network)
    finally:
        for handle in handles:
            handle.remove()
    results = {id(t) for t in outputs.tensors(output)}
    return [m for m, y in made.items() if id(y) in results] or list(made)[-1:]
