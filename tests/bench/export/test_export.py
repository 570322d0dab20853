"""A run's network as a file: what it computes, and what lies beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from greenprune.bench.cli.main import main
from greenprune.bench.errors import UserError
from greenprune.bench.export import files, run
from greenprune.bench.export.card import Card, Measured, interval
from greenprune.bench.export.check import LARGEST_DIFFERENCE, Written, difference
from greenprune.bench.export.files import write
from greenprune.bench.export.markdown import markdown, write_beside
from greenprune.bench.export.source import write_source
from greenprune.bench.records.score import Score
from torch import Tensor, nn
from torch.nn import functional as F

from tests.bench.runtimes.test_runtimes import small

PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino"), "pt2": ()}


class Strange(nn.Module):
    """What torch.export cannot follow."""

    def forward(self, x):
        return x if float(x.sum()) > 0 else -x


class Fixed(nn.Module):
    """What torch.export can follow at one batch size alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 5)

    def forward(self, x):
        return self.layer(x.view(int(x.size(0)), -1))


class Double(nn.Module):
    """What ONNX Runtime has no kernel for."""

    def forward(self, x):
        return F.gelu(x.double()).float().mean((2, 3))


@pytest.mark.parametrize("to", ["onnx", "openvino", "pt2"])
def test_a_file_computes_what_the_network_computes(tmp_path: Path, to: str) -> None:
    for package in PACKAGES[to]:
        pytest.importorskip(package)
    written = write(small().eval(), torch.randn(4, 3, 8, 8), to, tmp_path, about={"class_names": ["a", "b"]})
    assert written.difference < LARGEST_DIFFERENCE
    assert written.dynamic
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written.files}
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


@pytest.mark.parametrize("to", ["onnx", "openvino", "pt2"])
def test_a_network_of_one_batch_size_is_exported_for_single_images(tmp_path: Path, to: str) -> None:
    for package in PACKAGES[to]:
        pytest.importorskip(package)
    network, images = Fixed().eval(), torch.randn(4, 3, 8, 8)
    written = write(network, images, to, tmp_path)
    assert not written.dynamic
    assert written.difference < LARGEST_DIFFERENCE
    if to == "pt2":
        found = torch.export.load(written.files[0]).module()(images[3:])
        assert torch.allclose(found, network(images[3:]), atol=1e-5)


def test_int8_of_a_network_of_one_batch_size_is_calibrated_image_by_image(tmp_path: Path) -> None:
    for package in PACKAGES["onnx"]:
        pytest.importorskip(package)
    images = torch.randn(4, 3, 8, 8)
    assert write(Fixed().eval(), images, "onnx", tmp_path, calibration=[images]).difference < 0.2


def test_a_file_is_compared_at_a_second_batch_size() -> None:
    network, images = small().eval(), torch.randn(4, 3, 8, 8)

    def wrong_for_one(batch: Tensor) -> Tensor:
        return network(batch) * (2 if len(batch) == 1 else 1)

    assert difference(wrong_for_one, network, images, dynamic=True) > LARGEST_DIFFERENCE
    assert difference(network, network, images, dynamic=True) == 0


def test_results_of_another_shape_are_others_though_they_could_be_broadcast() -> None:
    network, images = small().eval(), torch.randn(4, 3, 8, 8)
    with pytest.raises(UserError, match=r"gives results of the shape \(4, 1\), and eager PyTorch of \(4, 5\)"):
        difference(lambda batch: network(batch)[:, :1], network, images, dynamic=True)


class Several(nn.Module):
    """Returns its features, too."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.first, self.conv, self.layer = first, nn.Conv2d(3, 6, 3), nn.Linear(6, 5)
        self.register_buffer("scale", torch.full((6,), 2.0))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.conv(x).mean((2, 3)) * self.scale
        found = {"features": features, "logits": self.layer(features)}
        return {self.first: found[self.first], **found}


@pytest.mark.parametrize("first", ["features", "logits"])
def test_the_source_of_a_network_with_several_outputs_returns_its_logits(tmp_path: Path, first: str) -> None:
    network, images = Several(first).eval(), torch.randn(4, 3, 8, 8)
    written = write_source(network, images, tmp_path, {})
    assert written.dynamic
    assert written.difference < LARGEST_DIFFERENCE
    scope: dict[str, Any] = {"__name__": "network", "__file__": str(tmp_path / "network.py")}
    exec(compile((tmp_path / "network.py").read_text(), "network.py", "exec"), scope)
    made = scope["load"]()
    found = made(images)
    assert isinstance(found, Tensor)
    assert torch.allclose(found, network(images)["logits"], atol=1e-5)
    assert made.state_dict().keys() == network.state_dict().keys()
    assert {name for name, _ in made.named_parameters()} == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("to", ["onnx", "openvino", "pt2"])
def test_of_several_outputs_the_logits_are_compared_and_of_other_formats_they_alone_are_written(
    tmp_path: Path, to: str
) -> None:
    for package in PACKAGES[to]:
        pytest.importorskip(package)
    network, images = Several("features").eval(), torch.randn(4, 3, 8, 8)
    written = write(network, images, to, tmp_path)
    assert written.difference < LARGEST_DIFFERENCE
    if to == "onnx":
        import onnx

        assert [output.name for output in onnx.load(written.files[0]).graph.output] == ["logits"]
    if to == "pt2":
        found = torch.export.load(written.files[0]).module()(images)
        assert torch.allclose(found["logits"], network(images)["logits"], atol=1e-5)


def test_whatever_a_runtime_raises_is_one_sentence_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*arguments: object) -> None:
        raise RuntimeError("NOT_IMPLEMENTED: Gelu(20)")

    monkeypatch.setitem(files.READERS, "pt2", "the runtime")
    for at_once in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(torch.export, "load", raises if at_once else lambda path: nn.Module())
            with pytest.raises(UserError, match="the runtime does not take this network"):
                write(small(), torch.randn(4, 3, 8, 8), "pt2", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_onnx_runtime_has_no_kernel_for_is_told(tmp_path: Path) -> None:
    for package in PACKAGES["onnx"]:
        pytest.importorskip(package)
    with pytest.raises(UserError, match=r"ONNX Runtime does not take this network .*NOT_IMPLEMENTED"):
        write(Double(), torch.randn(4, 3, 8, 8), "onnx", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_user_are_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# Mine, pruned with greenprune\n")
    words = ["export", "nowhere", "--to", "pt2", "--out", "mine"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "--out mine: holds README.md, which greenprune export would write over; allowed: another folder" in said
    write_beside(Card(**{**CARD.__dict__, "licence": "mit"}), tmp_path / "mine")
    (tmp_path / "mine" / "model.pt2").touch()
    assert main(words) == 2
    assert "nowhere: the folder has no record.json" in capsys.readouterr().err


def test_the_command_says_what_is_not_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "export_run", lambda *arguments, **options: Written((tmp_path / "m.onnx",), None, False))
    assert main(["export", str(tmp_path), "--to", "onnx"]) == 0
    said = capsys.readouterr().out
    assert "outputs were not compared with eager PyTorch" in said
    assert "it takes one image at a time" in said


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
