"""`hesso` beside the authors' optimizer HESSO: scores, what is chosen, zeros, and a whole training."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from greenprune.methods.cost.costs import MacCost
from greenprune.methods.hesso import Hesso, Sums, scores
from greenprune.methods.one_cycle import similarity
from greenprune.methods.options.hesso import HessoOptions
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.weights import written
from torch import Tensor, nn

from tests.methods.rivals import problem

EPOCHS, BEGIN, END, PERIODS = 10, 2, 4, 10
SPARSITY = 0.5
"""Of the groups of parameters that theirs drives to zero; ours gets the budget that comes of it."""


@contextmanager
def authors_code(folder: Path) -> Iterator[Any]:
    """Their class `OTO`. It reads names that torch has moved since, and wants a GPU for one tensor."""
    exporter = importlib.import_module("torch.onnx._internal.torchscript_exporter.utils")
    settings = importlib.import_module("torch.onnx._internal.torchscript_exporter._globals")
    with (
        problem.modules({"torch.onnx._globals": settings}, folder),
        patch.object(torch.onnx, "_optimize_graph", exporter._optimize_graph, create=True),
        patch.object(torch.Tensor, "cuda", lambda self, *_, **__: self),
    ):
        yield importlib.import_module("only_train_once").OTO


def compare(folder: Path, seeds: int) -> dict[str, Any]:
    """Train with both, and tell how far they agree."""
    rows: dict[str, list[float]] = {}
    with authors_code(folder) as oto:
        for seed in range(seeds):
            found, kept, budget = _train_theirs(oto, seed)
            for name, value in {**found, **_train_ours(seed, kept, budget)}.items():
                rows.setdefault(name, []).append(value)
    return rows


def _rate(steps: int) -> Any:
    return lambda step: problem.RATE * 0.5 * (1 + math.cos(math.pi * step / steps))


def _train_theirs(oto: Any, seed: int) -> tuple[dict[str, float], Tensor, float]:
    batches, test = problem.loaders(seed)
    model = problem.network(seed)
    structure = trace(model, batches.images[:2])
    with contextlib.redirect_stdout(io.StringIO()):
        made = oto(model=model, dummy_input=batches.images[:1])
        optimizer = made.hesso(
            variant="sgd", lr=problem.RATE, first_momentum=0.9, weight_decay=problem.DECAY, device="cpu",
            target_group_sparsity=SPARSITY, start_pruning_step=BEGIN * len(batches), pruning_periods=PERIODS,
            pruning_steps=(END - BEGIN) * len(batches),
        )  # fmt: skip
    units = _units_of(optimizer, structure)
    looks = _Looks(optimizer, model, structure, units)
    rate = _rate(EPOCHS * len(batches))
    step = 0
    with patch.object(optimizer, "identify_redundant_groups", looks):
        for _ in range(EPOCHS):
            model.train()
            for x, y in batches:
                optimizer.set_learning_rate(rate(step))
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
                step += 1
    kept = torch.ones(structure.units, dtype=torch.bool)
    for group_id, own in units.items():
        kept[own[optimizer.pruned_idxes[group_id]]] = False
    found = {
        "theirs_percent": problem.accuracy(model, test),
        "groups": float(len(units)),
        "score_difference": max(looks.differences),
        "score_correlation": min(looks.correlations),
        "chosen_alike": min(looks.alike),
    }
    return found, kept, float(MacCost(structure)(kept.float()))


def _units_of(optimizer: Any, structure: Any) -> dict[str, Tensor]:
    """By their group of parameters our units; raises where their groups are none of ours."""
    found = {}
    for group in optimizer.param_groups:
        if group["is_prunable"] and not group["is_auxiliary"]:
            layer = group["p_names"][-1].rpartition(".")[0]
            found[group["id"]] = structure.layers[layer].out_units
            assert len(found[group["id"]]) == group["num_groups"]
    assert torch.cat(list(found.values())).unique().numel() == int(structure.channel_units.sum())
    return found


class _Looks:
    """What both sides say of the same weights and directions, every time that the authors' code chooses."""

    def __init__(self, optimizer: Any, model: nn.Module, structure: Any, units: dict[str, Tensor]) -> None:
        self._optimizer, self._model, self._structure, self._units = optimizer, model, structure, units
        self._choose = optimizer.identify_redundant_groups
        self.differences: list[float] = []
        self.correlations: list[float] = []
        self.alike: list[float] = []

    def __call__(self) -> None:
        groups = [g for g in self._optimizer.param_groups if g["id"] in self._units]
        along = {n: d for g in self._optimizer.param_groups for n, d in g["grad_variant"].items()}
        channels = self._structure.channel_units
        sums = Sums.of(self._model, written(self._model, self._structure), along, self._structure.units)
        ours, theirs = scores(sums, channels), torch.zeros(self._structure.units)
        for group in groups:
            theirs[self._units[group["id"]]] = group["importance_scores"]["overall"].float()
        self.differences.append(problem.largest_difference(ours[channels], theirs[channels]))
        self.correlations.append(problem.rank_correlation(ours[channels], theirs[channels]))
        gone = torch.zeros(self._structure.units, dtype=torch.bool)
        for group in groups:
            gone[self._units[group["id"]][self._optimizer.pruned_idxes[group["id"]]]] = True
        before = len(self._optimizer.pruned_group_idxes)
        self._choose()
        fresh = torch.zeros_like(gone)
        for group in groups:
            fresh[self._units[group["id"]][self._optimizer.active_redundant_idxes[group["id"]]]] = True
        lowest = ours.masked_fill(gone, float("inf")).argsort()[: len(self._optimizer.pruned_group_idxes) - before]
        mine = torch.zeros_like(gone)
        mine[lowest] = True
        self.alike.append(float((fresh & mine).sum()) / max(1, int((fresh | mine).sum())))


def _train_ours(seed: int, theirs: Tensor, budget: float) -> dict[str, float]:
    batches, test = problem.loaders(seed)
    steps = EPOCHS * len(batches)
    options = HessoOptions(begin_share=BEGIN / EPOCHS, prune_share=(END - BEGIN) / EPOCHS, periods=PERIODS)
    method = Hesso(options, keep=budget, steps=steps)
    model = problem.network(seed)
    result = problem.train(method, model, batches, EPOCHS, _rate(steps), nesterov=False)
    kept = ~method._redundant
    return {
        "ours_percent": problem.accuracy(result, test),
        "macs_percent": 100 * budget,
        "sub_networks_alike": similarity(method._structure, kept, theirs),
    }
