"""Networks with several inputs, keyword inputs, integer inputs, and outputs of every form."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating, Inputs, count_macs, describe
from greenprune.methods.structure import outputs
from greenprune.methods.structure.copying import copy_of
from greenprune.methods.structure.surgery import remove_checked
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn

from tests.methods.structure.odd import normed


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
        self.a, self.b = normed(3, 8), normed(1, 8)
        self.mid = normed(8, 12)
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
