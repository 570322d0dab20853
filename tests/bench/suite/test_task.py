"""What a suite says of its task: a name, a reference, or a table; and each thing that is wrong with it in a sentence."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from greenprune.bench.errors import UserError
from greenprune.bench.plan.plan import completed, plan
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.schema import schema
from greenprune.bench.suite.suite import Suite
from greenprune.bench.tasks.options import SegmentationOptions

SUITE = """\
name = "mine"
dataset = "digits"
model = "resnet20"
budgets = [0.5]
{key}

[training]
epochs = 2

{table}

[[methods]]
name = "gated"
"""

HERE = "tests.bench.tasks.networks_for_tasks"
NAMES = '"classification", "multilabel", "segmentation", "regression", "distillation"'


def suite_of(folder: Path, key: str = "", table: str = "") -> Suite:
    path = folder / "mine.toml"
    path.write_text(SUITE.format(key=key, table=table), encoding="utf-8")
    return load_suite(str(path))


@pytest.mark.parametrize(
    ("key", "table", "said"),
    [
        ('task = "segmentaton"', "", f'task = "segmentaton": is unknown; allowed: {NAMES} or module:Class or a table '
         '(did you mean "segmentation"?)'),
        ("task = 3", "", f"task = 3: is not a table; allowed: {NAMES} or module:Class or a table"),
        ('task = "no_such_module:Task"', "", 'task = "no_such_module:Task": there is no module "no_such_module" in'),
        (f'task = "{HERE}:Lacking"', "", f'task = "{HERE}:Lacking": is not a subclass of greenprune.bench.tasks.task.Task'),
        ('task = "distillation"', "", 'task = "distillation": needs options.teacher; allowed: a table [task]'),
        ("", '[task]\nname = "regresion"', 'task.name = "regresion": is unknown; '),
        ("", '[task]\nname = "segmentation"\nignore_index = 3', "task.ignore_index = 3: unknown key; allowed: name, options"),
        ("", '[task]\nname = "segmentation"\noptions = { ignored = 3 }', "task.options.ignored = 3: unknown key; allowed: "
         'ignore_index, auxiliary_weight (did you mean "ignore_index"?)'),
        ("", '[task]\nname = "segmentation"\noptions = { auxiliary_weight = -1 }', "task.options.auxiliary_weight = -1: is too "
         "small; allowed: a number at least 0"),
        ("", '[task]\nname = "distillation"\noptions = { teacher = "x", of = "regresion" }', 'task.options.of = "regresion" is '
         'unknown (did you mean "regression"?); allowed: classification, '),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(tmp_path: Path, key: str, table: str, said: str) -> None:
    with pytest.raises(UserError) as refusal:
        suite_of(tmp_path, key, table)
    (line,) = str(refusal.value).splitlines()
    assert line.removeprefix(f"{tmp_path / 'mine.toml'}: ").startswith(said)


def test_a_name_stands_for_a_table(tmp_path: Path) -> None:
    short = suite_of(tmp_path, 'task = "segmentation"').task
    long = suite_of(tmp_path, "", '[task]\nname = "segmentation"').task
    assert short == long
    assert short.options == SegmentationOptions()
    assert suite_of(tmp_path).task.name == "classification"
    assert suite_of(tmp_path, f'task = "{HERE}:Peaks"').task.options.model_dump() == {"unit": "dB", "power": 2.0}


def test_the_schema_knows_the_options_of_each_task() -> None:
    whole = {"name": "mine", "dataset": "digits", "model": "resnet20", "budgets": [0.5], "training": {"epochs": 1}}
    whole["methods"] = [{"name": "gated"}]
    rules = schema()
    for task in ("segmentation", "a.b:C", {"name": "segmentation", "options": {"ignore_index": 3}}):
        jsonschema.validate(whole | {"task": task}, rules)
    for task in ("segmentaton", 3, {"name": "segmentation", "options": {"ignored": 3}}, {"nome": "segmentation"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(whole | {"task": task}, rules)


def test_a_run_is_of_its_task(tmp_path: Path) -> None:
    from greenprune.bench.data.load import load

    data = {"digits": load("digits")}
    (run,) = plan(suite_of(tmp_path), data, "cpu")
    settings = run.settings.model_dump(mode="json")
    assert settings["task"] == {"name": "classification", "options": {}}
    assert completed(settings) == settings
    with pytest.raises(
        UserError, match=r'^task "segmentation" on digits: the targets of its train part are of the shape'
    ):
        plan(suite_of(tmp_path, 'task = "segmentation"'), data, "cpu")
