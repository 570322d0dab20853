"""A run's network as a file: what it computes, and what lies beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from greenprune.bench.cli.main import main
from greenprune.bench.errors import UserError
from greenprune.bench.export.card import Card, Measured, interval, markdown, write_beside
from greenprune.bench.export.files import LARGEST_DIFFERENCE, write
from greenprune.bench.records.score import Score
from torch import nn

from tests.bench.runtimes.test_runtimes import small

PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino"), "pt2": ()}


class Strange(nn.Module):
    """What torch.export cannot follow."""

    def forward(self, x):
        return x if float(x.sum()) > 0 else -x


@pytest.mark.parametrize("to", ["onnx", "openvino", "pt2"])
def test_a_file_computes_what_the_network_computes(tmp_path: Path, to: str) -> None:
    for package in PACKAGES[to]:
        pytest.importorskip(package)
    written = write(small().eval(), torch.randn(4, 3, 8, 8), to, tmp_path, about={"class_names": ["a", "b"]})
    assert written.difference < LARGEST_DIFFERENCE
    assert all(path.stat().st_size > 0 for path in written.files)
    if to == "onnx":
        import onnx

        (entry,) = onnx.load(written.files[0]).metadata_props
        assert (entry.key, json.loads(entry.value)) == ("class_names", ["a", "b"])
    if to == "openvino":
        assert "class_names" in written.files[0].read_text()


def test_int8_has_no_pt2_and_what_cannot_be_followed_is_told(tmp_path: Path) -> None:
    images = torch.randn(4, 3, 8, 8)
    with pytest.raises(UserError, match="--int8: of pt2 there is none; allowed: with --to onnx or --to openvino"):
        write(small(), images, "pt2", tmp_path, calibration=[images])
    with pytest.raises(UserError, match=r"torch\.export cannot follow this network"):
        write(Strange(), images, "pt2", tmp_path)


@pytest.mark.parametrize(
    ("run", "said"),
    [("nowhere", "nowhere: the folder has no record.json; allowed is that of one finished run")],
)
def test_what_is_no_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", run, "--to", "pt2"]) == 2
    assert said in capsys.readouterr().err


CARD = Card(
    name="tiny-gated-0.5-s0", network="resnet20", task="classification", dataset="cifar10", to="onnx", precision="float32",
    macs=50, macs_dense=100, params=60, params_dense=100, input_shape=(3, 32, 32), method="gated",
    budget="0.5 of the dense latency", score=Score(name="accuracy", unit="fraction"), score_value=0.91,
    score_interval=interval(0.91, 10_000), test_images=10_000, machine="a processor, 2 threads",
    measured=(Measured("onnxruntime", "float32", 1, 0.5, 0.52, {"modelled": (1.5, 0.53)}),),
    mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), class_names=("cat", "dog"), difference=1e-6,
)  # fmt: skip


def test_a_card_has_what_the_hub_reads_and_what_people_ask() -> None:
    text = markdown(CARD)
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["pipeline_tag"] == "image-classification"
    assert (about["license"], about["license_name"]) == ("other", "not-stated")
    (result,) = about["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.91}]
    assert result["dataset"]["name"] == "cifar10"
    for told in (
        "91.00%",
        "95 % interval",
        "10,000 images",
        "| onnxruntime | float32 | 1 | 0.5 | 0.520× | 1.5 | 0.530× |",
    ):
        assert told in body
    assert "Modelled joules" in body
    assert "0.500 |" in body


def test_no_text_of_a_stranger_becomes_a_key_or_markup() -> None:
    text = markdown(Card(**{**CARD.__dict__, "dataset": 'x"\nlicense: mit\n<script>', "method": "<img>"}))
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "other"
    assert "<script>" not in body
    assert "<img>" not in body


def test_preprocessing_and_class_names_lie_beside_the_file(tmp_path: Path) -> None:
    card, about = write_beside(CARD, tmp_path)
    assert card.name == "README.md"
    found = json.loads(about.read_text())
    assert (found["mean"], found["class_names"], found["input_shape"]) == ([0.5] * 3, ["cat", "dog"], [3, 32, 32])


@pytest.mark.parametrize(("share", "count", "low", "high"), [(0.5, 100, 0.404, 0.596), (1.0, 50, 0.929, 1.0)])
def test_the_interval_of_a_share_is_wilsons(share: float, count: int, low: float, high: float) -> None:
    assert interval(share, count) == pytest.approx((low, high), abs=1e-3)
