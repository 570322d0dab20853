"""Networks as users write them: everything is either gated, with the right result, or listed with the reason."""

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating, GatingOptions, ungateable
from greenprune.methods.gating.wiring import unwrap
from greenprune.methods.structure import trial
from greenprune.methods.structure.surgery import evaluate, masked, remove
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from tests.methods.networks import images


class Net(nn.Module):
    """A network from its modules and a function of itself and its input."""

    def __init__(self, forward, **modules: nn.Module) -> None:
        super().__init__()
        self._function = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self._function(self, x)


def conv(i: int, o: int, k: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


def head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def exact(model: nn.Module, x: Tensor, seed: int = 0) -> Structure:
    """Asserts for random halves of all units that gates and removal agree; returns the structure."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    model.eval()
    dense = evaluate(model, x)
    gating = ConsensusGating(model, x, keep=1.0, steps=10, options=GatingOptions(streams=True))
    gating.steps_done = 3
    structure = gating.structure
    keep = torch.rand(structure.units, generator=generator) < 0.5
    for group in structure.groups:
        keep[group.start] = True
        keep[group.start + 1 : group.start + 2] = False
    gating.logit_mean.copy_(torch.where(keep, 5.0, -5.0))
    by_gates = evaluate(gating, x)
    unwrap(gating.network)
    removed = evaluate(remove(gating.network, structure, keep), x)
    assert (by_gates - removed).abs().max() <= 1e-5
    assert (removed - dense).abs().max() > 1e-4
    return structure


def reasons(model: nn.Module, x: Tensor) -> dict[str, str]:
    return {e.name: e.reason for e in ungateable(model, x)}


def groups(structure: Structure) -> list[str]:
    return [g.name for g in structure.groups]


ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "exp": torch.exp,
    "softplus": F.softplus,
    "cos": torch.cos,
    "plus_one": lambda x: x + 1.0,
    "gelu": F.gelu,
    "silu": F.silu,
    "relu": F.relu,
}


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "plain"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_that_do_not_keep_zero_are_masked_behind_them(activation, norm):
    function = ACTIVATIONS[activation]
    model = Net(
        lambda m, x: m.head(F.relu(m.b(function(m.norm(m.a(x)))))),
        a=conv(3, 8),
        norm=nn.BatchNorm2d(8) if norm else nn.Identity(),
        b=conv(8, 8),
        head=head(8),
    )
    structure = exact(model, images(2, 8))
    assert groups(structure) == ["a", "b"]
    # The mask goes to the consumer's input only where it has to: it costs a pass over the activations.
    assert structure.layers["b"].masks_input == (activation not in ("gelu", "silu", "relu"))


def test_an_activation_module_that_does_not_keep_zero():
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Sigmoid(), nn.Conv2d(8, 6, 3), nn.Softplus(), head(6)]
    assert groups(exact(nn.Sequential(*layers), images(2, 8))) == ["0", "3"]


def test_per_sample_masks_behind_such_an_activation_are_exact_too():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 6, 3), head(6))
    x = images(2, 8)
    gating = ConsensusGating(model, x, keep=1.0, steps=10, options=GatingOptions(execution="per_sample", noise=0.0))
    state = gating.state
    gating.eval()
    gates = torch.ones(2, state.units + 1)
    gates[0, :4] = 0.0  # the first image closes the first four channels

    def begin(*_: object, **__: object) -> None:
        state.gates, state.closed = gates, set()

    state.begin = begin  # type: ignore[method-assign]
    got = evaluate(gating, x)
    unwrap(gating.network)
    keep = gates[0, :-1].bool()
    assert (got[1:] - evaluate(gating.network, x)[1:]).abs().max() <= 1e-6
    assert (got[:1] - evaluate(remove(gating.network, gating.structure, keep), x)[:1]).abs().max() <= 1e-6


def test_a_layer_norm_forgets_closed_channels():
    class ChannelsFirst(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    model = Net(
        lambda m, x: m.head(m.b(m.norm(m.a(x)))), a=conv(3, 8), norm=ChannelsFirst(8), b=conv(8, 8), head=head(8)
    )
    structure = exact(model, images(2, 8))
    assert groups(structure) == ["a", "b"]
    assert structure.layers["norm"].channel_dim == 1
    model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 10))
    structure = exact(model, torch.randn(2, 5, 6))
    assert structure.layers["1"].channel_dim == -1


def test_a_layer_norm_over_more_than_the_channels_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LayerNorm([8, 6, 6]), nn.Conv2d(8, 8, 3), head(8))
    assert "a norm is taken over them in 1 (LayerNorm)" in reasons(model, images(2, 8))["0"]


def test_a_function_that_mixes_channels_is_found_by_trying():
    model = Net(
        lambda m, x: m.head(m.b(m.a(x) * torch.sigmoid(m.a(x).mean(1, keepdim=True)))),
        a=conv(3, 8),
        b=conv(8, 8),
        head=head(8),
    )
    assert "mean is taken over them" in reasons(model, images(2, 8))["a"]
    assert groups(trace(model, images(2, 8))) == ["b"]


def test_a_constant_of_fixed_size_is_found_by_trying():
    model = Net(lambda m, x: m.head(m.a(x) * torch.arange(1.0, 9.0)[:, None, None]), a=conv(3, 8), head=head(8))
    assert "something of a fixed size" in reasons(model, images(2, 8))["a"]


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


def test_an_output_that_is_no_number_is_no_agreement():
    model = Net(lambda m, x: m.head(m.a(x)) * float("nan"), a=conv(3, 8), head=head(8))
    assert "not a number (NaN)" in reasons(model, images(2, 8))["a"]


def test_large_networks_are_tried_in_single_precision_and_in_double_where_they_differ(monkeypatch):
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = x + m.b(F.relu(m.a(x)))
        return m.head(m.d(F.relu(m.c(x)))) / m.c.weight.shape[0]  # what is left of c is counted

    model = Net(forward, a=conv(3, 8), b=conv(8, 3), c=conv(3, 8), d=conv(8, 8), head=head(8)).eval()
    x = images(2, 8)
    usual = trace(model, x)
    monkeypatch.setattr(trial, "LARGE", 0)
    quick = trace(model, x)
    assert (groups(quick), quick.fixed, quick.branches) == (groups(usual), usual.fixed, usual.branches)
    assert groups(usual) == ["a", "d"]
    assert "c" in dict(usual.fixed)
    monkeypatch.setattr(trial, "NEAR", 0.0)  # nothing agrees in single precision
    assert groups(trace(model, x)) == ["a", "d"]


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


def test_a_module_called_twice():
    model = Net(lambda m, x: m.head(m.b(F.relu(m.b(F.relu(m.a(x)))))), a=conv(3, 8), b=conv(8, 8), head=head(8))
    assert groups(exact(model, images(2, 8))) == ["a"]


def test_a_module_under_two_names_and_tied_weights():
    shared = conv(8, 8)
    model = Net(lambda m, x: m.head(m.c(F.relu(m.b(F.relu(m.a(x)))))), a=conv(3, 8), b=shared, c=shared, head=head(8))
    assert groups(exact(model, images(2, 8))) == ["a"]
    model = Net(lambda m, x: m.head(m.c(F.relu(m.b(m.a(x))))), a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), head=head(8))
    model.c.weight = model.b.weight
    assert "shares its weights" in reasons(model, images(2, 8))["b"]


def test_a_reused_activation_module():
    relu = nn.ReLU(inplace=True)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), relu, nn.Conv2d(8, 6, 3), relu, head(6))
    assert groups(exact(model, images(2, 8))) == ["0", "2"]


def test_concatenation():
    model = Net(
        lambda m, x: m.head(m.c(torch.cat([m.a(x), m.b(x)], 1))),
        a=conv(3, 8),
        b=conv(3, 6),
        c=conv(14, 8),
        head=head(8),
    )
    assert groups(exact(model, images(2, 8))) == ["a", "b", "c"]


def test_a_concatenation_with_the_input_itself():
    model = Net(lambda m, x: m.head(m.c(torch.cat([m.a(x), x], 1))), a=conv(3, 8), c=conv(11, 8), head=head(8))
    structure = exact(model, images(2, 8))
    assert groups(structure) == ["a", "c"]
    assert (structure.layers["c"].in_units[8:] == -1).all()


def test_depthwise_separable_with_a_shift_behind_the_mask():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.PReLU(8), nn.Conv2d(8, 6, 1), head(6)
    )
    structure = exact(model, images(2, 8))
    assert groups(structure) == ["0", "4"]
    assert structure.layers["4"].masks_input  # the depthwise layer's bias


@pytest.mark.parametrize(("groups_", "out"), [(2, 8), (4, 16), (8, 24)])
def test_grouped_convolutions(groups_, out):
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, out, groups=groups_), nn.ReLU(), conv(out, 6), head(6))
    structure = exact(model, images(2, 8))
    assert [(g.width, g.producers) for g in structure.groups] == [(groups_, ("0", "2")), (6, ("4",))]


def test_a_grouped_convolution_of_the_input_is_fixed():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), conv(8, 6), head(6))
    x = torch.randn(2, 4, 8, 8)
    assert "ties them to channels that cannot be removed" in reasons(model, x)["0"]
    assert groups(exact(model, x)) == ["2"]


def test_two_groupings_of_the_same_channels():
    model = nn.Sequential(conv(3, 12), conv(12, 12, groups=3), conv(12, 12, groups=2), conv(12, 6), head(6))
    structure = trace(model, images(2, 8))
    assert all(g.width in (1, 6) for g in structure.groups)  # 3 and 2 groups of 12 have no part in common but all


@pytest.mark.parametrize("groups_", [1, 4])
def test_transposed_convolution(groups_):
    model = nn.Sequential(
        conv(3, 8), nn.ReLU(), nn.ConvTranspose2d(8, 12, 2, stride=2, groups=groups_), nn.ReLU(), conv(12, 6), head(6)
    )
    structure = exact(model, images(2, 8))
    assert {p for g in structure.groups for p in g.producers} == {"0", "2", "4"}
    assert structure.layers["2"].macs == 8 * 8 * 8 * 12 // groups_ * 2 * 2


@pytest.mark.parametrize("affine", [True, False])
def test_group_norm_loses_whole_groups(affine):
    model = nn.Sequential(conv(3, 12), nn.GroupNorm(4, 12, affine=affine), nn.ReLU(), conv(12, 6), head(6))
    structure = exact(model, images(2, 8))
    assert [(g.name, g.width) for g in structure.groups] == [("0", 4), ("3", 6)]


def test_one_group_over_all_channels_is_refused():
    model = nn.Sequential(conv(3, 12), nn.GroupNorm(1, 12), conv(12, 6), head(6))
    assert "group norm is taken over all of them in 1 (GroupNorm)" in reasons(model, images(2, 8))["0"]
    assert groups(exact(model, images(2, 8))) == ["2"]


def test_one_dimensional_convolutions():
    model = nn.Sequential(
        nn.Conv1d(2, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 10)
    )
    assert groups(exact(model, torch.randn(2, 2, 14))) == ["0", "3"]


def test_a_multilayer_perceptron():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 10))
    assert groups(exact(model, images(2, 4))) == ["1", "3"]


def test_instance_norm():
    model = nn.Sequential(conv(3, 8), nn.InstanceNorm2d(8, affine=True), nn.ReLU(), conv(8, 6), head(6))
    assert groups(exact(model, images(2, 8))) == ["0", "3"]


def test_frozen_layers_are_traced_too():
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 6), head(6)).requires_grad_(False)
    assert groups(trace(model, images(2, 8))) == ["0", "2"]
    assert not any(p.requires_grad for p in model.parameters())


def test_a_parametrized_weight_is_refused():
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 6), head(6))
    nn.utils.parametrizations.weight_norm(model[0])
    assert "computed from other parameters" in reasons(model, images(2, 8))["0"]


def test_example_inputs_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"example_inputs of shape \(2, 5, 8, 8\) do not fit the model"):
        ConsensusGating(nn.Sequential(conv(3, 8), head(8)), torch.zeros(2, 5, 8, 8), keep=0.5, steps=10)


class DataDependent(nn.Module):
    def __init__(self, *, other: bool) -> None:
        super().__init__()
        self.a, self.block, self.head = conv(3, 8), _Block(), head(8)
        if other:
            self.rare = conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        if x.sum() < 0:  # never, after a ReLU, but tracing cannot know
            x = self.rare(x) if hasattr(self, "rare") else -x
        return self.head(self.block(x))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b, self.c = conv(8, 8), conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.c(F.relu(self.b(x)))


def test_data_dependent_control_flow_is_not_fatal():
    model = DataDependent(other=False)
    structure = exact(model, images(2, 8))
    assert groups(structure) == ["a", "block.b"]
    assert [b.name for b in structure.branches] == ["block"]


def test_layers_behind_control_flow_that_were_not_seen_forbid_the_channels():
    model = DataDependent(other=True)
    listed = reasons(model, images(2, 8))
    assert "rare is not called with the example inputs but may be with others" in listed["a"]
    assert listed["rare"] == "it is not called with the example inputs"
    structure = trace(model, images(2, 8))
    assert structure.groups == ()
    assert [b.name for b in structure.branches] == ["block"]


def test_an_unused_module_does_no_harm():
    model = Net(lambda m, x: m.head(m.a(x)), a=conv(3, 8), head=head(8), left_over=conv(8, 8))
    assert groups(exact(model, images(2, 8))) == ["a"]
    assert reasons(model, images(2, 8))["left_over"] == "it is not called with the example inputs"


def test_attention_with_sizes_in_its_code():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            b, n, c = x.shape
            q, k, v = self.qkv(x).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
            return self.head((x + self.out(y)).mean(1))

    model = Attention()
    assert groups(exact(model, torch.randn(2, 5, 8))) == ["qkv"]
    assert "out" in reasons(model, torch.randn(2, 5, 8))


class Unequal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = conv(3, 12), conv(4, 6), conv(8, 6), head(6)

    def forward(self, x: Tensor) -> Tensor:
        one, two = torch.split(F.relu(self.a(x)), [4, 8], dim=1)
        return self.head(self.b(one) * torch.sigmoid(self.c(two)))


def test_a_split_into_unequal_parts():
    structure = exact(Unequal(), images(2, 8))
    assert [(g.name, g.width) for g in structure.groups] == [("a", 12), ("b", 6)]


class Frozen(nn.Module):
    """A norm of buffers, as detection networks have it; a fresh one changes no zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), FrozenBatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head(torch.relu(self.second(x)).mean((2, 3)))


def test_the_shift_of_a_frozen_norm_goes_with_its_channel() -> None:
    """Also where it is loaded after the network was looked at."""
    torch.manual_seed(0)
    model, x = Frozen().eval(), torch.randn(2, 3, 8, 8)
    structure = trace(model, x)
    model.norm.bias.fill_(1.0)
    model.norm.running_mean.fill_(-0.5)
    (group,) = (g for g in structure.groups if "first" in g.producers)
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[group.start : group.start + 4] = False
    with torch.no_grad():
        with masked(model, structure, keep):
            expected = model(x)
        assert torch.allclose(remove(model, structure, keep)(x), expected, atol=1e-6)
