"""The suites that are shipped, and the schema that an editor checks one by."""

from __future__ import annotations

import re
import tomllib

import jsonschema
import pytest
from greenprune.bench.suite.file import load_suite, shipped
from greenprune.bench.suite.schema import schema
from greenprune.methods import registry

from tests.bench.suite.good import GOOD, changed


def test_the_paper_is_a_matrix() -> None:
    suite = load_suite("paper")
    assert [(pair.dataset, pair.model) for pair in suite.pairs] == [
        (dataset, f"resnet{depth}") for dataset in ("cifar10", "cifar100") for depth in (20, 56, 110)
    ]
    assert (suite.budgets, suite.seeds, suite.training.epochs) == ((0.5, 0.7), (0, 1, 2), 160)


@pytest.mark.parametrize("name", shipped())
def test_shipped_suites_say_first_what_they_answer_and_how_long_they_take(name: str) -> None:
    first = shipped()[name].read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"# .*\? .*(minutes|hour|hours|night|Days)\b", first)


@pytest.mark.parametrize("name", shipped())
def test_shipped_suites_load_and_fit_the_schema(name: str) -> None:
    assert load_suite(name).name == name
    data = tomllib.loads(shipped()[name].read_text(encoding="utf-8"))
    jsonschema.validate(data, schema(), jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"digits"', '"digit"'),
        ("0.3", "1.5"),
        ("0.3", "0.5"),
        ("epochs = 2", "epoch = 2"),
        ('"gated"', '"gatd"'),
        ('norm = "l2"', 'nrm = "l2"'),
        ('norm = "l2"', 'norm = "l3"'),
    ],
)
def test_an_editor_finds_the_same_mistakes(old: str, new: str) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    assert validator.is_valid(tomllib.loads(GOOD))
    assert not validator.is_valid(tomllib.loads(changed(old, new)))


def test_the_schema_describes_every_key_and_every_option() -> None:
    whole = schema()
    options = [rule["then"]["properties"]["options"] for rule in whole["$defs"]["MethodEntry"]["allOf"]]
    assert len(options) == len(registry())
    tables = [whole, *whole["$defs"].values(), *options]
    assert all(field.get("description") for table in tables for field in table.get("properties", {}).values())
