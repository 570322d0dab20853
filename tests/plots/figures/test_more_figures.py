"""Pareto front, break-even, gates, architecture, budget, saving and power: against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from greenprune.bench.records.cost import SampleMacs
from greenprune.plots.figures.breakeven import break_even_in_words, energy_break_even, inferences_text
from greenprune.plots.figures.budget import budget_achieved, saving_in_words, saving_predicted_and_measured
from greenprune.plots.figures.gates import (
    architecture_in_words,
    consensus_in_words,
    consensus_of,
    final_architecture,
    gate_consensus,
    has_consensus,
)
from greenprune.plots.figures.histograms import (
    cost_per_image,
    has_image_costs,
    has_scales,
    image_costs_in_words,
    scales,
    scales_in_words,
)
from greenprune.plots.figures.pareto import pareto_front
from greenprune.plots.figures.power import has_power, power_in_words, power_over_time
from greenprune.plots.figures.power_samples import POWER_COLUMNS, POWER_FILE, read_power, stretches, thinned
from greenprune.plots.figures.score import score_against_inference_energy, score_against_training_energy
from greenprune.plots.figures.style import LOOKS
from greenprune.plots.frame.breakeven import break_even, inferences_until
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.load import load
from matplotlib.patches import Rectangle

from tests.plots.records import gate_history, grid, inference, power, reading, record, rich, source, store, with_widths


def _line(axes, label: str):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def test_pareto_front() -> None:
    assert pareto_front([1, 2, 3, 2], [1, 3, 2, 2]) == [0, 1]
    assert pareto_front([2, 1, 1], [5, 5, 5]) == [1]
    assert pareto_front([math.nan, 1], [9, 1]) == [1]
    assert pareto_front([], []) == []


def test_score_against_energy_shows_the_table(tmp_path: Path) -> None:
    results = load(rich(tmp_path, *grid(("dense", "gated", "magnitude"), (0.3, 0.5), 3)))
    table = comparison(results)
    gated = table[table["method"] == "gated"]
    (axes,) = score_against_training_energy(results).axes
    order = gated.sort_values("train_energy_modelled_j_mean")
    np.testing.assert_allclose(_line(axes, "gated").get_xdata(), order["train_energy_modelled_j_mean"] / 1000)
    np.testing.assert_allclose(_line(axes, "gated").get_ydata(), order["test_score_mean"])
    assert axes.get_xlabel() == "Training energy, kJ (modelled)"
    (axes,) = score_against_inference_energy(results).axes
    np.testing.assert_allclose(_line(axes, "gated").get_xdata(), gated["large_batch_energy_ratio_modelled_mean"])
    assert _line(axes, "gated").get_color() == LOOKS["gated"].color
    assert axes.get_xlabel() == "Inference energy, × dense (modelled, batch 250)"
    front = _line(axes, "Pareto front")
    x, y = table["large_batch_energy_ratio_modelled_mean"], table["test_score_mean"]
    expected = pareto_front(list(x), list(y))
    np.testing.assert_allclose(front.get_xdata(), x.iloc[expected])
    assert list(front.get_ydata()) == sorted(front.get_ydata())


def test_an_invalid_network_is_never_on_the_front(tmp_path: Path) -> None:
    cheat = record("magnitude", valid=False, invalid_reason="kept too much", test_score=0.99)
    (axes,) = score_against_inference_energy(load(store(tmp_path, *grid(("dense", "gated")), cheat))).axes
    assert max(_line(axes, "Pareto front").get_ydata()) < 99
    (marked,) = [c for c in axes.collections if c.get_label() == "invalid run"]
    np.testing.assert_allclose(marked.get_offsets()[:, 1], [99])


def test_each_kind_of_energy_has_a_panel(tmp_path: Path) -> None:
    results = load(store(tmp_path, *grid(kinds=("measured", "modelled"))))
    for draw in (score_against_training_energy, score_against_inference_energy):
        labels = [axes.get_xlabel() for axes in draw(results).axes]
        assert [("measured" in label, "modelled" in label) for label in labels] == [(True, False), (False, True)]


def _paid(train_j: float, ratio: float, interval: float = 1.0, seed: int = 0, method: str = "gated"):
    """A run; dense takes 4 J per 1,000 images beside it. `interval`: factor on both sides of the ratio."""
    measured = inference(250, ratio).model_copy(
        update={"energy_ratio": {"modelled": (ratio, ratio / interval, ratio * interval)}}
    )
    return record(method, seed=seed, inference=(measured,), energy={"training": reading(source(train_j))})


def test_break_even_by_hand(tmp_path: Path) -> None:
    results = load(store(tmp_path, _paid(8000, 1.0, method="dense"), _paid(10_000, 0.5)))
    (entry,) = break_even(results)
    # an inference saves 4 mJ x (1 - 0.5) = 2 mJ
    assert entry.already_trained.value == pytest.approx(10_000 / 0.002, rel=1e-3)
    assert entry.instead is not None
    assert entry.instead.value == pytest.approx(2_000 / 0.002, rel=1e-3)
    mean, low, high = entry.saved_j(np.asarray([0.0, 1e6]))
    np.testing.assert_allclose(mean, [-2000, 0], atol=5)
    np.testing.assert_allclose(low, mean, atol=1e-6)  # no interval in the record, one seed
    np.testing.assert_allclose(high, mean, atol=1e-6)


def test_break_even_of_what_trains_cheaper_and_of_what_saves_nothing(tmp_path: Path) -> None:
    runs = [_paid(8000, 1.0, method="dense"), _paid(6000, 0.5), _paid(9000, 1.1, method="magnitude")]
    entries = {entry.method: entry for entry in break_even(load(store(tmp_path, *runs)))}
    assert entries["gated"].instead is not None
    assert entries["gated"].instead.value == 0
    assert math.isinf(entries["magnitude"].already_trained.value)
    words = break_even_in_words(load(tmp_path))
    assert "gated 50 %: 3.00 million with a dense network there already, from the start when trained instead" in words
    assert "magnitude 50 %: never" in words


def test_break_even_interval_comes_from_the_blocks_and_from_the_seeds(tmp_path: Path) -> None:
    dense = [_paid(8000, 1.0, method="dense", seed=seed) for seed in range(3)]
    one = load(store(tmp_path / "one", dense[0], _paid(10_000, 0.5, interval=1.2)))
    (entry,) = break_even(one)
    # at the ends of the ratio's interval: 10 kJ / (4 mJ x (1 - 0.5 / 1.2)) and x 1.2
    assert entry.already_trained.low == pytest.approx(10_000 / (0.004 * (1 - 0.5 / 1.2)), rel=0.02)
    assert entry.already_trained.high == pytest.approx(10_000 / (0.004 * (1 - 0.5 * 1.2)), rel=0.02)
    spread = [_paid(10_000, ratio, seed=seed) for seed, ratio in enumerate((0.3, 0.5, 0.7))]
    (entry,) = break_even(load(store(tmp_path / "three", *dense, *spread)))
    assert entry.already_trained.low < 0.8 * entry.already_trained.value < 1.2 * entry.already_trained.value
    assert entry.already_trained.high > 1.2 * entry.already_trained.value


def test_over_two_seeds_the_interval_of_what_training_takes_is_that_of_student(tmp_path: Path) -> None:
    """Half its width is 12.7 standard errors, not the distance of the two."""
    dense = [_paid(8000, 1.0, method="dense", seed=seed) for seed in range(2)]
    paid = [_paid(joules, 0.5, seed=seed) for seed, joules in enumerate((9_990, 10_010))]
    (entry,) = break_even(load(store(tmp_path, *dense, *paid)))
    half_j = 12.706 * 10  # of the mean of the two
    low_j, high_j = np.percentile(entry.training_draws_j, [2.5, 97.5])
    assert low_j == pytest.approx(10_000 - half_j, abs=0.15 * half_j)
    assert high_j == pytest.approx(10_000 + half_j, abs=0.15 * half_j)
    assert np.median(entry.training_draws_j) == pytest.approx(10_000, abs=2)


def test_break_even_without_dense_still_tells_what_pays_the_whole_training(tmp_path: Path) -> None:
    results = load(store(tmp_path, _paid(10_000, 0.5)))
    (entry,) = break_even(results)
    assert entry.instead is None
    assert entry.already_trained.value == pytest.approx(5e6, rel=1e-3)
    left, _ = energy_break_even(results).axes
    assert "no dense training to compare with" in [text.get_text() for text in left.texts]


def test_inferences_until() -> None:
    found = inferences_until(np.asarray([10.0, -1.0, 5.0]), np.asarray([2.0, 1.0, 0.0]))
    assert list(found) == [5.0, 0.0, math.inf]


def test_never_is_said_in_the_picture(tmp_path: Path) -> None:
    _, right = energy_break_even(load(store(tmp_path, _paid(8000, 1.0, method="dense"), _paid(9000, 1.3)))).axes
    assert [text.get_text() for text in right.texts] == ["never: no saving shown"]
    (entry,) = break_even(load(tmp_path))
    assert inferences_text(entry.already_trained) == "never"


def test_consensus_has_a_row_for_each_gate_and_a_column_for_each_step() -> None:
    history = {
        "steps": [10, 20],
        "search_steps": 20,
        "channels": {"a": [[0.5, 0.6, 0.4], [0.1, 0.9, 0.2]]},
        "layers": {"block": [[0.8], [1.0]]},
    }
    consensus = consensus_of(record("gated", history=history))
    assert consensus is not None
    assert consensus.groups == [("a", 3), ("block (layer)", 1)]
    # channels sorted by where they ended, the surest first
    np.testing.assert_allclose(consensus.values, [[0.6, 0.9], [0.4, 0.2], [0.5, 0.1], [0.8, 1.0]])


@pytest.mark.parametrize(
    "history",
    [
        {},
        {"steps": [1, 2], "channels": {"a": [[0.5], [0.5, 0.6]]}},
        {"steps": [1, 2], "channels": {"a": [[1.0]]}},
        {"steps": 3},
    ],
)
def test_a_history_of_another_shape_is_no_crash(tmp_path: Path, history: dict) -> None:
    results = load(store(tmp_path, record("gated", history=history)))
    assert not has_consensus(results)


def test_heat_map_and_its_words(tmp_path: Path) -> None:
    results = load(store(tmp_path, record("gated", history=gate_history())))
    figure = gate_consensus(results)
    axes = figure.axes[0]
    assert len(axes.collections) == len(consensus_of(results.whole(results.records[0])).groups)  # type: ignore[union-attr]
    assert axes.get_xlabel() == "Optimizer step"
    assert axes.get_xlim() == (0, 240)
    assert "gated 50 %, seed 0: of" in consensus_in_words(results)


def test_architecture_draws_kept_channels_and_crosses_out_removed_layers(tmp_path: Path) -> None:
    run = with_widths(record("gated"), {"conv1": 16, "fc": 10})
    assert run.cost is not None
    run = run.model_copy(
        update={"cost": run.cost.model_copy(update={"widths_dense": {"a": 16, "b": 64}, "widths": {"a": 4, "b": 0}})}
    )
    results = load(store(tmp_path, run))
    (axes,) = final_architecture(results).axes
    heights = [patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)]
    assert heights == pytest.approx([2 * 0.5, 2 * 0.25, 2.0])  # outline a, kept a, outline b: by the square root
    assert [line.get_label() for line in axes.lines] == ["removed"]
    assert [text.get_text() for text in axes.texts] == ["4", "0"]
    assert architecture_in_words(results) == (
        "Kept channels of each layer. gated 50 %, seed 0: removed: b; narrowed: a 4 of 16."
    )


def test_architecture_hatches_what_a_closed_layer_left(tmp_path: Path) -> None:
    dense = {"b0.c1": 16, "b0.c2": 16, "b1.c1": 16, "b1.short": 16}
    run = with_widths(record("gated"), {"conv1": 16, "fc": 10})
    assert run.cost is not None
    kept = {"b0.c1": 16, "b0.c2": 16, "b1.short": 16}  # of b1, which closed too, only the shortcut is there
    run = run.model_copy(
        update={
            "cost": run.cost.model_copy(update={"widths_dense": dense, "widths": kept}),
            "history": {"layers": {"b0": [[0.9], [0.0]], "b1": [[0.9], [0.0]]}},
        }
    )
    results = load(store(tmp_path, run))
    (axes,) = final_architecture(results).axes
    hatched = [round(patch.get_x() + 0.36) for patch in axes.patches if patch.get_hatch()]
    assert hatched == [0, 1]
    assert architecture_in_words(results).endswith("narrowed: none; left thin: b0.c1, b0.c2.")


def test_budget_is_drawn_as_what_was_missed(tmp_path: Path) -> None:
    runs = grid(("dense", "gated"), (0.5,), 2)
    invalid = record("magnitude", valid=False, invalid_reason="kept too much")
    results = load(store(tmp_path, *runs, invalid))
    (axes,) = budget_achieved(results).axes
    kept = results.runs[results.runs["method"] == "gated"]["kept_macs"]
    np.testing.assert_allclose(sorted(_line(axes, "gated").get_ydata()), sorted((kept - 0.5) * 100))
    assert _line(axes, "invalid run").get_marker() == "x"
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).y0 == pytest.approx(-2.0)


def test_saving_is_one_minus_the_ratio(tmp_path: Path) -> None:
    results = load(store(tmp_path, record(), _paid(1000, 0.7, interval=1.1)))
    time, energy = saving_predicted_and_measured(results).axes
    assert _line(time, "gated").get_ydata() == pytest.approx([30.0])
    assert _line(energy, "gated").get_ydata() == pytest.approx([30.0])
    assert _line(time, "as MACs predict").get_xdata() == pytest.approx([0, 100])
    assert "gated 50 %: " in saving_in_words(results)
    assert "30 % of time, 30 % of energy (modelled)" in saving_in_words(results)


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


# Histograms


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
