"""The optimizer that a recipe names, over a method's parameter groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from greenprune.bench.data.reference import brief, called
from greenprune.bench.errors import UserError
from greenprune.bench.suite.recipe import Training

MADE = "a function of parameter groups, lr and weight_decay that returns a torch.optim.Optimizer"


def make_optimizer(groups: list[dict[str, Any]], recipe: Training) -> torch.optim.Optimizer:
    """The recipe's optimizer; the loop sets each group's rate from its `learning_rate_scale`.

    Args:
        groups: of a method, see `Method.param_groups`, or of an optimizer that was made here before.
        recipe: `adam` adds the weight decay to the gradient (L2), `adamw` takes it off the weights (Loshchilov & Hutter
            2019, arXiv 1711.05101). A factory of the user's is called with the groups, `lr` and `weight_decay`.

    Raises:
        UserError: such a factory cannot be had, fails, or makes something else.
    """
    if ":" in recipe.optimizer:
        return _factorys_own(groups, recipe)
    groups = [{"learning_rate_scale": 1.0, **group} for group in _decayed(groups, recipe)]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        assert recipe.momentum is not None
        assert recipe.nesterov is not None
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=decay)
    assert recipe.betas is not None
    first, second = recipe.betas
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, betas=(first, second), weight_decay=decay)


def factory_of(recipe: Training) -> Callable[..., Any] | None:
    """The function `package.module:make` that the recipe names; None where it names none. Raises UserError."""
    if ":" not in recipe.optimizer:
        return None
    return called("training.optimizer", recipe.optimizer, MADE)


def _factorys_own(groups: list[dict[str, Any]], recipe: Training) -> torch.optim.Optimizer:
    make, name = factory_of(recipe), recipe.optimizer
    assert make is not None
    groups = [{"learning_rate_scale": 1.0, **group} for group in _decayed(groups, recipe)]
    try:
        made = make(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's code
        raise UserError(f'training.optimizer = "{name}": calling it failed with {brief(error)}') from error
    if not isinstance(made, torch.optim.Optimizer):
        raise UserError(f'training.optimizer = "{name}": returned a {type(made).__name__}; allowed is {MADE}')
    if any("learning_rate_scale" not in group for group in made.param_groups):
        raise UserError(
            f'training.optimizer = "{name}": made other parameter groups; allowed is an optimizer of those it is given'
        )
    return made


def _decayed(groups: list[dict[str, Any]], recipe: Training) -> list[dict[str, Any]]:
    if recipe.decay_norms_and_biases:
        return groups
    return [part for group in groups for part in _without_decay_of_vectors(group)]


def _without_decay_of_vectors(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The group in two, unless it has a weight decay of its own."""
    if "weight_decay" in group:
        yield group
        return
    parameters = list(group["params"])
    yield {**group, "params": [p for p in parameters if p.ndim > 1]}
    yield {**group, "params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
