"""Suite files: what is accepted, and what a user reads when it is not."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jsonschema
import pytest
from greenprune.bench.data.options import DataOptions
from greenprune.bench.errors import UserError
from greenprune.bench.prune.request import toml_text
from greenprune.bench.suite.entry import MethodEntry
from greenprune.bench.suite.file import load_suite, shipped
from greenprune.bench.suite.measurement import Measurement
from greenprune.bench.suite.recipe import Allowance, Part, Running, Training
from greenprune.bench.suite.schema import schema
from greenprune.bench.suite.settings import Settings
from greenprune.bench.suite.suite import Suite
from greenprune.bench.suite.task import TaskEntry
from greenprune.methods import Method, MethodOptions, registry
from greenprune.methods.catalogue import cards
from greenprune.methods.options.base import Card
from greenprune.methods.options.magnitude import MagnitudeOptions
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_jsonable_python
from torch import Tensor, nn

GOOD = """\
name = "mine"
dataset = "digits"
model = "resnet20"
budgets = [0.5, 0.3]
seeds = [0, 1]

[training]
epochs = 2

[[methods]]
name = "gated"

[[methods]]
name = "magnitude"
label = "l2"
options = { norm = "l2" }

[measurement]
inference_seconds = 1
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a suite file."""

    def written(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def changed(old: str, new: str) -> str:
    """GOOD with one change."""
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def problems(path: Path) -> list[str]:
    """What `load_suite` says about `path`, one line per problem, each without the file's name that it begins with."""
    with pytest.raises(UserError) as caught:
        load_suite(str(path))
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


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


METHODS = ", ".join(json.dumps(name) for name in registry()) + " or module:Class"
BUDGET = "a number above 0 and below 1"
TRAINING_KEYS = (
    "epochs, batch_size, optimizer, learning_rate, momentum, nesterov, betas, weight_decay, decay_norms_and_biases, "
    "schedule, step_at, step_factor, warmup_epochs, clip_gradient_norm, accumulate_steps, ema_decay, ema_evaluate, freeze, "
    "head_learning_rate, layer_decay, label_smoothing, augment, crop_padding, precision, devices, nodes, channels_last"
)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "seeds = [0, 1]",
            'cost = "latncy"',
            'cost = "latncy": is unknown; allowed: "macs", "params", "latency", "energy", "auto" (did you mean "latency"?)',
        ),
        (
            "seeds = [0, 1]",
            "round_to = 0",
            "round_to = 0: is too small; allowed: an integer at least 1 and at most 1024",
        ),
        # Unknown keys, at each level
        (
            "seeds = [0, 1]",
            "seed = 0",
            "seed = 0: unknown key; allowed: name, description, dataset, train_images, model, weights, task, budgets, "
            "cost, budget_batch_size, budget_runtime, round_to, "
            'tolerance, seeds, training, allowance, views, methods, measurement, run (did you mean "seeds"?)',
        ),
        (
            "epochs = 2",
            "epochs = 2\nepoch = 3",
            f'training.epoch = 3: unknown key; allowed: {TRAINING_KEYS} (did you mean "epochs"?)',
        ),
        (
            'label = "l2"',
            'lable = "l2"',
            'methods[1].lable = "l2": unknown key; allowed: name, label, options, most_seeds, views (did you mean "label"?)',
        ),
        (
            'norm = "l2"',
            'nrm = "l2"',
            'methods[1].options.nrm = "l2": unknown key; allowed: norm, scope, train_share, fine_tune_peak '
            '(did you mean "norm"?)',
        ),
        (
            "inference_seconds = 1",
            "xyz = 1",
            "measurement.xyz = 1: unknown key; allowed: inference_batch_sizes, runtimes, int8, inference_seconds, country, "
            "region, cloud, gco2e_per_kwh, pue, crosscheck",
        ),
        # Names
        (
            '"gated"',
            '"gatd"',
            f'methods[0].name = "gatd": is unknown; allowed: {METHODS} (did you mean "gated"?)',
        ),
        (
            '"digits"',
            '"digit"',
            'dataset = "digit": is unknown; allowed: digits, cifar10, cifar100, tiny-imagenet, imagenet, folder, '
            'package.module:factory, a table with folder, or a list of such, each once (did you mean "digits"?)',
        ),
        (
            'norm = "l2"',
            'norm = "l_2"',
            'methods[1].options.norm = "l_2": is unknown; allowed: "l1", "l2" (did you mean "l2"?)',
        ),
        (
            "epochs = 2",
            'epochs = 2\nschedule = "cosin"',
            'training.schedule = "cosin": is unknown; allowed: "linear", "cosine", "step", "one-cycle" (did you mean '
            '"cosine"?)',
        ),
        # Budgets
        ("0.3", "0", f"budgets[1] = 0: is too small; allowed: {BUDGET}"),
        ("0.3", "1.5", f"budgets[1] = 1.5: is too large; allowed: {BUDGET}"),
        ("0.3", '"half"', f'budgets[1] = "half": is not a number; allowed: {BUDGET}'),
        ("0.3", "true", f"budgets[1] = true: is not a number; allowed: {BUDGET}"),
        ("0.3", "nan", f"budgets[1] = NaN: is not a finite number; allowed: {BUDGET}"),
        ("0.3", "0.50", f"budgets[1] = 0.5: is there twice; allowed: {BUDGET}, once"),
        ("[0.5, 0.3]", "0.5", f"budgets = 0.5: is not a list; allowed: a list (at least 1, each {BUDGET}, each once)"),
        ("[0.5, 0.3]", "[]", f"budgets = []: is too short; allowed: a list (at least 1, each {BUDGET}, each once)"),
        # Types are not converted
        (
            "[0, 1]",
            "[0, true]",
            "seeds[1] = true: is not an integer; allowed: an integer at least 0 and below 4294967296",
        ),
        (
            "epochs = 2",
            'epochs = "2"',
            'training.epochs = "2": is not an integer; allowed: an integer at least 1 and at most 1000000',
        ),
        (
            "epochs = 2",
            "epochs = 2.0",
            "training.epochs = 2.0: is not an integer; allowed: an integer at least 1 and at most 1000000",
        ),
        (
            "epochs = 2",
            "epochs = 2\naugment = 1",
            "training.augment = 1: is no name and no list of names; allowed: none, crop-flip, resized-crop, "
            "trivial-augment, mixup, cutmix, package.module:factory, or a list of such, each once",
        ),
        (
            "epochs = 2",
            'epochs = 2\naugment = ["crop-flip", "mixed"]',
            'training.augment = "mixed": is unknown; allowed: none, crop-flip, resized-crop, trivial-augment, mixup, cutmix, '
            'package.module:factory, or a list of such, each once (did you mean "mixup"?)',
        ),
        (
            '"mine"',
            "1979-05-27",
            'name = "1979-05-27": is not text; allowed: text of at most 100 characters of the form [a-z0-9][a-z0-9-]*',
        ),
        (
            '{ norm = "l2" }',
            "3",
            "methods[1].options = 3: is not a table; allowed: a table with norm, scope, train_share, fine_tune_peak",
        ),
        (
            '{ norm = "l2" }',
            '{ train_share = "0.5" }',
            f'methods[1].options.train_share = "0.5": is not a number; allowed: {BUDGET}',
        ),
        # Choices of integers
        (
            '"digits"',
            '{ folder = "x", channels = true }',
            "dataset.channels = true: is unknown; allowed: 1, 3",
        ),
        (
            '"digits"',
            '{ folder = "x", channels = 1.0 }',
            "dataset.channels = 1.0: is unknown; allowed: 1, 3",
        ),
        # Published images are what they are
        (
            '"digits"',
            '{ name = "cifar10", image_size = 64 }',
            "dataset.image_size = 64: cifar10 is taken as it was published; allowed: no such key, or a folder",
        ),
        (
            '"digits"',
            '["cifar100", { name = "digits", flip = true }]',
            "dataset[1].flip = true: digits is taken as it was published; allowed: no such key, or a folder",
        ),
        # Pairs
        (
            "inference_seconds = 1",
            'cloud = ["aws"]',
            'measurement.cloud = ["aws"]: is too short; allowed: a list of 2, each text',
        ),
        (
            "inference_seconds = 1",
            'cloud = "aws"',
            'measurement.cloud = "aws": is not a list; allowed: a list of 2, each text',
        ),
        # Names of other capitals
        (
            "epochs = 2",
            'epochs = 2\noptimizer = "SGD"',
            'training.optimizer = "SGD": is none of what is allowed; allowed: "sgd", "adam", "adamw" or module:Class (did '
            'you mean "sgd"?)',
        ),
        # Paths
        (
            "seeds = [0, 1]",
            'weights = "~nobody_/w.pt"',
            'weights = "~nobody_/w.pt": ~nobody_ is nobody\'s folder here; allowed: a path without it',
        ),
        (
            "seeds = [0, 1]",
            f'weights = "{"w" * 300}"',
            f'weights = "{"w" * 79}…": cannot be looked for (File name too long); allowed: the path of a file or a folder',
        ),
        (
            '"digits"',
            '{ folder = "~nobody_/images" }',
            'dataset.folder = "~nobody_/images": ~nobody_ is nobody\'s folder here; allowed: a path without it',
        ),
        # The rest
        ("epochs = 2", "", "training.epochs: is missing; allowed: an integer at least 1 and at most 1000000"),
        (
            '"mine"',
            '"My suite"',
            'name = "My suite": has the wrong form; allowed: text of at most 100 characters of the form [a-z0-9][a-z0-9-]*',
        ),
        (
            '"l2"\noptions',
            '".."\noptions',
            'methods[1].label = "..": has the wrong form; allowed: text '
            "of at most 100 characters of the form [A-Za-z0-9][A-Za-z0-9._+-]*",
        ),
        (
            'label = "l2"',
            'label = "gated"',
            'methods[1].label = "gated": is there twice; allowed: text '
            "of at most 100 characters of the form [A-Za-z0-9][A-Za-z0-9._+-]*, once",
        ),
        (
            "epochs = 2",
            "epochs = 2\nmomentum = 0",
            "training.nesterov = true: needs a momentum; allowed: false, or a momentum above 0",
        ),
        (
            "epochs = 2",
            'epochs = 2\noptimizer = "adamx"',
            'training.optimizer = "adamx": is none of what is allowed; allowed: "sgd", "adam", "adamw" or module:Class (did '
            'you mean "adam"?)',
        ),
        (
            "epochs = 2",
            'epochs = 2\noptimizer = "adamw"\nmomentum = 0.9',
            'training.momentum = 0.9: optimizer = "adamw" has none; allowed: no such key, or optimizer = "sgd"',
        ),
        (
            "epochs = 2",
            'epochs = 2\noptimizer = "adam"\nnesterov = false',
            'training.nesterov = false: optimizer = "adam" has none; allowed: no such key, or optimizer = "sgd"',
        ),
        (
            "epochs = 2",
            "epochs = 2\nbetas = [0.9, 0.99]",
            'training.betas = [0.9, 0.99]: optimizer = "sgd" has none; allowed: no such key, or optimizer = "adam" or '
            '"adamw"',
        ),
        (
            "epochs = 2",
            'epochs = 2\noptimizer = "adamw"\nbetas = [0.9]',
            "training.betas = [0.9]: is too short; allowed: a list of 2, each a number at least 0 and below 1",
        ),
        (
            "epochs = 2",
            'epochs = 2\noptimizer = "adamw"\nbetas = [0.9, 1.0]',
            "training.betas[1] = 1.0: is too large; allowed: a number at least 0 and below 1",
        ),
        (
            "epochs = 2",
            'epochs = 2\noptimizer = "adamw"\nbetas = 0.9',
            "training.betas = 0.9: is not a list; allowed: a list of 2, each a number at least 0 and below 1",
        ),
        (
            "epochs = 2",
            "epochs = 2\nstep_at = [0.5]",
            'training.step_at = [0.5]: schedule = "cosine" has none; allowed: no such key, or schedule = "step"',
        ),
        (
            "epochs = 2",
            "epochs = 2\nema_evaluate = false",
            "training.ema_evaluate = false: there is no average; allowed: no such key, or an ema_decay",
        ),
        (
            "epochs = 2",
            "epochs = 2\nbatch_size = 8\naccumulate_steps = 9",
            "training.accumulate_steps = 9: a batch has 8 images; allowed: 1 to 8",
        ),
        (
            "epochs = 2",
            "epochs = 2\nwarmup_epochs = 2.5",
            "training.warmup_epochs = 2.5: is longer than the training; allowed: a number at most 2",
        ),
    ],
)
def test_one_problem_is_one_line_with_key_value_what_is_allowed_and_the_nearest_name(
    write: Write, old: str, new: str, problem: str
) -> None:
    assert problems(write(changed(old, new))) == [problem]


def test_an_unknown_model_and_an_unknown_country_are_named_with_what_is_allowed(write: Write) -> None:
    (model,) = problems(write(changed('"resnet20"', '"resnet2"')))
    assert model.startswith('model = "resnet2" is unknown')
    assert "resnet20" in model
    assert "did you mean" in model
    (country,) = problems(write(changed("inference_seconds = 1", 'country = "FR"')))
    assert country.startswith('measurement.country = "FR" is not')
    assert "FRA" in country


def test_a_place_that_there_is_not_is_named_with_its_table(write: Write) -> None:
    (cloud,) = problems(write(changed("inference_seconds = 1", 'cloud = ["aws", "nowhere"]')))
    assert cloud.startswith('measurement.cloud = "aws nowhere": aws has no such region')


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


def test_all_problems_are_reported_at_once(write: Write) -> None:
    text = """\
name = "a b"
dataset = "digit"
model = "resnet2"
budgets = [0.5, 0.5, 1.5, "half"]
seeds = [-1, -1]
seed = 1

[training]
epoch = 3
batch_size = 0

[[methods]]
name = "gatd"
options = { norm = 3 }

[[methods]]
name = "magnitude"
options = { norm = "l3", train_share = 2 }
optins = {}

[[methods]]
name = "magnitude"

[measurement]
country = "FR"
"""
    keys = [line.split(" = ")[0].split(": ")[0] for line in problems(write(text))]
    assert sorted(keys) == sorted(
        [
            "name",
            "dataset",
            "model",
            "budgets[1]",
            "budgets[2]",
            "budgets[3]",
            "seeds[0]",
            "seeds[1]",
            "seeds[1]",  # negative, and there twice
            "seed",
            "training.epochs",
            "training.epoch",
            "training.batch_size",
            "methods[0].name",
            "methods[1].options.norm",
            "methods[1].options.train_share",
            "methods[1].optins",
            "methods[2].label",
            "measurement.country",
        ]
    )


def test_a_list_of_bad_items_is_not_called_too_short(write: Write) -> None:
    assert len(problems(write(changed("[0.5, 0.3]", "[2, 3]")))) == 2


def test_long_values_are_shortened(write: Write) -> None:
    (line,) = problems(write(changed("epochs = 2", f'epochs = "{"x" * 1000}"')))
    assert "xxx…: is not an integer" in line
    assert len(line) < 200


def test_toml_syntax_errors_name_line_and_column(write: Write) -> None:
    assert problems(write('name = "mine"\ndataset = \n')) == ["not TOML: Invalid value (at line 2, column 11)"]
    (line,) = problems(write('name = "mine"\nbudgets = [0.5,'))
    assert line.startswith("not TOML: ")
    assert "line 2, column 16" in line


def test_a_missing_suite_is_answered_with_the_shipped_ones_and_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        load_suite("quickstrt")
    assert str(caught.value) == (
        f"quickstrt: no such suite; allowed: {', '.join(shipped())}, or the path of a TOML file "
        '(did you mean "quickstart"?)'
    )


def test_what_is_not_a_readable_text_file_is_said_in_one_sentence(tmp_path: Path) -> None:
    assert problems(tmp_path) == ["is a folder; allowed: a TOML file"]
    latin = tmp_path / "latin.toml"
    latin.write_bytes('name = "é"'.encode("latin-1"))
    assert problems(latin) == ["is not UTF-8 (byte 8); allowed: a TOML file in UTF-8"]
    assert problems(latin / "below.toml") == ["cannot be read (Not a directory)"]


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
