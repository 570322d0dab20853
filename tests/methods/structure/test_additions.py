"""Additions of every kind: removed as branches, or listed with the reason."""

import torch
import torch.nn.functional as F
from greenprune.methods import ungateable
from greenprune.methods.structure.surgery import evaluate, remove
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn

from tests.methods.networks import images
from tests.methods.structure.odd import Net, conv, exact, head


def test_functional_additions_of_every_kind_are_residual_branches():
    def iadd(a: Tensor, b: Tensor) -> Tensor:
        a += b
        return a

    for add in (lambda a, b: a + b, torch.add, iadd, lambda a, b: a.add_(b), lambda a, b: b.add(a)):
        model = Net(
            lambda m, x, add=add: m.head(F.relu(add(m.c(F.relu(m.b(s := m.a(x)))), s))),
            a=conv(3, 8),
            b=conv(8, 8),
            c=conv(8, 8),
            head=head(8),
        )
        structure = exact(model, images(2, 8))
        assert [(b.modules, b.end) for b in structure.branches] == [(("b", "c"), "c")]


def test_a_branch_that_changes_the_shape_is_listed():
    model = Net(
        lambda m, x: m.head(F.adaptive_avg_pool2d(s := m.a(x), 1) + m.b(s)), a=conv(3, 8), b=conv(8, 8), head=head(8)
    )
    model.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 64, 10))
    entries = [e for e in ungateable(model, images(2, 8)) if e.kind == "branch"]
    assert len(entries) == 1
    assert entries[0].reason.startswith("head.1 (Linear) does not run without them: its code counts on a fixed number")


def test_branches_that_cannot_be_removed_say_why():
    x = images(2, 8)

    def reason(forward, **modules) -> str:
        model = Net(forward, a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), d=conv(8, 8), head=head(8), **modules)
        (entry,) = [e for e in ungateable(model, x) if e.kind == "branch"]
        return entry.reason

    assert "neither is a shortcut" in reason(lambda m, x: m.head(m.b(s := m.a(x)) + m.c(s)))
    assert "b in it is called 2 times" in reason(lambda m, x: m.head(m.b(m.b(s := m.a(x))) + s))
    inner = "a result inside the branch is used outside of it as well"
    assert inner == reason(lambda m, x: m.head(torch.cat([m.c(t := m.b(s := m.a(x))) + s, t], 1)[:, :8]))
    assert "one layer that could close it" in reason(lambda m, x: m.head((m.b(s := m.a(x)) * 0.5 - m.c(s)) + s))
    assert "something mixes" in reason(lambda m, x: m.head(torch.sigmoid(m.b(s := m.a(x))) + s))


def test_nested_additions_are_removed_together_and_alone():
    def model() -> nn.Module:
        torch.manual_seed(0)
        return Net(
            lambda m, x: m.head((s := m.a(x)) + m.d((t := m.b(s)) + m.c(t))),
            a=conv(3, 8),
            b=conv(8, 8),
            c=conv(8, 8),
            d=conv(8, 8),
            head=head(8),
        ).eval()

    x = images(2, 8)
    structure = trace(model(), x)
    assert [b.end for b in structure.branches] == ["c", "d"]
    for closed, left in ((["c"], {"a", "b", "d"}), (["d"], {"a"}), (["c", "d"], {"a"})):
        keep = torch.ones(structure.units, dtype=torch.bool)
        for branch in structure.branches:
            keep[branch.unit] = branch.end not in closed
        small = remove(model(), structure, keep)
        assert {n for n, m in small.named_modules() if isinstance(m, nn.Conv2d)} == left
        assert evaluate(small, x).shape == (2, 10)
