"""Options of methods: lists, tables and unions of them, and methods that cannot keep a cost."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Literal

import jsonschema
import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.overrides import overrides_of
from greenprune.bench.suite.schema import schema
from greenprune.methods import Method, MethodOptions
from greenprune.methods.catalogue import cards
from greenprune.methods.options.base import Card
from pydantic import Field
from torch import Tensor, nn

from tests.bench.suite.good import Write, changed, problems


class Inner(MethodOptions):
    depth: int = Field(1, ge=1, description="a number in a table of its own")


class ToyOptions(MethodOptions):
    """The kinds of options that no method has yet."""

    width: int | Literal["auto"] = Field("auto", description="a union")
    stages: tuple[int, ...] = Field((1, 2), description="a list")
    inner: Inner = Field(Inner(), description="a table")


class Toy(Method):
    name = "toy"
    source = "these tests"
    Options = ToyOptions

    def prepare(self, model: nn.Module, example_inputs: Tensor) -> nn.Module:
        return model

    def finish(self) -> nn.Module:
        return nn.Identity()


def test_a_method_that_cannot_keep_the_cost_is_named(write: Write) -> None:
    text = changed("seeds = [0, 1]", 'cost = "params"')
    more = '\n[[methods]]\nname = "magnitude_unstructured"\n\n[[methods]]\nname = "dynamic"\n'
    assert problems(write(text.replace("\n[[methods]]", more + "\n[[methods]]", 1))) == [
        'cost = "params": magnitude_unstructured cannot keep such a budget, its own counts connections; '
        'allowed: cost = "macs", or a suite without magnitude_unstructured, dynamic'
    ]


def test_methods_that_are_not_run_need_not_keep_the_cost(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["paper-cpu", "--set", "cost=params"]
    assert load_suite("paper-cpu", overrides_of(["cost=params"]), only=["dense", "magnitude"]).cost == "params"
    assert main(["tune", *asked, "--method", "magnitude", "--trials", "0"]) == 2
    assert capsys.readouterr().err == "greenprune: --trials 0: allowed is at least 1\n"  # not the cost
    assert main(["plan", *asked, "--only", "magnit"]) == 2
    assert "--only magnit: suite paper-cpu has no such method" in capsys.readouterr().err  # nor here
    assert main(["plan", *asked, "--only", "dense", "dynamic"]) == 2
    assert capsys.readouterr().err.endswith('cost = "macs", or a suite without dynamic\n')


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Registers `toy`; gives the text of a suite with these options of it."""
    known = {**cards(), "toy": Card.of(Toy)}
    for user in ("entry", "schema"):
        monkeypatch.setattr(f"greenprune.bench.suite.{user}.cards", lambda: known)
    return lambda options: changed('"magnitude"', '"toy"').replace('{ norm = "l2" }', options)


def test_options_may_be_lists_tables_and_unions(write: Write, toy: Callable[[str], str]) -> None:
    text = toy("{ width = 3, stages = [4, 5], inner = { depth = 2 } }")
    assert load_suite(str(write(text))).methods[1].options == ToyOptions(width=3, stages=(4, 5), inner=Inner(depth=2))
    jsonschema.validate(tomllib.loads(text), schema(), jsonschema.Draft202012Validator)


def test_problems_in_lists_tables_and_unions_of_options_are_located(write: Write, toy: Callable[[str], str]) -> None:
    text = toy('{ width = "atuo", stages = [4, "x"], inner = { depth = 0, dept = 1 } }')
    assert problems(write(text)) == [
        'methods[1].options.width = "atuo": is none of what is allowed; allowed: an integer or "auto" '
        '(did you mean "auto"?)',
        'methods[1].options.stages[1] = "x": is not an integer; allowed: an integer',
        "methods[1].options.inner.depth = 0: is too small; allowed: an integer at least 1",
        'methods[1].options.inner.dept = 1: unknown key; allowed: depth (did you mean "depth"?)',
    ]
