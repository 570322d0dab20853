"""Networks with several inputs, keyword inputs, integer inputs, and outputs of every form."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating, Inputs, count_macs, describe
from greenprune.methods.structure import outputs, surgery
from greenprune.methods.structure.copying import copy_of
from greenprune.methods.structure.surgery import remove_checked
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn


def conv(a: int, b: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())


@dataclass
class Both:
    logits: Tensor
    features: Tensor
    note: str = ""


class ModelOutput(OrderedDict):
    """Like that of transformers: a dict whose entries are attributes too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Two(nn.Module):
    """Two images, of which the second may be left out, and a temperature; `form` makes its output of two tensors."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(1, 8)
        self.mid = conv(8, 12)
        self.head, self.map = nn.Linear(12, 5), nn.Conv2d(12, 1, 1)
        self.form = form

    def forward(self, image: Tensor, depth: Tensor | None = None, *, temperature: Tensor | None = None) -> Any:
        x = self.a(image)
        if depth is not None:
            x = x + self.b(depth)
        x = self.mid(x)
        logits = self.head(x.mean((2, 3)))
        return self.form(logits if temperature is None else logits / temperature, self.map(x))


GENERATOR = torch.Generator().manual_seed(0)
IMAGE, DEPTH = torch.randn(4, 3, 8, 8, generator=GENERATOR), torch.randn(4, 1, 8, 8, generator=GENERATOR)
FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, {"map": b}],
    "dict": lambda a, b: {"map": b, "logits": a},
    "dataclass": Both,
    "model output": lambda a, b: ModelOutput(logits=a, map=b),
}
INPUTS = {
    "tuple": (IMAGE, DEPTH),
    "keywords": {"depth": DEPTH, "image": IMAGE},
    "both": Inputs((IMAGE,), {"depth": DEPTH, "temperature": torch.tensor([2.0])}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", INPUTS)
def test_inputs_and_outputs_of_every_form(form: str, given: str) -> None:
    torch.manual_seed(0)
    model = Two(FORMS[form]).train()
    for _ in range(3):
        model(IMAGE, DEPTH)
    structure = trace(model, INPUTS[given])
    assert {g.name for g in structure.groups} == {"a.0", "mid.0"}
    assert structure.macs == count_macs(model, INPUTS[given])
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[::2] = False
    dense = structure.macs
    model, off = remove_checked(model, structure, keep, INPUTS[given])
    assert off < 1e-4
    assert count_macs(model, INPUTS[given]) < 0.7 * dense


@pytest.mark.parametrize("form", FORMS)
def test_a_search_of_a_network_with_several_inputs_and_outputs(form: str) -> None:
    torch.manual_seed(0)
    gating = ConsensusGating(Two(FORMS[form]), INPUTS["both"], keep=0.6, steps=12, tolerance=0.1)
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.05, momentum=0.9)
    for _ in range(12):
        output = gating(image=IMAGE, depth=DEPTH, temperature=torch.tensor(2.0))
        loss = F.cross_entropy(outputs.logits_of(output), torch.tensor([0, 1, 2, 3])) + gating.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        gating.step(optimizer)
    small = gating.finish()
    assert gating.masked_max_abs_diff is not None
    assert gating.masked_max_abs_diff < 1e-4
    assert type(small(IMAGE, DEPTH)) is type(Two(FORMS[form])(IMAGE, DEPTH))
    assert gating.predicted_cost is not None
    assert 0.5 <= gating.predicted_cost <= 0.6


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.down, self.head = (
            nn.Embedding(20, 8),
            nn.Linear(8, 16),
            nn.Linear(16, 8),
            nn.Linear(8, 3),
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        x = self.embed(input_ids)
        x = x + self.down(F.gelu(self.up(x)))
        if attention_mask is not None:
            x = x * attention_mask[..., None]
        return {"logits": self.head(x)}


def test_token_ids_stay_integers() -> None:
    ids = torch.randint(0, 20, (2, 6))
    inputs = {"input_ids": ids, "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    assert Inputs.of(inputs).to(torch.float64).kwargs["input_ids"].dtype == torch.long
    structure = trace(Tokens(), inputs)
    assert "up" in {g.name for g in structure.groups}
    assert "floor" in describe(Tokens(), ids)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([IMAGE], "is a list: expected a tensor, a tuple"),
        (3, "is a int"),
        ((), "at least one tensor"),
        ({"a": 3}, "at least one tensor"),
        (torch.zeros(0, 3, 8, 8), "the batch is empty"),
    ],
)
def test_what_is_no_input_is_refused(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ConsensusGating(Two(FORMS["tuple"]), given, keep=0.5, steps=10)


def test_what_does_not_fit_or_returns_nothing_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"example_inputs of shapes \(4, 3, 8, 8\), \(4, 3, 8, 8\) do not fit the model"
    ):
        ConsensusGating(Two(FORMS["tuple"]), (IMAGE, IMAGE), keep=0.5, steps=10)
    with pytest.raises(ValueError, match=r"does not run on example inputs of shape \(4, 3, 8, 8\) \(TypeError"):
        trace(nn.Bilinear(3, 3, 2), IMAGE)
    with pytest.raises(ValueError, match="returns a int without a tensor"):
        trace(Two(lambda a, b: 3), IMAGE)


def test_the_batch_size_is_what_most_tensors_have() -> None:
    table = torch.zeros(7, 3)
    assert Inputs.of((table, IMAGE, DEPTH)).batch_size == 4
    assert Inputs.of({"x": IMAGE, "scale": torch.tensor(2.0)}).batch_size == 4
    sequence = Inputs((torch.zeros(9, 4, 3),), batch_dim=1)
    assert sequence.batch_size == 4
    assert sequence.first(2).args[0].shape == (9, 2, 3)
    first = Inputs.of((table, IMAGE, {"deep": [DEPTH]})).first(2)
    assert [tuple(t.shape) for t in first.tensors] == [(7, 3), (2, 3, 8, 8), (2, 1, 8, 8)]
    assert Inputs.of((table, IMAGE)).key == Inputs.of((table, IMAGE[:1].expand(9, 3, 8, 8), None)).key[:2]


def test_a_batch_that_cannot_be_cut_is_used_whole() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).relu()).view(4, 2)

    assert [g.name for g in trace(Fixed(), torch.randn(4, 6)).groups] == ["a"]


def test_nan_is_no_agreement() -> None:
    nan, x = torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0])
    for a, b in ((nan, nan), (x, nan), (nan, x)):
        assert math.isnan(outputs.difference((x, a), (x, b)).absolute)
    masked = torch.tensor([1.0, -math.inf])
    assert outputs.difference(masked, masked).absolute == 0.0
    assert outputs.difference({"a": x, "b": 100 * x}, {"a": 1.5 * x, "b": 100 * x}).relative == 0.5
    assert outputs.difference(x, x[None]).reason is not None


def test_a_network_of_nan_does_not_agree() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    structure = trace(model, IMAGE)
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[0] = False
    with torch.no_grad():
        model[4].bias.fill_(math.nan)
    assert math.isnan(remove_checked(model, structure, keep, IMAGE)[1])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_in_use_can_be_copied() -> None:
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    expected = model(torch.ones(1, 4))
    assert torch.equal(copy_of(model)(torch.ones(1, 4)), expected)


class WithAuxiliary(nn.Module):
    """A head in the middle that is called in training alone, as googlenet and inception have."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 12)
        self.side, self.extra, self.head = nn.Conv2d(8, 6, 1), nn.Linear(6, 5), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.a(x)
        side = self.extra(F.relu(self.side(x)).mean((2, 3))) if self.training else None
        logits = self.head(self.b(x).mean((2, 3)))
        return logits if side is None else (logits, side)


def test_layers_that_are_called_in_training_alone_are_cut_along() -> None:
    model = WithAuxiliary()
    statistics = model.a[1].running_mean.clone()
    structure = trace(model, IMAGE)
    assert torch.equal(model.a[1].running_mean, statistics)
    assert {g.name for g in structure.groups} == {"a.0", "b.0"}
    assert dict(structure.fixed)["side"] == "it is not called with the example inputs"
    gating = ConsensusGating(model, IMAGE, keep=0.6, steps=12, tolerance=0.2)
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.05)
    while gating.searching:
        logits, side = gating(IMAGE)
        loss = F.cross_entropy(logits + 0.3 * side, torch.tensor([0, 1, 2, 3])) + gating.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        gating.step(optimizer)
    small = gating.finish()
    assert small.side.in_channels == small.a[0].out_channels < 8
    assert len(small.train()(IMAGE)) == 2


class SpatialMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.mask, self.b, self.head = conv(3, 16), nn.Conv2d(2, 1, 7, padding=3), conv(16, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x * torch.sigmoid(self.mask(torch.stack([x.mean(1), x.amax(1)], 1)))
        return self.head(self.b(x).mean((2, 3)))


def test_a_mask_of_one_channel_is_no_unit_and_what_it_looks_at_is_refused() -> None:
    structure = trace(SpatialMask(), IMAGE)
    assert [(g.name, g.width) for g in structure.groups] == [("b.0", 8)]
    fixed = dict(structure.fixed)
    assert "mean" in fixed["a.0"]
    assert "broadcasts a single channel" in fixed["mask"]


def test_a_weight_that_is_used_without_its_layer_is_cut_and_masked_as_a_weight() -> None:
    class Uses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 16), nn.Linear(16, 8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(F.linear(F.relu(self.a(x)), self.b.weight, self.b.bias)))

    model, x = Uses().eval(), torch.randn(2, 6)
    structure = trace(model, x)
    assert [g.name for g in structure.groups] == ["a", "b"]
    assert structure.layers["b"].owner == ""
    keep = torch.arange(structure.units) % 2 == 0
    with surgery.masked(model, structure, keep):
        expected = surgery.evaluate(model, x)
    assert torch.allclose(surgery.evaluate(surgery.remove(model, structure, keep), x), expected, atol=1e-6)
    assert model.b.out_features == 4


def test_a_norm_with_an_activation_of_its_own_keeps_its_statistics() -> None:
    class NormAct(nn.BatchNorm2d):
        def __init__(self, width: int) -> None:
            super().__init__(width)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(super().forward(x))

    model = nn.Sequential(nn.Conv2d(3, 8, 3), NormAct(8), nn.Conv2d(8, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert [g.name for g in trace(model, IMAGE).groups] == ["0"]
    assert (model[1].running_mean == 0).all()


def test_what_cannot_be_cut_in_training_is_refused() -> None:
    class Counts(WithAuxiliary):
        def forward(self, x: Tensor) -> Any:
            x = self.a(x)
            logits = self.head(self.b(x).mean((2, 3)))
            if not self.training:
                return logits
            return logits, self.extra(F.relu(self.side(x) / x.shape[1]).mean((2, 3)))

    structure = trace(Counts(), IMAGE)
    assert {g.name for g in structure.groups} == {"b.0"}
    assert "removing them is not masking them" in dict(structure.fixed)["a.0"]


class Average(nn.Module):
    """A moving average of each channel, kept up in training alone."""

    def __init__(self, width: int, *, stored: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width), persistent=stored)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(x.detach().mean((0, 2, 3)), 0.1)
        return x


class InTraining(nn.Module):
    """Uses tensors as wide as its channels in training alone; without its targets it does not run there."""

    def __init__(self, *, stored: bool = True, noisy: bool = False, wants_targets: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.head = conv(3, 16), conv(16, 12), nn.Linear(12, 5)
        self.average = nn.Identity() if noisy else Average(16, stored=stored)
        self.std = nn.Parameter(torch.rand(16)) if noisy else None
        self.wants_targets = wants_targets

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.wants_targets:
            raise ValueError("targets are missing")
        x = self.average(self.a(x))
        if self.std is not None and self.training:
            x = x + self.std.view(1, -1, 1, 1) * torch.randn_like(x)
        return self.head(self.b(x).mean((2, 3)))


@pytest.mark.parametrize("options", [{}, {"noisy": True}])
def test_tensors_that_are_used_in_training_alone_are_cut_along(options: dict[str, bool]) -> None:
    model = InTraining(**options)
    state, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    structure = trace(model, IMAGE)
    assert {g.name for g in structure.groups} == {"a.0", "b.0"}
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    small = surgery.remove(model, structure, torch.arange(structure.units) % 2 == 0).train()
    small(IMAGE).sum().backward()
    assert len(small.std if small.std is not None else small.average.mean) == small.a[0].out_channels == 8


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"stored": False}, "fixed size in average"),
        ({"noisy": True, "wants_targets": True}, "as many as std is wide"),
        ({"wants_targets": True}, "as many as average.mean is wide"),
    ],
)
def test_what_may_be_coupled_in_training_is_refused(options: dict[str, bool], why: str) -> None:
    structure = trace(InTraining(**options), IMAGE)
    assert {g.name for g in structure.groups} == {"b.0"}
    assert why in dict(structure.fixed)["a.0"]
