"""Figures against the data they are drawn from."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from greenprune.methods.catalogue import OWN
from greenprune.plots.figures.all import FIGURES, render
from greenprune.plots.figures.energy import INVALID_HATCH, energy_per_method
from greenprune.plots.figures.score import score_against_macs
from greenprune.plots.figures.style import LOOKS, SPARE_LOOKS, looks
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.load import load
from greenprune.plots.report.explorer import SYMBOLS
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from tests.plots.records import NINE, grid, inference, reading, record, rich, source, store

FIRST_FIGURES = ("score_against_macs", "energy_per_method")


def _load(folder: Path, *records) -> Results:
    return load(store(folder, *records))


def _line(figure: Figure, label: str):
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == label]
    return line


def test_accuracy_shows_the_means_of_the_table(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(("dense", "gated", "magnitude"), (0.3, 0.5, 0.7), 3))
    figure = score_against_macs(results)
    table = comparison(results)
    for method in ("gated", "magnitude", "dense"):
        rows = table[table["method"] == method].sort_values("kept_macs_percent_mean")
        line = _line(figure, method)
        np.testing.assert_allclose(line.get_xdata(), rows["kept_macs_percent_mean"])
        np.testing.assert_allclose(line.get_ydata(), rows["test_score_mean"])
        assert (line.get_color(), line.get_marker()) == (LOOKS[method].color, LOOKS[method].marker)
        assert line.get_linestyle() == ("--" if method == "dense" else "-")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "MACs kept, % of dense"
    assert axes.get_ylabel() == "Test accuracy, %"
    assert "3 seeds" in figure.get_suptitle()


def test_accuracy_has_error_bars_of_one_sd_a_point_per_run_and_dense_as_a_line(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(("dense", "gated"), (0.5,), 3))
    (axes,) = score_against_macs(results).axes
    table = comparison(results).set_index("method")
    gated = table.loc["gated"]
    ends = [
        segment[:, 1]
        for collection in axes.collections
        if isinstance(collection, LineCollection)
        for segment in collection.get_segments()
        if np.allclose(segment[:, 0], gated["kept_macs_percent_mean"])
    ]
    mean, sd = gated["test_score_mean"], gated["test_score_sd"]
    np.testing.assert_allclose(ends, [[mean - sd, mean + sd]])
    small = [line for line in axes.lines if line.get_markersize() == 4 and line.get_color() == LOOKS["gated"].color]
    runs = results.runs[results.runs["method"] == "gated"]
    np.testing.assert_allclose([line.get_ydata() for line in small], [runs["test_score"]])
    heights = [line.get_ydata() for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    np.testing.assert_allclose(heights, [[table.loc["dense", "test_score_mean"]] * 2])


def test_accuracy_axes_are_never_zoomed_into_noise(tmp_path: Path) -> None:
    results = _load(tmp_path, record(test_score=0.9), record("gated", test_score=0.9001))
    (axes,) = score_against_macs(results).axes
    low, high = axes.get_ylim()
    assert high - low == pytest.approx(2.0)
    smallest = min(results.runs["kept_macs"]) * 100
    left, right = axes.get_xlim()
    assert smallest - 10 < left < smallest  # no empty space below the smallest network
    assert right > 100  # and the dense one is always there


def test_accuracy_marks_invalid_runs_and_leaves_them_out_of_the_line(tmp_path: Path) -> None:
    invalid = record("gated", seed=1, valid=False, invalid_reason="kept too much", test_score=0.99)
    figure = score_against_macs(_load(tmp_path, record(), record("gated", test_score=0.8), invalid))
    np.testing.assert_allclose(_line(figure, "gated").get_ydata(), [80])
    (marked,) = [c for c in figure.axes[0].collections if c.get_label() == "invalid run"]
    np.testing.assert_allclose(marked.get_offsets()[:, 1], [99])


def _ends(axes) -> list[list[float]]:
    """Both ends of every error bar of a panel, from the top down."""
    collections = [c for c in axes.collections if isinstance(c, LineCollection)]
    segments = [segment for collection in collections for segment in collection.get_segments() if len(segment)]
    return [list(segment[:, 0]) for segment in sorted(segments, key=lambda segment: segment[0, 1])]


def test_training_energy_is_that_of_the_table_in_kilojoules_with_its_bounds(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(seeds=2))
    table = comparison(results)
    axes, _ = energy_per_method(results).axes
    name = "train_energy_modelled_j"
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], table[f"{name}_mean"] / 1000)
    np.testing.assert_allclose(_ends(axes), table[[f"{name}_low", f"{name}_high"]] / 1000)
    assert axes.get_xlim()[1] > table[f"{name}_high"].max() / 1000  # nothing is cut off
    dense = table[f"{name}_mean"].iloc[0] / 1000
    assert [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--"] == [[dense, dense]]
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlabel() == "Training energy, kJ\n(modelled)"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dense", "gated 50 %", "magnitude 50 %"]


def _side_by_side(ratio: float, low: float, high: float, *, busy: float = 1.0):
    """Inference on a machine that makes everything take `busy` times the joules at that moment."""
    measured = inference(250, ratio, joules_per_1000=4.0 * busy)
    return (measured.model_copy(update={"energy_ratio": {"modelled": (ratio, low, high)}}),)


def test_inference_energy_is_relative_to_dense_side_by_side_whatever_the_machine_did_meanwhile(tmp_path: Path) -> None:
    """gated runs while the machine is busy and takes more joules than dense took, yet 0.8 of those beside it."""
    runs = [
        record(inference=_side_by_side(1.02, 0.97, 1.08)),
        record("gated", seed=0, inference=_side_by_side(0.7, 0.6, 0.85, busy=3)),
        record("gated", seed=1, inference=_side_by_side(0.9, 0.8, 1.1, busy=5)),
    ]
    _, axes = energy_per_method(_load(tmp_path, *runs)).axes
    assert axes.get_xlabel() == "Inference energy, × dense\n(modelled, side by side, batch 250)"
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([1.02, 0.8])
    assert [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--"] == [[1.0, 1.0]]
    assert axes.get_xlim()[0] == 0
    np.testing.assert_allclose(_ends(axes), [[0.97, 1.08], [0.6, 0.85], [0.8, 1.1]])  # each run has its own interval
    assert axes.get_xlim()[1] > 1.1
    (dots,) = [c for c in axes.collections if not isinstance(c, LineCollection)]
    np.testing.assert_allclose(dots.get_offsets()[:, 0], [0.7, 0.9])
    assert np.ptp(dots.get_offsets()[:, 1]) > 0.2  # their intervals don't cover one another


def test_without_joules_of_blocks_the_ratio_of_the_totals_has_no_interval(tmp_path: Path) -> None:
    _, axes = energy_per_method(_load(tmp_path, record(), record("gated", inference=(inference(250, 0.5),)))).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([1.0, 0.5])
    assert np.isnan(_ends(axes)).all()


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
        record(energy=training, test_score=0.9),
        record("gated", energy=training, test_score=0.85, inference=_side_by_side(0.5, 0.4, 0.6)),
    ]
    results = _load(tmp_path, *runs)
    accuracy, energy = (spec.describe(results) for spec in FIGURES if spec.name in FIRST_FIGURES)
    kept = comparison(results)["kept_macs_percent_mean"].iloc[1]
    assert accuracy == (
        "Test accuracy against kept MACs. dense: 90.00 % at 100.0 % of the MACs; "
        f"gated 50 %: 85.00 % at {kept:.1f} % of the MACs."
    )
    assert energy == (
        "Training energy in kJ, modelled. dense: 1.23; gated 50 %: 1.23. "
        "Inference energy as a multiple of the dense network's beside it, modelled, batch 250. "
        "dense: 1.00; gated 50 %: 0.50 [0.40, 0.60]."
    )


@pytest.mark.parametrize("spec", FIGURES, ids=lambda spec: spec.name)
def test_a_figure_shows_one_comparison(tmp_path: Path, spec) -> None:
    results = _load(tmp_path, record(), record(suite="other"))
    with pytest.raises(ValueError, match="one comparison"):
        spec.draw(results)


@pytest.mark.parametrize("spec", FIGURES, ids=lambda spec: spec.name)
def test_files_depend_on_the_data_alone(tmp_path: Path, spec) -> None:
    before = dict(mpl.rcParams)
    results = load(rich(tmp_path, *grid(seeds=2)))
    first, second = (render(spec.draw(results), "svg") for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first
    assert render(spec.draw(results), "png").startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == before  # the caller's settings are left alone


def test_labels_do_not_overlap_with_nine_methods_and_three_budgets(tmp_path: Path) -> None:
    results = load(rich(tmp_path, *grid(NINE, (0.3, 0.5, 0.7), 3)))
    for spec in FIGURES:
        assert spec.applies(results), spec.name
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
    assert set(OWN) <= set(LOOKS)  # of the catalogue: a new method gets a look of its own
    everything = [*LOOKS.values(), *SPARE_LOOKS]
    assert {look.marker for look in everything} <= set(SYMBOLS)
    assert len({(look.color, look.marker) for look in everything}) == len(everything)
    assert len({look.color for look in LOOKS.values()}) == len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_looks_do_not_depend_on_what_else_is_there() -> None:
    assert looks(_methods(("gated", "gated")))["gated"] == LOOKS["gated"]
    found = looks(_methods(("z", "z"), ("gated", "gated"), ("a", "a"), ("a", "a")))
    assert found == {"gated": LOOKS["gated"], "a": SPARE_LOOKS[0], "z": SPARE_LOOKS[1]}


def test_two_labels_of_a_method_look_different() -> None:
    found = looks(_methods(("gated-wide", "gated"), ("gated-narrow", "gated"), ("slow", "magnitude")))
    assert found == {"gated-narrow": LOOKS["gated"], "gated-wide": SPARE_LOOKS[0], "slow": LOOKS["magnitude"]}


MANY = (*OWN, *(f"of_others_{number}" for number in range(20 - len(OWN))))


def test_twenty_methods_have_a_legend_that_fits_and_looks_of_their_own(tmp_path: Path) -> None:
    runs = grid(MANY, (0.3, 0.5, 0.7), 2)
    results = _load(tmp_path, *runs)
    found = looks(results.runs)
    assert len({(look.color, look.marker) for look in found.values()}) == len(MANY)
    figure = score_against_macs(results)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, (width, height) = legend.get_window_extent(), figure.canvas.get_width_height()
    assert {text.get_text() for text in legend.get_texts()} >= set(MANY)
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height  # noqa: PT018
    assert not box.overlaps(figure.axes[0].get_window_extent())
    assert figure.axes[0].get_window_extent().height > 300  # of pixels; the figure grew


def test_a_bar_for_each_network_is_drawn_only_as_long_as_it_can_be_read(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(MANY, (0.3, 0.5, 0.7), 1))
    figure = energy_per_method(results)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == len(MANY)
    assert "gated 30 %" in labels
    assert "gated 50 %" not in labels
    assert figure.get_size_inches()[1] < 10
