"""The optimizer that a recipe names, over a method's parameter groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from greenprune.bench.suite.recipe import Training


def make_optimizer(groups: list[dict[str, Any]], recipe: Training) -> torch.optim.Optimizer:
    """The recipe's optimizer; the loop sets each group's rate from its `learning_rate_scale`.

    Args:
        groups: of a method, see `Method.param_groups`, or of an optimizer that was made here before.
        recipe: `adam` adds the weight decay to the gradient (L2), `adamw` takes it off the weights (Loshchilov & Hutter
            2019, arXiv 1711.05101).
    """
    if not recipe.decay_norms_and_biases:
        groups = [part for group in groups for part in _without_decay_of_vectors(group)]
    groups = [{"learning_rate_scale": 1.0, **group} for group in groups]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        assert recipe.momentum is not None
        assert recipe.nesterov is not None
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=decay)
    assert recipe.betas is not None
    first, second = recipe.betas
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, betas=(first, second), weight_decay=decay)


def _without_decay_of_vectors(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The group in two, unless it has a weight decay of its own."""
    if "weight_decay" in group:
        yield group
        return
    parameters = list(group["params"])
    yield {**group, "params": [p for p in parameters if p.ndim > 1]}
    yield {**group, "params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
