"""Figures against the data they are drawn from."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from plots.figures import FIGURES, INVALID_HATCH, accuracy_against_macs, energy_per_method, render
from plots.frame import Results, load
from plots.style import LOOKS, SPARE_LOOKS, looks
from plots.tables import comparison
from tests.plots.records import NINE, grid, inference, reading, record, source, store


def _load(folder: Path, *records) -> Results:
    return load(store(folder, *records))


def _line(figure: Figure, label: str):
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == label]
    return line


def test_accuracy_shows_the_means_of_the_table(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(("dense", "gated", "magnitude"), (0.3, 0.5, 0.7), 3))
    figure = accuracy_against_macs(results)
    table = comparison(results)
    for method in ("gated", "magnitude", "dense"):
        rows = table[table["method"] == method].sort_values("kept_macs_percent_mean")
        line = _line(figure, method)
        np.testing.assert_allclose(line.get_xdata(), rows["kept_macs_percent_mean"])
        np.testing.assert_allclose(line.get_ydata(), rows["test_accuracy_percent_mean"])
        assert (line.get_color(), line.get_marker()) == (LOOKS[method].color, LOOKS[method].marker)
        assert line.get_linestyle() == "-"
    (axes,) = figure.axes
    assert axes.get_xlabel() == "MACs kept, % of dense"
    assert axes.get_ylabel() == "Test accuracy, %"
    assert "3 seeds" in axes.get_title(loc="left")


def test_accuracy_has_error_bars_of_one_sd_a_point_per_run_and_dense_as_a_line(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(("dense", "gated"), (0.5,), 3))
    (axes,) = accuracy_against_macs(results).axes
    table = comparison(results).set_index("method")
    gated = table.loc["gated"]
    ends = [
        segment[:, 1]
        for collection in axes.collections
        if isinstance(collection, LineCollection)
        for segment in collection.get_segments()
        if np.allclose(segment[:, 0], gated["kept_macs_percent_mean"])
    ]
    mean, sd = gated["test_accuracy_percent_mean"], gated["test_accuracy_percent_sd"]
    np.testing.assert_allclose(ends, [[mean - sd, mean + sd]])
    small = [line for line in axes.lines if line.get_markersize() == 4 and line.get_color() == LOOKS["gated"].color]
    runs = results.runs[results.runs["method"] == "gated"]
    np.testing.assert_allclose([line.get_ydata() for line in small], [runs["test_accuracy"] * 100])
    heights = [line.get_ydata() for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    np.testing.assert_allclose(heights, [[table.loc["dense", "test_accuracy_percent_mean"]] * 2])


def test_accuracy_axes_are_never_zoomed_into_noise(tmp_path: Path) -> None:
    results = _load(tmp_path, record(test_accuracy=0.9), record("gated", test_accuracy=0.9001))
    (axes,) = accuracy_against_macs(results).axes
    low, high = axes.get_ylim()
    assert high - low == pytest.approx(2.0)
    assert axes.get_xlim()[0] <= 45
    assert axes.get_xlim()[1] >= 100


def test_accuracy_marks_invalid_runs_and_leaves_them_out_of_the_line(tmp_path: Path) -> None:
    invalid = record("gated", seed=1, valid=False, invalid_reason="kept too much", test_accuracy=0.99)
    figure = accuracy_against_macs(_load(tmp_path, record(), record("gated", test_accuracy=0.8), invalid))
    np.testing.assert_allclose(_line(figure, "gated").get_ydata(), [80])
    (marked,) = [c for c in figure.axes[0].collections if c.get_label() == "invalid run"]
    np.testing.assert_allclose(marked.get_offsets()[:, 1], [99])


def test_energy_bars_and_bounds_are_those_of_the_table(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(seeds=2))
    table = comparison(results)
    training, large_batch = energy_per_method(results).axes
    for axes, name, per in (
        (training, "train_energy_modelled_j", 1000),
        (large_batch, "large_batch_energy_ratio_modelled", 1),
    ):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], table[f"{name}_mean"] / per)
        (bounds,) = [c for c in axes.collections if isinstance(c, LineCollection)]
        ends = [segment[:, 0] for segment in bounds.get_segments()]
        np.testing.assert_allclose(ends, table[[f"{name}_low", f"{name}_high"]] / per)
        assert axes.get_xlim()[0] == 0
    assert training.get_xlabel() == "Training energy, kJ\n(modelled)"
    assert large_batch.get_xlabel() == "Inference energy, × dense side by side\n(modelled, batch 250)"
    assert [label.get_text() for label in training.get_yticklabels()] == ["dense", "gated 50 %", "magnitude 50 %"]


def test_kinds_of_energy_are_never_mixed(tmp_path: Path) -> None:
    training = reading(source(5000.0, "measured", "nvml:0"), source(300.0))
    results = _load(tmp_path, *grid(kinds=("measured", "modelled"), energy={"training": training}))
    axes = energy_per_method(results).axes
    labels = [panel.get_xlabel() for panel in axes]
    assert [("measured" in label, "modelled" in label) for label in labels] == [(True, False)] * 2 + [(False, True)] * 2
    assert [bar.get_width() for bar in axes[0].patches] == pytest.approx([5.0] * 3)
    assert [bar.get_width() for bar in axes[2].patches] == pytest.approx([0.3] * 3)


def test_energy_hatches_invalid_bars(tmp_path: Path) -> None:
    invalid = record("gated", seed=1, valid=False, invalid_reason="kept too much")
    training, _ = energy_per_method(_load(tmp_path, record(), record("gated"), invalid)).axes
    assert [bar.get_hatch() for bar in training.patches] == [None, None, INVALID_HATCH]
    assert training.get_yticklabels()[2].get_text() == "gated 50 % (invalid)"


def test_no_energy_is_said_in_words(tmp_path: Path) -> None:
    figure = energy_per_method(_load(tmp_path, record(energy={}, inference=())))
    assert [text.get_text() for text in figure.axes[0].texts] == ["These records hold no energy figures."]


def test_energy_of_training_only(tmp_path: Path) -> None:
    training, large_batch = energy_per_method(_load(tmp_path, record(inference=()))).axes
    assert not training.texts
    assert [text.get_text() for text in large_batch.texts] == ["no such figures"]


def test_figures_in_words(tmp_path: Path) -> None:
    training = {"training": reading(source(1234.0))}
    runs = [
        record(energy=training, test_accuracy=0.9),
        record("gated", energy=training, test_accuracy=0.85, inference=(inference(250, 0.5),)),
    ]
    table = comparison(_load(tmp_path, *runs))
    accuracy, energy = (spec.describe(table) for spec in FIGURES)
    kept = table["kept_macs_percent_mean"].iloc[1]
    assert accuracy == (
        "Test accuracy against kept MACs. dense: 90.00 % at 100.0 % of the MACs; "
        f"gated 50 %: 85.00 % at {kept:.1f} % of the MACs."
    )
    assert energy == (
        "Training energy in kJ, modelled. dense: 1.23; gated 50 %: 1.23. "
        "Inference energy relative to dense, modelled. dense: 1.00; gated 50 %: 0.500."
    )


@pytest.mark.parametrize("spec", FIGURES, ids=lambda spec: spec.name)
def test_a_figure_shows_one_comparison(tmp_path: Path, spec) -> None:
    results = _load(tmp_path, record(), record(suite="other"))
    with pytest.raises(ValueError, match="one comparison"):
        spec.draw(results)


@pytest.mark.parametrize("spec", FIGURES, ids=lambda spec: spec.name)
def test_files_depend_on_the_data_alone(tmp_path: Path, spec) -> None:
    before = dict(mpl.rcParams)
    results = _load(tmp_path, *grid(seeds=2))
    first, second = (render(spec.draw(results), "svg") for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first
    assert render(spec.draw(results), "png").startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == before  # the caller's settings are left alone


def test_labels_do_not_overlap_with_nine_methods_and_three_budgets(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(NINE, (0.3, 0.5, 0.7), 3))
    for spec in FIGURES:
        figure = spec.draw(results)
        figure.draw_without_rendering()
        width, height = figure.canvas.get_width_height()
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                labels = [label for label in axis.get_ticklabels() if label.get_text() and label.get_visible()]
                boxes = [label.get_window_extent() for label in labels]
                low, high = sorted(axes.get_ylim() if axis is axes.yaxis else axes.get_xlim())
                ticks = axis.get_ticklocs()
                shown = [box for box, at in zip(boxes, ticks, strict=False) if low <= at <= high]
                assert not any(a.overlaps(b) for a, b in combinations(shown, 2)), spec.name
                assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in shown)


def _methods(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["method", "method_name"])


def test_every_method_has_its_own_look() -> None:
    assert set(LOOKS) == set(NINE)
    everything = [*LOOKS.values(), *SPARE_LOOKS]
    assert len({(look.color, look.marker) for look in everything}) == len(everything)
    assert len({look.color for look in LOOKS.values()}) == len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_looks_do_not_depend_on_what_else_is_there() -> None:
    assert looks(_methods(("gated", "gated")))["gated"] == LOOKS["gated"]
    found = looks(_methods(("z", "z"), ("gated", "gated"), ("a", "a"), ("a", "a")))
    assert found == {"gated": LOOKS["gated"], "a": SPARE_LOOKS[0], "z": SPARE_LOOKS[1]}


def test_two_labels_of_a_method_look_different() -> None:
    found = looks(_methods(("gated-wide", "gated"), ("gated-narrow", "gated"), ("slow", "magnitude")))
    assert found == {"gated-narrow": LOOKS["gated"], "gated-wide": SPARE_LOOKS[0], "slow": LOOKS["magnitude"]}
