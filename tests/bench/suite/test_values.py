"""What a user reads of values in tables that may be left out, of what is there twice, and of integers that nothing takes."""

from __future__ import annotations

import pytest
from greenprune.bench.errors import UserError
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.overrides import overrides_of

from tests.bench.suite.good import GOOD, Write, changed, problems

SAMPLES = "an integer at least 1 and at most 9.22337203685e+18"


@pytest.mark.parametrize(
    ("allowance", "problem"),
    [
        ("{ samples = -1 }", f"allowance.samples = -1: is too small; allowed: {SAMPLES}"),
        ("{ samples = 1.5 }", f"allowance.samples = 1.5: is not an integer; allowed: {SAMPLES}"),
        ("{ joules = nan }", "allowance.joules = NaN: is not a finite number; allowed: a number above 0"),
        (
            "{ sampels = 5 }",
            'allowance.sampels = 5: unknown key; allowed: samples, macs, joules (did you mean "samples"?)',
        ),
        ("3", "allowance = 3: is not a table; allowed: a table with samples, macs, joules"),
    ],
)
def test_a_table_that_may_be_left_out_is_looked_into(write: Write, allowance: str, problem: str) -> None:
    assert problems(write(changed("seeds = [0, 1]", f"allowance = {allowance}"))) == [problem]


def test_what_is_there_twice_is_not_what_was_meant(write: Write) -> None:
    (line,) = problems(write(changed("seeds = [0, 1]", 'views = ["samples", "samples"]')))
    assert line == 'views[1] = "samples": is there twice; allowed: "samples", "macs", "joules", once'


LARGE = "0x" + "f" * 4000


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("epochs = 2", f"epochs = {LARGE}", "training.epochs"),
        ("[0, 1]", f"[0, {LARGE}]", "seeds[1]"),
        ('"mine"', LARGE, "name"),
        ('norm = "l2"', f"norm = {LARGE}", "methods[1].options.norm"),
        ('"digits"', f'{{ folder = "x", image_size = {LARGE} }}', "dataset.image_size"),
        ("seeds = [0, 1]", f"train_images = {LARGE}", "train_images"),
        ("seeds = [0, 1]", f"sedes = -{2**64}", "sedes"),
    ],
)
def test_an_integer_beyond_64_bits_is_refused_with_its_key(write: Write, old: str, new: str, key: str) -> None:
    (line,) = problems(write(changed(old, new)))
    assert line.startswith(f"{key} = {'0xffff' if LARGE in new else '-18446744073709551616'}")
    assert line.endswith(": is beyond 64 bits; allowed: an integer within 64")
    assert len(line) < 200


def test_one_of_the_command_line_is_refused_after_its_option(write: Write) -> None:
    path = write(GOOD)
    with pytest.raises(UserError, match=r"^--set training\.epochs=0xf+…: training\.epochs = 0xf+…: is beyond 64 bits"):
        load_suite(str(path), overrides_of([f"training.epochs={LARGE}"]))


def test_more_images_than_anybody_has_are_refused(write: Write) -> None:
    (line,) = problems(write(changed("seeds = [0, 1]", f"train_images = {2**62}")))
    assert line == f"train_images = {2**62}: is too large; allowed: an integer at least 1 and at most 10000000000"
