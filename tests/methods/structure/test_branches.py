"""Residual branches however they are written: found, and gone without a trace when they are removed."""

import copy

import pytest
import torch
from greenprune.methods.structure.branches import find_branches
from greenprune.methods.structure.macs import COUNTED, count_macs
from greenprune.methods.structure.passes import follow
from greenprune.methods.structure.surgery import evaluate, masked, remove
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import nn

from tests.methods.block_networks import NETWORKS, Attention, PreNorm, Tokens, mlp, network


def without(structure: Structure, *names: int) -> torch.Tensor:
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[[structure.branches[i].unit for i in names]] = False
    return keep


@pytest.mark.parametrize("name", NETWORKS)
def test_every_branch_is_found_and_removed_alone_and_together(name):
    model, x = network(name)
    structure = trace(model, x)
    count = NETWORKS[name][1]
    assert len(structure.branches) == count, structure.fixed_branches
    dense = evaluate(model, x)
    for which in [(i,) for i in range(count)] + [tuple(range(count))]:
        small, keep = copy.deepcopy(model), without(structure, *which)
        with masked(small, structure, keep):
            expected = evaluate(small, x)
        assert (expected - dense).abs().max() > 1e-3
        small = remove(small, structure, keep)
        assert (evaluate(small, x) - expected).abs().max() <= 1e-12
        left = {n for n, m in small.named_modules() if isinstance(m, COUNTED) and n in structure.layers}
        closed = [structure.branches[i] for i in which]
        assert not [n for n in left if any(b.holds(n) for b in closed)]
        # Other numbers of examples, and training, where dropout and stochastic depth are at work.
        assert evaluate(small, x[:3]).shape == (3, 10)
        small.train()(x).sum().backward()


@pytest.mark.parametrize("name", ["pre_norm", "by_keyword", "post_norm", "in_place"])
def test_what_remains_costs_nothing_and_can_be_exported(name):
    model, x = network(name)
    structure = trace(model, x)
    all_gone = without(structure, *range(len(structure.branches)))
    small = remove(model, structure, all_gone).eval()
    assert count_macs(small, x) == 8 * 3 * 16 + 160  # embedding and head
    exported = torch.export.export(small, (x,)).module()
    assert torch.allclose(exported(x), evaluate(small, x))


def test_the_outermost_modules_of_a_branch_and_its_end():
    model, x = network("pre_norm")
    attention, feed_forward = find_branches(model.eval(), follow(model, (x,), {}))[0][:2]
    assert attention.blocks == ("blocks.0.norm1", "blocks.0.attn", "blocks.0.scale1")  # the drop path serves both
    assert attention.end == "blocks.0.attn.proj"
    assert feed_forward.holds("blocks.0.mlp.3")
    assert not feed_forward.holds("blocks.0.attn.qkv")


def test_a_layer_scale_of_the_holder_goes_with_the_branch():
    model, x = network("by_keyword")
    assert all(b.constants is None for b in trace(model, x).branches)  # emptied: the code stays
    model, x = network("pre_norm")
    assert [b.constants for b in trace(model, x).branches] == [()] * 4  # the mask is handed on, whatever it is


def test_concatenations_and_sums_of_constants_are_no_branches():
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.table = (
                nn.Linear(16, 16),
                nn.Linear(32, 16),
                nn.Sequential(nn.Linear(2, 16), nn.ReLU()),
            )

        def forward(self, x):
            y = self.b(torch.cat([x, self.a(x)], -1))
            return y + self.table(x.new_ones(1, 8, 2))

    model = Tokens(Skip()).eval()
    assert find_branches(model, follow(model, (torch.randn(2, 8, 3),), {})) == ([], [])


def test_a_norm_that_shifts_behind_the_last_layer_closes_the_branch():
    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(16))

        def forward(self, x):
            return x + self.shift

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp, self.norm = mlp(), Shift()

        def forward(self, x):
            return self.norm(self.mlp(x)) + x

    model, x = Tokens(Block()), torch.randn(2, 8, 3)
    (branch,) = trace(model, x).branches
    assert branch.end == "blocks.0.norm"


def test_a_branch_around_branches():
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.inner = nn.LayerNorm(16), PreNorm()

        def forward(self, x):
            return x + self.inner(self.norm(x)) * 0.5

    torch.manual_seed(0)
    model, x = Tokens(Outer()).double(), torch.randn(2, 8, 3).double()
    structure = trace(model, x)
    assert [b.name for b in structure.branches] == ["blocks.0.inner", "blocks.0.inner"]  # nothing closes the outer one
    for which in [(0,), (1,), (0, 1)]:
        small, keep = copy.deepcopy(model), without(structure, *which)
        with masked(small, structure, keep):
            expected = evaluate(small, x)
        assert (evaluate(remove(small, structure, keep), x) - expected).abs().max() <= 1e-12


def test_a_result_that_another_block_needs_keeps_its_layers():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn, self.mlp = Attention(), mlp()

        def forward(self, x):
            y = self.attn(x)
            return torch.cat([x + self.mlp(y), y], 1)

    model, x = Tokens(Both()), torch.randn(2, 8, 3)
    structure = trace(model, x)
    assert not structure.branches
    assert ("blocks.0", "a result inside the branch is used outside of it as well") in structure.fixed_branches
