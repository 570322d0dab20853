"""Agreement of gates, and what they leave of the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from greenprune.plots.figures.gates import (
    architecture_in_words,
    consensus_in_words,
    consensus_of,
    final_architecture,
    gate_consensus,
    has_consensus,
)
from greenprune.plots.frame.load import load
from matplotlib.patches import Rectangle

from tests.plots.records import gate_history, record, store, with_widths


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
