"""Power over the time of a run's training, from its samples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from greenprune.plots.figures.power import has_power, power_in_words, power_over_time
from greenprune.plots.figures.power_samples import POWER_COLUMNS, POWER_FILE, read_power, stretches, thinned
from greenprune.plots.frame.load import load

from tests.plots.records import power, record, store


def _samples(folder: Path, *rows: tuple[float, str, str, float | None, str]) -> pd.DataFrame | None:
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=list(POWER_COLUMNS)).to_parquet(folder / POWER_FILE)
    return read_power(folder)


def test_power_of_the_training_alone(tmp_path: Path) -> None:
    rows = _samples(
        tmp_path,
        (1.0, "cpu", "modelled", 5.0, ""),
        (2.0, "cpu", "modelled", 10.0, "search"),
        (3.0, "cpu", "modelled", None, "search"),
        (4.0, "cpu", "modelled", 20.0, "train"),
        (5.0, "cpu", "modelled", 7.0, "evaluation"),
        (6.0, "cpu", "modelled", 7.0, "train"),
    )
    assert rows is not None
    assert list(rows["time_s"]) == [2.0, 3.0, 4.0]
    assert stretches(rows) == [("search", 2.0, 3.0), ("train", 3.0, 4.0)]


def test_thinning_keeps_the_joules() -> None:
    generator = np.random.default_rng(0)
    steps_s = generator.uniform(0.1, 2.0, 1000)
    rows = pd.DataFrame({"time_s": np.cumsum(steps_s), "power_w": generator.uniform(5, 300, 1000)})
    few = thinned(rows, 100)
    assert len(few) == 100

    def joules(frame: pd.DataFrame) -> float:
        return float((frame["power_w"] * frame["time_s"].diff().fillna(0.0)).sum())

    # the first row of all has no beginning here, so its share of the first bin is not in the sum
    assert joules(few) == pytest.approx(joules(rows), rel=0.02)
    assert thinned(rows.head(5), 100)["power_w"].tolist() == rows["power_w"].head(5).tolist()


@pytest.mark.parametrize("content", [b"", b"no parquet", None])
def test_power_that_cannot_be_read_is_left_out(tmp_path: Path, content: bytes | None) -> None:
    results = load(store(tmp_path, record()))
    if content is not None:
        (results.places[0] / POWER_FILE).write_bytes(content)
    assert not has_power(results)


@pytest.mark.parametrize("watts", [None, math.inf])
def test_a_run_without_known_watts_does_not_take_the_picture_of_the_others(tmp_path: Path, watts: float | None) -> None:
    results = load(store(tmp_path, record(), record("gated"), record("magnitude"), record("magnitude", seed=1)))
    folder = tmp_path / "cifar10-cpu"
    for key in ("gated-0.5-0", "magnitude-0.5-0"):
        _samples(folder / key, *((float(t), "cpu", "modelled", watts, "train") for t in range(3)))
    assert not has_power(results)
    power(folder / "dense-1-0")
    power(folder / "magnitude-0.5-1")
    figure = power_over_time(results)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["dense, seed 0", "magnitude 50 %, seed 1"]
    assert all(math.isfinite(end) for axes in figure.axes for end in axes.get_ylim())


def test_a_source_without_known_watts_has_no_average(tmp_path: Path) -> None:
    results = load(store(tmp_path, record()))
    rows = [
        (float(t), name, "modelled", watts, "train") for t in range(3) for name, watts in (("cpu", 20.0), ("gpu", None))
    ]
    _samples(results.places[0], *rows)
    assert power_in_words(results).endswith(": cpu: 20.0 W on average.")


def test_power_over_time(tmp_path: Path) -> None:
    results = load(store(tmp_path, record(), record("gated")))
    power(tmp_path / "cifar10-cpu" / "gated-0.5-0")
    figure = power_over_time(results)
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "gated 50 %, seed 0"
    assert [text.get_text() for text in axes.texts] == ["search", "train"]
    assert {line.get_label() for line in axes.lines} == {"cpu (modelled)", "ram (modelled)"}
    assert power_in_words(results).startswith(
        "Power over time of 1 training. gated 50 %, seed 0 (phases: search, train)"
    )
