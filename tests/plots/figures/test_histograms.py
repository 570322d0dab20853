"""Costs of single images and scales of channels are those of the records."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.records.cost import SampleMacs
from greenprune.plots.figures.histograms import (
    cost_per_image,
    has_image_costs,
    has_scales,
    image_costs_in_words,
    scales,
    scales_in_words,
)
from greenprune.plots.frame.load import load

from tests.plots.records import record, store


def test_costs_of_single_images_are_the_records(tmp_path: Path) -> None:
    run = record("dynamic", budget=0.5)
    assert run.cost is not None
    sampled = SampleMacs(
        images=8, mean=0.5, std=0.1, low=0.3, high=0.9, edges=(0.0, 0.25, 0.5, 0.75, 1.0), counts=(0, 6, 0, 2)
    )
    run = run.model_copy(update={"cost": run.cost.model_copy(update={"sample_macs": sampled})})
    results = load(store(tmp_path, record(), run))
    assert has_image_costs(results)
    (axes,) = cost_per_image(results).axes
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in axes.patches]
    assert bars == [(0, 25, 0), (25, 25, 75), (50, 25, 0), (75, 25, 25)]
    (mean,) = axes.lines
    assert mean.get_xdata()[0] == 50
    assert "half of the images cost at most about 42 % of the dense MACs" in image_costs_in_words(results)


def test_scales_are_the_records(tmp_path: Path) -> None:
    stored = {"edges": [0.0, 0.01, 0.1, 0.2], "counts": [5, 0, 15]}
    run = record("slimming", budget=0.5).model_copy(update={"history": {"strength": 1e-4, "scale_histogram": stored}})
    results = load(store(tmp_path, record(), run))
    assert has_scales(results)
    (axes,) = scales(results).axes
    assert [round(bar.get_height()) for bar in axes.patches] == [25, 0, 75]
    said = scales_in_words(results)
    assert "25 % of the channels have a scale below a tenth of the largest, 0.2" in said


@pytest.mark.parametrize(
    "history", [{}, {"scale_histogram": {}}, {"scale_histogram": {"edges": [0], "counts": [1, 2]}}]
)
def test_no_histogram_without_figures(history: dict, tmp_path: Path) -> None:
    run = record("slimming", budget=0.5).model_copy(update={"history": history})
    results = load(store(tmp_path, record(), run))
    assert not has_scales(results)
    assert not has_image_costs(results)
