"""Which parts of a network are trained, and how fast: frozen ones, the head, and layers by their depth.

Parts are known by their modules, which stay the same while a method wraps and cuts the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.models.weights import heads_of
from greenprune.bench.suite.recipe import Training
from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList)


class Parts:
    """What a recipe says of the parts of a dense network; those that are frozen need no gradients from then on.

    Args:
        model: before a method prepares it.
        classes: its outputs.

    Raises:
        UserError: a pattern fits nothing, or nothing is left to train.
    """

    def __init__(self, model: nn.Module, recipe: Training, classes: int) -> None:
        self._frozen = freeze(model, recipe.freeze)
        scales = scales_of(model, recipe, classes)
        self._modules = [(model.get_submodule(name), scale) for name, scale in scales.items()]

    def train(self, network: nn.Module) -> None:
        """Training mode, but for frozen parts: norms among them would go on to change their statistics."""
        network.train()
        for module in self._frozen:
            module.eval()

    def split(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A method's parameter groups, each in as many as its parameters have learning rates."""
        scales = {id(p): scale for module, scale in self._modules for p in module.parameters(recurse=False)}
        return [part for group in groups for part in _by_scale(group, scales)] if scales else groups


def _by_scale(group: dict[str, Any], scales: dict[int, float]) -> Iterator[dict[str, Any]]:
    parts: dict[float, list[nn.Parameter]] = {}
    for parameter in group["params"]:
        parts.setdefault(scales.get(id(parameter), 1.0), []).append(parameter)
    for scale, parameters in parts.items():
        own = group.get("learning_rate_scale", 1.0) * scale
        yield {**group, "params": parameters, "learning_rate_scale": own}


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Let all that the patterns name need no gradients.

    Args:
        patterns: of the names of modules, with all below them, and of parameters.

    Returns:
        The modules that are frozen as a whole.

    Raises:
        UserError: a pattern fits nothing, or nothing is left to train.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    parameters = dict(model.named_parameters())
    frozen = []
    for pattern in patterns:
        found = [module for name, module in modules.items() if fnmatchcase(name, pattern)]
        single = [p for name, p in parameters.items() if fnmatchcase(name, pattern)]
        if not found and not single:
            known = [*modules, *parameters]
            raise UserError(
                f'training.freeze: "{pattern}" is no part of the network{did_you_mean(pattern, known)}; allowed: patterns of '
                f"names such as {', '.join(known[:5])}"
            )
        for module in found:
            module.requires_grad_(False)
            frozen += list(module.modules())
        for parameter in single:
            parameter.requires_grad_(False)
    if patterns and not any(p.requires_grad for p in parameters.values()):
        raise UserError(
            f"training.freeze = {list(patterns)}: nothing is left to train; allowed: patterns that leave a part"
        )
    return frozen


def scales_of(model: nn.Module, recipe: Training, classes: int) -> dict[str, float]:
    """What the learning rate of each module's own parameters is multiplied by; empty where it is the same for all."""
    if recipe.layer_decay is None and recipe.head_learning_rate is None:
        return {}
    layers = layers_of(model)
    decay = 1.0 if recipe.layer_decay is None else recipe.layer_decay
    scales = {name: decay ** (len(layers) - 1 - i) for i, layer in enumerate(layers) for name in layer}
    if recipe.head_learning_rate is not None:
        scales |= dict.fromkeys(heads_of(model, classes), recipe.head_learning_rate / recipe.learning_rate)
    return scales


def layers_of(model: nn.Module) -> list[list[str]]:
    """The layers from the inputs to the outputs, each with the names of its modules, in the order of registration.

    A block of a chain of blocks is a layer, and so is what stands alone. A norm belongs to the layer before it, parameters
    of the network itself (positions, class tokens) to the first.
    """
    layers: list[list[str]] = []
    around: list[str] = []
    for name, module in _blocks(model, "", around):
        names = [".".join(filter(None, (name, inner))) for inner, _ in module.named_modules()]
        single = len(names) == 1
        if single and layers and not isinstance(module, nn.Linear | nn.modules.conv._ConvNd | nn.Embedding):
            layers[-1] += names
        else:
            layers.append(names)
    if layers:
        layers[0] += around
    else:
        layers.append(around)
    return layers


def _blocks(module: nn.Module, name: str, around: list[str]) -> Iterator[tuple[str, nn.Module]]:
    """What is a layer below `module`; `around` takes what is only a holder of others."""
    around.append(name)
    for leaf, child in module.named_children():
        inner = f"{name}.{leaf}" if name else leaf
        if not any(True for _ in child.parameters()):
            continue
        if isinstance(child, CONTAINERS) or _is_chain(child):
            yield from _blocks(child, inner, around)
        else:
            yield inner, child


def _is_chain(module: nn.Module) -> bool:
    """Whether there is a list of two blocks of a kind in it, blocks being more than single layers."""
    for holder in module.modules():
        if isinstance(holder, CONTAINERS):
            kinds = [type(c) for c in holder if not isinstance(c, CONTAINERS) and any(True for _ in c.children())]
            if len(kinds) > len(set(kinds)):
                return True
    return False
