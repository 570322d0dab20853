"""Units that are driven to zero and then removed; what it shares with other methods is in test_contract."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from greenprune.methods.hesso import Hesso, Sums, directions, period_ends, scores, stretch
from greenprune.methods.options.hesso import HessoOptions
from greenprune.methods.structure.slot import Slot
from greenprune.methods.structure.surgery import evaluate
from greenprune.methods.structure.weights import written
from torch import Tensor, nn

from tests.methods.contract import run
from tests.methods.networks import PlainConvs, SmallResidual, batches, images, network
from tests.methods.together import train_in_two
from tests.methods.traces import trace


def entries(model: PlainConvs, values: dict[str, Tensor]) -> list[list[float]]:
    """Of each of the 64 channels what writes it, by hand."""
    return [
        [*values[f"{name}.weight"][c].flatten().tolist(), float(values[f"{name}.bias"][c])]
        for name in ("first", "second")
        for c in range(32)
    ]


def test_scores_are_the_mean_of_five_normalised_criteria() -> None:
    torch.manual_seed(0)
    model = PlainConvs()
    structure = trace(model, images(2, 16))
    weights = {n: p.detach() for n, p in model.named_parameters()}
    along = {n: torch.randn_like(p) for n, p in weights.items()}
    sums = Sums.of(model, written(model, structure), along, structure.units)
    found = scores(sums, structure.channel_units)
    assert structure.units == 64
    criteria: list[list[float]] = [[] for _ in range(5)]
    for w, g in zip(entries(model, weights), entries(model, along), strict=True):
        product = sum(a * b for a, b in zip(w, g, strict=True))
        norm, other = math.sqrt(sum(a * a for a in w)), math.sqrt(sum(b * b for b in g))
        each = (norm, norm / len(w), 1 + product / norm / other, abs(product), product**2 / 2)
        for criterion, value in zip(criteria, each, strict=True):
            criterion.append(value)
    sizes = [math.sqrt(sum(v * v for v in criterion)) for criterion in criteria]
    expected = [sum(c[u] / s for c, s in zip(criteria, sizes, strict=True)) / 5 for u in range(64)]
    assert torch.allclose(found, torch.tensor(expected), rtol=1e-4)


def test_a_unit_that_may_not_go_has_no_part_in_the_scores() -> None:
    model = SmallResidual()
    structure = trace(model, images(2, 16))
    sums = Sums.of(model, written(model, structure), {}, structure.units)
    found = scores(sums, structure.channel_units)
    assert found[~structure.channel_units].isinf().all()
    assert found[structure.channel_units].isfinite().all()


@pytest.mark.parametrize("kind", ["momentum", "adam", "plain"])
def test_directions_are_those_of_the_optimizer(kind: str) -> None:
    torch.manual_seed(0)
    model = PlainConvs()
    sides = written(model, trace(model, images(2, 16)))
    optimizer: torch.optim.Optimizer = {
        "momentum": lambda: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
        "adam": lambda: torch.optim.Adam(model.parameters(), lr=0.1),
        "plain": lambda: torch.optim.SGD(model.parameters(), lr=0.1),
    }[kind]()
    for x, y in batches(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        before, grad = model.first.weight.detach().clone(), model.first.weight.grad.clone()
        optimizer.step()
    found = directions(model, sides, optimizer, {"first.weight": grad})["first.weight"]
    assert torch.allclose(before - 0.1 * found, model.first.weight, atol=1e-6)


def test_periods_cover_the_pruning_and_none_is_empty() -> None:
    assert period_ends(10, 30, 4) == (10, 15, 20, 25, 30)
    assert period_ends(3, 5, 10) == (3, 4, 5)


@pytest.mark.parametrize(
    ("steps", "share", "ends"), [(2, 0.1, (1, 2)), (2, 0.9, (1, 2)), (5, 0.95, (4, 5)), (100, 0.9, (90, 94))]
)
def test_the_pruning_ends_with_the_training_at_the_latest(steps: int, share: float, ends: tuple[int, int]) -> None:
    assert stretch(HessoOptions(begin_share=share, prune_share=0.04), steps) == ends


def test_one_step_is_too_few() -> None:
    with pytest.raises(ValueError, match="steps = 1: allowed is at least 2"):
        Hesso(keep=0.5, steps=1).prepare(SmallResidual(), images(2, 16))


def test_within_a_period_what_is_redundant_falls_linearly() -> None:
    torch.manual_seed(0)
    method = Hesso(HessoOptions(begin_share=0.1, prune_share=0.4, periods=2), keep=0.5, steps=20, tolerance=0.05)
    trained = method.prepare(network(), images(2, 16))
    dense = {n: p.detach().clone() for n, p in trained.model.named_parameters()}
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.0)
    shares, sizes = [], []
    for step in range(1, 10):
        method.after_step(optimizer)
        if step == 2:
            first = method._fading.clone()
        if step == 6:
            assert not (method._fading & first).any()
        group = next(g for g in method._structure.groups if g.name == "layer3.0.conv1")
        gone = first[group.units] if step >= 2 else torch.zeros(group.width, dtype=torch.bool)
        now = trained.model.layer3[0].bn1.bias.detach()
        shares.append(float((now[gone] / dense["layer3.0.bn1.bias"][gone]).mean()) if gone.any() else 1.0)
        sizes.append(int(method._redundant.sum()))
        assert torch.equal(
            now[~method._redundant[group.units]], dense["layer3.0.bn1.bias"][~method._redundant[group.units]]
        )
    assert shares == pytest.approx([1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0], abs=1e-6)
    assert sizes[0] == 0 < sizes[1] == sizes[4] < sizes[5] == sizes[-1]
    assert [step for step, _ in method.history()["chosen"]] == [2, 6]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_units_are_zero_before_they_go_and_their_removal_changes_nothing(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, seen = images(8, 16), []
    cut = Slot.cut

    def watched(slot: Slot, keep: Tensor, *others: Any) -> float:
        gone = torch.cat([~keep, torch.tensor([False])])
        modules = dict(slot.model.named_modules())
        for side in written(slot.model, slot.structure):
            own = side.weight(modules).detach().movedim(side.dim, 0)
            seen.append(float(own[gone[side.units]].abs().sum()))
        before = evaluate(slot.model, x)
        difference = cut(slot, keep, *others)
        after = evaluate(slot.model, x)
        seen.append(float((after - before).abs().max() / before.abs().max()))
        return difference

    monkeypatch.setattr(Slot, "cut", watched)
    torch.manual_seed(0)
    method = Hesso(HessoOptions(begin_share=0.2, prune_share=0.5), keep=0.5, steps=10)
    trained = method.prepare(network(), x[:2])
    kind = torch.optim.SGD(trained.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    made = kind if optimizer == "sgd" else torch.optim.AdamW(trained.parameters(), lr=0.01)
    for images_, y in batches(10, batch=4):
        nn.functional.cross_entropy(trained(images_), y).backward()
        method.after_backward()
        made.step()
        made.zero_grad()
        method.after_step(made)
    assert len(seen) > 40
    assert seen[:-1] == [0.0] * (len(seen) - 1)
    assert seen[-1] < 1e-5


def test_processes_that_share_their_gradients_decide_alike() -> None:
    (a, one), (b, two) = train_in_two("hesso", 12, prune_share=0.3)
    assert torch.equal(one._redundant, two._redundant)
    assert one._redundant.any()
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_small_budgets_fall_by_less_than_the_tolerance_each_period() -> None:
    _, method = run("hesso", SmallResidual(), 0.95, steps=20, options={"prune_share": 0.5})
    assert 0.93 <= method.predicted_cost <= 0.95


def test_shares_that_leave_nothing_to_train_are_refused() -> None:
    with pytest.raises(ValueError, match=r"begin_share \+ prune_share = 1\.1 leave nothing"):
        Hesso.phases(HessoOptions(begin_share=0.5, prune_share=0.6))
