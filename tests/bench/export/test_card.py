"""What the card of a run's network says, and that it is so."""

from __future__ import annotations

from typing import Any

import pytest
from greenprune.bench.errors import UserError
from greenprune.bench.export.card import Card, card_of
from greenprune.bench.export.markdown import markdown
from greenprune.bench.export.run import _data, _int8_score
from greenprune.bench.records.cost import Calibration, SampleMacs
from greenprune.bench.records.inference import Served
from greenprune.bench.records.record import Record

from tests.plots.records import record

CALIBRATION = Calibration(
    unit="s", runtime="onnxruntime", device="cpu", threads=2, dtype="float32", memory_format="contiguous", batch_size=64,
    torch_version="2.9", rounds=3, points=9, duration_s=1.0, whole=1.0, layers_sum=1.0, scale=1.0, unexplained=0.0,
)  # fmt: skip
SAMPLES = SampleMacs(images=9, mean=0.5, std=0.1, low=0.3, high=0.6, edges=(0.0, 1.0), counts=(9,))


def with_cost(method: str, **changes: Any) -> Record:
    made = record(method)
    assert made.cost is not None
    return made.model_copy(update={"cost": made.cost.model_copy(update=changes)})


def card(made: Record, **more: Any) -> Card:
    return card_of(made, to="onnx", precision="float32", input_shape=(3, 32, 32), **more)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Budget: at most 0.5 of the dense network's MACs."),
        ({"kind": "params"}, "Budget: at most 0.5 of the dense network's parameters."),
        ({"sample_macs": SAMPLES}, "Budget: at most 0.5 of the dense network's MACs on average over test images."),
        (
            {"kind": "latency", "calibration": CALIBRATION},
            "Budget: 0.5 of the dense network's time of inference, within 0.45 to 0.55, at batch size 64 in onnxruntime.",
        ),
        (
            {
                "kind": "energy",
                "calibration": CALIBRATION.model_copy(update={"runtime": "eager", "energy_kind": "modelled"}),
            },
            "0.5 of the dense network's modelled energy of inference, within 0.45 to 0.55, at batch size 64 in eager PyTorch.",
        ),
    ],
)
def test_a_budget_is_said_in_what_it_counts_and_where_it_was_measured(changes: dict[str, Any], said: str) -> None:
    assert said in markdown(card(with_cost("gated", **changes)))


def test_a_method_that_leaves_the_macs_is_named_and_its_connections_are_counted() -> None:
    made = record().cost
    assert made is not None
    text = markdown(
        card(with_cost("magnitude_unstructured", macs=made.macs_dense, connections=500, connections_dense=1000))
    )
    assert r"pruned with magnitude_unstructured" in text
    assert "| connections (weights that are not 0) | 500 | 1,000 | 0.500 |" in text
    assert "Budget: at most 0.5 of the dense network's connections." in text


def test_nothing_pruned_the_dense_network() -> None:
    text = markdown(card(record("dense")))
    assert "pruned with" not in text
    assert "Budget" not in text


def test_an_invalid_run_says_why() -> None:
    reason = "kept 0.6100 of the dense MACs, outside [0.48, 0.5]"
    text = markdown(card(record("gated", valid=False, invalid_reason=reason)))
    assert "**The run is not valid:** kept 0.6100 of the dense MACs, outside" in text
    assert "not valid" not in markdown(card(record("gated")))


@pytest.mark.parametrize(("dynamic", "shape"), [(True, "(batch, 3, 32, 32)"), (False, "(1, 3, 32, 32)")])
def test_the_shape_of_a_batch_is_that_of_the_file(dynamic: bool, shape: str) -> None:
    text = markdown(card(record("gated"), dynamic=dynamic))
    assert f"of the shape {shape}," in text
    assert ("one image at a time" in text) is not dynamic


def test_the_score_of_8_bit_integers_is_that_of_the_formats_own_runtime() -> None:
    served = tuple(
        Served(runtime=name, precision=precision, test_score=score)
        for name, precision, score in (
            ("onnxruntime", "float32", 0.9),
            ("onnxruntime", "int8", 0.7),
            ("openvino", "int8", 0.8),
        )
    )
    made = record("gated", served=served)
    assert (_int8_score(made, "onnx"), _int8_score(made, "openvino")) == (0.7, 0.8)
    assert _int8_score(record("gated", served=served[:2]), "openvino") is None


def test_images_of_another_version_are_no_reason_not_to_export() -> None:
    made = record("gated", settings={"dataset": "own", "model": "net", "data": {"folder": "own", "of_tomorrow": 1}})
    assert _data(made, None, needed=False, trust=False) is None
    with pytest.raises(UserError, match="what its settings say of its images cannot be used"):
        _data(made, None, needed=True, trust=False)
