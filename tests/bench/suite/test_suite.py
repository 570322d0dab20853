"""Suite files: what is read and stored, and what can be written in them."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from greenprune.bench.data.options import DataOptions
from greenprune.bench.suite.entry import MethodEntry
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.measurement import Measurement
from greenprune.bench.suite.recipe import Allowance, Part, Running, Training
from greenprune.bench.suite.settings import Settings
from greenprune.bench.suite.suite import Suite
from greenprune.bench.suite.task import TaskEntry
from greenprune.bench.suite.written import toml_text
from greenprune.methods import registry
from greenprune.methods.options.magnitude import MagnitudeOptions
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from tests.bench.suite.good import GOOD, Write, changed, problems

EXAMPLE = Path(__file__).parents[2] / "example_plugin"


def test_a_good_file_is_read_and_completed_with_defaults(write: Write) -> None:
    suite = load_suite(str(write(GOOD)))
    assert suite.budgets == (0.5, 0.3)
    assert (suite.tolerance, suite.training.batch_size, suite.measurement.country) == (0.02, 128, None)
    gated, magnitude = suite.methods
    assert gated.label == "gated"
    assert gated.options == registry()["gated"].Options()
    assert magnitude.label == "l2"
    assert magnitude.options == MagnitudeOptions(norm="l2")


def test_an_integer_is_a_number(write: Write) -> None:
    seconds = load_suite(str(write(GOOD))).measurement.inference_seconds
    assert (seconds, type(seconds)) == (1.0, float)


def test_a_country_is_stored_in_capitals(write: Write) -> None:
    text = changed("inference_seconds = 1", 'country = "fra"')
    assert load_suite(str(write(text))).measurement.country == "FRA"


def test_methods_whose_runs_would_share_a_folder_are_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    text = changed('label = "l2"', 'label = "First"').replace('name = "gated"', 'name = "greenprune_first:First"')
    assert problems(write(text)) == [
        'methods[1].label = "First": is that of methods[0] too, by default its name; allowed: a label of its own'
    ]


def test_data_sets_whose_runs_would_share_a_folder_are_refused(write: Write) -> None:
    two = 'dataset = [{ name = "my set", folder = "x" }, { name = "my-set", folder = "y" }]'
    (line,) = problems(write(changed('dataset = "digits"', two)))
    assert line == (
        'dataset = "my-set": its runs and those of "my set" would have the same folders (my-set-gated-…); allowed: names, '
        "and labels of methods, that differ in it"
    )
    assert len(load_suite(str(write(changed('dataset = "digits"', two.replace("my-set", "yours"))))).pairs) == 2


def test_a_suite_cannot_be_changed(write: Write) -> None:
    suite = load_suite(str(write(GOOD)))
    with pytest.raises(ValidationError, match="frozen"):
        suite.training.epochs = 3  # type: ignore[misc]


def test_a_suite_and_its_parts_survive_storage(write: Write) -> None:
    suite = load_suite(str(write(GOOD)))
    assert Suite.model_validate_json(suite.model_dump_json()) == suite
    settings = Settings(
        dataset=suite.dataset[0],
        images={},
        model=suite.model[0],
        method=suite.methods[1],
        budget=0.5,
        tolerance=suite.tolerance,
        seed=0,
        training=suite.training,
        measurement=suite.measurement,
        device="cpu",
    )
    again = Settings.model_validate_json(settings.model_dump_json())
    assert again == settings
    assert isinstance(again.method.options, MagnitudeOptions)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_recipe_holds_what_its_optimizer_takes_and_survives_storage(optimizer: str) -> None:
    recipe = Training(epochs=1, optimizer=optimizer)  # type: ignore[arg-type]
    taken = {key for key in ("momentum", "nesterov", "betas") if getattr(recipe, key) is not None}
    assert taken == ({"momentum", "nesterov"} if optimizer == "sgd" else {"betas"})
    assert Training.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_stored_recipe_knows_nothing_of_what_it_does_not_use() -> None:
    stored = Training(epochs=1).model_dump(mode="json")
    assert set(stored) == {
        "epochs", "batch_size", "optimizer", "learning_rate", "momentum", "nesterov", "weight_decay", "schedule",
        "warmup_epochs", "label_smoothing", "augment", "crop_padding", "precision", "channels_last",
    }  # fmt: skip
    used = {"freeze": ("conv1",), "ema_decay": 0.9, "schedule": "step", "step_at": (0.3,), "accumulate_steps": 2}
    recipe = Training(epochs=1, **used)  # type: ignore[arg-type]
    assert Training.model_validate_json(recipe.model_dump_json()) == recipe
    assert set(recipe.model_dump()) - set(stored) == set(used) - {"schedule"}


REQUIRED: dict[type[BaseModel], str] = {
    Allowance: "",
    DataOptions: "",
    Measurement: "",
    MethodEntry: 'name = "gated"',
    Running: "",
    Suite: GOOD,
    TaskEntry: "",
    Training: "epochs = 2",
}
"""What each table of a suite needs."""

BESIDE = {"betas": {"optimizer": "adam"}, "step_at": {"schedule": "step"}, "step_factor": {"schedule": "step"}}
"""What a key needs in its table."""


def test_every_table_of_a_suite_is_among_these() -> None:
    ours = {kind for kind in Part.__subclasses__() if kind.__module__.startswith("greenprune.bench.suite.")}
    assert ours == REQUIRED.keys() - {DataOptions}


@pytest.mark.parametrize("kind", REQUIRED)
def test_what_is_the_default_or_is_described_as_an_example_may_be_written(kind: type[BaseModel]) -> None:
    needed = tomllib.loads(REQUIRED[kind])
    for name, field in kind.model_fields.items():
        table = needed | BESIDE.get(name, {})
        usual = to_jsonable_python(getattr(kind.model_validate(table), name), exclude_none=True)
        examples = [json.loads(text) for text in re.findall(r"\[[^\[\]]+\]", field.description or "")]
        for value in [*([] if usual in (None, "") else [usual]), *examples]:
            read = kind.model_validate(tomllib.loads(toml_text({**table, name: value})))
            assert to_jsonable_python(getattr(read, name), exclude_none=True) == value


@pytest.mark.parametrize("kind", REQUIRED)
def test_no_key_wants_what_toml_does_not_have(kind: type[BaseModel]) -> None:
    needed = tomllib.loads(REQUIRED[kind])
    for name in kind.model_fields:
        assert "tuple_type" not in wrong(kind, {**needed, **BESIDE.get(name, {}), name: []}), name


def wrong(kind: type[BaseModel], table: dict[str, object]) -> list[str]:
    try:
        kind.model_validate(table)
    except ValidationError as e:
        return [detail["type"] for detail in e.errors()]
    return []
