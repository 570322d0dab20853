"""A suite as TOML is read again as what it was."""

from __future__ import annotations

import math
import tomllib
from datetime import date, datetime, time

import pytest
from greenprune.bench.suite.written import toml_text, toml_value


def test_what_is_written_is_read_again() -> None:
    data = {
        "name": "runs",
        "dataset": {"folder": 'a "quoted" \\ é folder', "image_size": 64, "mean": [0.1, 1e-9]},
        "budgets": [0.5],
        "description": date(2024, 5, 1),
        "training": {"epochs": 3, "nesterov": True, "learning_rate": 0.02, "betas": [0.9, 0.99]},
        "methods": [{"name": "dense"}, {"name": "gated", "options": {"drift": 5.0, "of layers": {"a.b": 1, "": []}}}],
    }
    assert tomllib.loads(toml_text(data)) == data


@pytest.mark.parametrize("character", [chr(n) for n in (*range(32), 0x7F, 0x80, 0x85, 0x2028, 0xFEFF, 0x1F600)])
def test_text_may_have_any_character(character: str) -> None:
    assert tomllib.loads(f"a = {toml_value(character)}") == {"a": character}


@pytest.mark.parametrize("value", [-math.inf, 1e300, 1e-300, 0, True, time(1, 2, 3), datetime(2024, 5, 1, 1, 2)])
def test_values_that_are_no_text(value: object) -> None:
    read = tomllib.loads(f"a = {toml_value(value)}")["a"]
    assert (read, type(read)) == (value, type(value))
