"""Networks as users write them: everything is either gated, with the right result, or listed with the reason."""

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating
from greenprune.methods.structure import trial
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn

from tests.methods.networks import images
from tests.methods.structure.odd import Net, conv, exact, groups, head, reasons


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


def test_a_multilayer_perceptron():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 10))
    assert groups(exact(model, images(2, 4))) == ["1", "3"]


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
