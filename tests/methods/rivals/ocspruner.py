"""`one_cycle` beside the authors' code of OCSPruner: saliency, sub-network, stability score, pull, and a whole training."""

from __future__ import annotations

import copy
import importlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import torch
from greenprune.methods.budget.select import select
from greenprune.methods.cost.costs import MacCost
from greenprune.methods.one_cycle import OneCycle, Saliency, similarity, spared
from greenprune.methods.options.one_cycle import OneCycleOptions
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn

from tests.methods.rivals import problem

EPOCHS, BEGIN, LATEST = 10, 2, 6
SHRINKAGE = 7.0
KEEP = 0.5


@contextmanager
def authors_code(folder: Path) -> Iterator[ModuleType]:
    """Their script as a module. Its networks and data sets are not needed, and no pictures are drawn."""
    engine = ("engine", "engine.registry", "engine.utils", "engine.utils.utils", "engine.utils.imagenet_utils")
    arguments = ["main_cifar.py", "--mode", "prune", "--model", "resnet20", "--dataset", "cifar10"]
    stand_ins = {name: MagicMock() for name in (*engine, "engine.utils.imagenet_utils.utils")}
    with (
        problem.modules(stand_ins, folder),
        patch.object(sys, "argv", arguments),
        patch.dict("os.environ", {"MPLBACKEND": "Agg"}),
    ):
        script = importlib.import_module("main_cifar")
        with patch.object(script, "plot_prune_retained_filter_ratios", MagicMock()):
            yield script


class Looks:
    """What both sides say of the same weights, every time that the authors' code looks for the sub-network."""

    def __init__(self, theirs: Any, model: nn.Module, example: Tensor) -> None:
        self._theirs, self._find = theirs, theirs.get_groups_pruning_indices
        self._structure, self._names = trace(model, example), {m: n for n, m in model.named_modules()}
        self._saliency = Saliency(model, self._structure)
        self.correlations: list[float] = []
        self.differences: list[float] = []
        self.alike: list[float] = []
        self.kept: list[Tensor] = []
        self.stability: list[float] = []

    def __call__(self, pruner: Any, args: Any, *others: Any) -> tuple[dict[str, list[int]], nn.Module]:
        found, pruned = self._find(pruner, args, *others)
        structure, own = self._structure, self._saliency(pruner.model)
        raw = torch.zeros(structure.units)
        for group in pruner.groups_prune_candidate:
            units = self._units(group)
            if units is not None:
                raw[units] = pruner.importance(group, ch_groups=1).float()
        channels = structure.channel_units
        unweighted = own[channels] / self._saliency._weights[channels]
        self.differences.append(problem.largest_difference(unweighted, raw[channels]))
        theirs = raw.clone()
        for i, group in enumerate(pruner.groups_prune_candidate):
            units = self._units(group)
            if units is not None:
                theirs[units] *= 1 - pruner.group_cost[f"group{i + 1}"][-1]
        self.correlations.append(problem.rank_correlation(own[channels], theirs[channels]))
        kept = self.kept_of(pruner, found)
        # To the cost that theirs has: the script ends its search where it is near the target.
        cost = MacCost(structure)
        budget = float(cost(kept.float())) + 1e-6
        ours = select(structure, spared(structure, own, args.layer_prune_limit), budget, 0.02, channels, cost)
        self.alike.append(similarity(structure, kept, ours))
        self.kept.append(kept)
        return found, pruned

    def _units(self, group: Any) -> Tensor | None:
        """Which of our units their group is; None: one that we do not remove (the output)."""
        units = self._structure.layers[self._names[group[0][0].target.module]].out_units
        return None if bool((units < 0).any()) else units

    def kept_of(self, pruner: Any, found: dict[str, list[int]]) -> Tensor:
        kept = torch.ones(self._structure.units, dtype=torch.bool)
        for i, group in enumerate(pruner.groups_prune_candidate):
            units = self._units(group)
            if units is not None:
                kept[units[found.get(f"group{i + 1}", [])]] = False
        return kept


def compare(folder: Path, seeds: int) -> dict[str, Any]:
    """Train with both, and tell how far they agree."""
    rows: dict[str, list[float]] = {}

    def note(**values: float) -> None:
        for name, value in values.items():
            rows.setdefault(name, []).append(value)

    with authors_code(folder) as theirs, tempfile.TemporaryDirectory() as place:
        for seed in range(seeds):
            note(**_train_theirs(theirs, Path(place), seed))
            note(pull_difference=_pull(theirs, seed), **_train_ours(seed))
    return rows


def _train_theirs(theirs: Any, place: Path, seed: int) -> dict[str, float]:
    """Their script from its first to its last step, with its own functions."""
    batches, test = problem.loaders(seed)
    model, args = problem.network(seed), theirs.args
    steps_of_pull = sum(range(1, LATEST - BEGIN + 1)) * len(batches)
    vars(args).update(
        total_epochs=EPOCHS, num_classes=problem.CLASSES, device=torch.device("cpu"), logger=MagicMock(), reg=0.0,
        reg_delta=SHRINKAGE / steps_of_pull / problem.RATE, sl_start_epoch=BEGIN - 2, sl_end_epoch=LATEST - 2,
        prune_monitor_start_epoch=1, target_flop_rr=1.0 - KEEP, output_dir=str(place),
        learning_rate=f"(MultiStepLR, {problem.RATE}, [0.5|0.75|0.9], 0.2)",
    )  # fmt: skip
    net_history, pi_all = theirs.get_net_similarity.__globals__["net_history"], theirs.draw_pi_sim.__globals__["pi_all"]
    net_history.clear()
    pi_all.clear()
    example = batches.images[:1]
    cost = theirs.calculate_channel_cost_ingroup(model, args, example)
    pruner = theirs.get_pruner(model, args, example)
    pruner.group_cost, pruner.plot_group_norm_hist = cost, MagicMock()
    looks = Looks(theirs, model, batches.images[:2])
    schedule = theirs.define_optimizer_scheduler
    common = {"train_loader": batches, "test_loader": test, "epochs": EPOCHS}
    optimizer, scheduler = schedule(model, batches, args)
    with patch.object(theirs, "get_groups_pruning_indices", looks):
        last = theirs.train_model(
            model, **common, optimizer=optimizer, scheduler=scheduler, pruner=pruner, save_as=str(place / "net.pth"),
            sl_start_epoch=args.sl_start_epoch, prune_monitor_start_epoch=args.prune_monitor_start_epoch,
        )  # fmt: skip
    stability = [
        similarity(looks._structure, looks.kept[i - 2], looks.kept[i]) if i >= 2 else 0.0
        for i in range(len(looks.kept))
    ]
    told = [v for v in pi_all if v > 0]  # once it is stable nobody looks again, and it counts on
    apart = max((abs(a - b) for a, b in zip(stability[2:], told, strict=False)), default=0.0)
    model = theirs.prune_model(pruner, test, args, pruner.groups_pruning_indices, *pruner.get_model_info())
    optimizer, scheduler = schedule(model, batches, args)
    for _ in range((last + 1) * len(batches)):
        scheduler.step()
    theirs.train_model(
        model,
        **common,
        start_epoch=last + 1,
        optimizer=optimizer,
        scheduler=scheduler,
        save_as=str(place / "small.pth"),
    )
    return {
        "theirs_percent": problem.accuracy(model, test),
        "theirs_cut_epoch": float(last + 1),
        "saliency_difference": max(looks.differences),
        "saliency_correlation": min(looks.correlations),
        "sub_networks_alike": min(looks.alike),
        "stability_difference": apart,
    }


def _train_ours(seed: int) -> dict[str, float]:
    batches, test = problem.loaders(seed)
    steps = EPOCHS * len(batches)
    options = OneCycleOptions(
        begin_share=BEGIN / EPOCHS, latest_cut=LATEST / EPOCHS, look_share=1 / EPOCHS, shrinkage=SHRINKAGE
    )
    method = OneCycle(options, keep=KEEP, steps=steps)
    drops = [int(share * EPOCHS) * len(batches) for share in (0.5, 0.75, 0.9)]
    result = problem.train(
        method, problem.network(seed), batches, EPOCHS,
        lambda step: problem.RATE * 0.2 ** sum(step >= drop for drop in drops), nesterov=True,
    )  # fmt: skip
    assert method.cut_step is not None
    return {"ours_percent": problem.accuracy(result, test), "ours_cut_epoch": method.cut_step / len(batches)}


def _pull(theirs: Any, seed: int) -> float:
    """The largest relative difference of a weight after one pull at the same sub-network."""
    batches, _ = problem.loaders(seed)
    model = problem.network(seed)
    own = copy.deepcopy(model)
    pruner = theirs.get_pruner(model, theirs.args, batches.images[:1])
    pruner.group_cost = theirs.calculate_channel_cost_ingroup(model, theirs.args, batches.images[:1])
    looks = Looks(theirs, model, batches.images[:2])
    found, _ = looks(pruner, theirs.args)
    pruner.update_pruning_groups(found)
    pruner.scale_weights_towards_zero(0.9)
    structure: Structure = trace(own, batches.images[:2])
    Saliency(own, structure).shrink(own, ~looks.kept[-1], 0.9)
    return max(
        float((p - q).detach().abs().max() / q.detach().abs().max().clamp_min(1e-12))
        for (name, p), (_, q) in zip(own.named_parameters(), model.named_parameters(), strict=True)
    )
