"""What Torch-Pruning's generic recipe makes of one network."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from greenprune.methods import count_macs
from greenprune.methods.structure import outputs
from torch import Tensor, nn

from tests.methods.zoo.entry import Entry

KEEP, STEPS = 0.5, 50
PACKED, SEPARATE = ("qkv",), ("q", "query", "q_proj", "k", "key", "k_proj", "v", "value", "v_proj")
"""What modules with heads call their projections."""


def measure(entry: Entry) -> dict[str, Any]:
    """Prune by weight magnitude, group by group and the same share of each, in small steps until `KEEP` is met.

    The recipe of its README, and nothing that is particular to the network: the layers that write the output are ignored.
    Where that fails, once more as in its examples for transformers: it is told how many heads the projections have, and
    the sizes of the heads are corrected after each step. `refused`: what it raised, or why the result does not count.
    """
    warnings.simplefilter("ignore")
    found = attempt(entry, told=False)
    if "refused" in found and heads(entry.network()):
        again = attempt(entry, told=True)
        if "refused" not in again:
            return again | {"told_heads": True}
    return found


def attempt(entry: Entry, *, told: bool) -> dict[str, Any]:
    """
    Args:
        told: tell the pruner of heads.
    """
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
            num_heads=heads(network) if told else {},
        )
        kept, steps = 1.0, 0
        while kept > KEEP and steps < STEPS:
            pruner.step()
            if told:
                correct(network)
            kept = count_macs(network, inputs) / dense_macs
            steps += 1
        found = {"kept": kept, "seconds": time.process_time() - began_s}
    except Exception as error:  # whatever it raises is the result
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return {"refused": text, "seconds": time.process_time() - began_s}
    with torch.no_grad():
        after = shapes(inputs.call(network))
    if kept > KEEP:
        return found | {"refused": f"keeps {kept:.3f} at its largest pruning ratio"}
    if before != after:
        return found | {"refused": "the output changes its shape"}
    return found


def _with_heads(network: nn.Module) -> Iterator[tuple[nn.Module, int, list[tuple[str, nn.Linear]]]]:
    """Modules that say how many heads they have, that number, and their projections."""
    for module in network.modules():
        number = getattr(module, "num_heads", getattr(module, "num_attention_heads", None))
        own = [(n, m) for n, m in module.named_children() if isinstance(m, nn.Linear) and n in PACKED + SEPARATE]
        if isinstance(number, int) and own:
            yield module, number, own


def heads(network: nn.Module) -> dict[nn.Module, int]:
    return {layer: number for _, number, own in _with_heads(network) for _, layer in own}


def correct(network: nn.Module) -> None:
    """Set the sizes of heads to what the projections have left."""
    for module, number, own in _with_heads(network):
        name, layer = own[0]
        width = layer.out_features // (3 if name in PACKED else 1)
        sizes = {"head_dim": width // number, "attention_head_size": width // number, "all_head_size": width}
        for attribute, size in (sizes | {"attn_dim": width, "embed_dim": width}).items():
            if isinstance(getattr(module, attribute, None), int):
                setattr(module, attribute, size)


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
