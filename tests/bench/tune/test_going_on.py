"""A search goes on where it stopped, and never with another method, network or data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.load import load
from greenprune.bench.errors import UserError
from greenprune.bench.plan.plan import plan
from greenprune.bench.records.tuning import Tuning, read_tuning, write_tuning
from greenprune.bench.suite.entry import MethodEntry
from greenprune.bench.suite.file import load_suite
from greenprune.bench.training import identity
from greenprune.bench.tune import tune

ENTRY = MethodEntry(name="slimming")


def started(folder: Path, data: Dataset) -> Tuning:
    suite = load_suite("tiny.toml").model_copy(update={"methods": (ENTRY,)})
    (run,) = plan(suite, {"digits": data}, "cpu")
    return tune.start("tiny", ENTRY, run.settings, data, folder, "")


def test_a_search_of_another_method_or_other_data_is_refused(
    at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load("digits")
    write_tuning(started(tmp_path, data), tmp_path)
    turned = [np.arange(len(part))[::-1].copy() for part in (data.train, data.test)]
    other_test = dataclasses.replace(data, test=data.test.chosen(turned[1]))
    assert started(tmp_path, other_test) == read_tuning(tmp_path / "tune.json")  # no trial looks at these images
    with pytest.raises(UserError, match=r"is of another experiment \(data: .*, other images or labels\); keep it and"):
        started(tmp_path, dataclasses.replace(data, train=data.train.chosen(turned[0])))
    monkeypatch.setattr(identity, "method_hash_of", lambda name: "other")
    with pytest.raises(UserError, match=r"is of another experiment \(method: .* -> other, other files of the method\)"):
        started(tmp_path, data)


def test_a_search_of_before_goes_on_and_never_says_what_it_is_made_of(
    at_work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", "tiny.toml", "--method", "slimming", "--out", str(tmp_path), "--trials", "1"]
    folder = tmp_path / "tiny/tune-slimming-0.5-s0"
    made = started(folder, load("digits")).model_copy(update={"identity": None})
    folder.mkdir(parents=True)
    write_tuning(made, folder)
    main(command)
    assert "does not say of which method, network and data its trials are" in capsys.readouterr().out
    assert read_tuning(folder / "tune.json").identity is None
