"""What a user reads when a suite file is not accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from greenprune.bench.errors import UserError
from greenprune.bench.suite.file import load_suite, shipped
from greenprune.methods import registry

from tests.bench.suite.good import Write, changed, problems

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
