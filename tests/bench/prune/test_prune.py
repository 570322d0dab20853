"""`greenprune prune` from a folder of pictures to files that need nothing of greenprune."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main

from tests.bench.prune.conftest import NETWORK


@pytest.fixture(scope="module")
def made(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `greenprune prune` leaves."""
    place = tmp_path_factory.mktemp("prune")
    (place / "prune_networks.py").write_text(NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("OMP_NUM_THREADS", "1")
        assert main(_words(pictures)) == 0
    return place / "small"


def _words(pictures: Path, *more: str) -> list[str]:
    return [
        "prune", "prune_networks:tiny", "--data", str(pictures), "--image-size", "16", "--method", "uniform", "--epochs", "2",
        "--batch-size", "8", "--set", "measurement.inference_seconds=0.05", "--set", "tolerance=0.2",
        "--set", "measurement.inference_batch_sizes=[1]", "--device", "cpu", "--out", "small", *more,
    ]  # fmt: skip


def test_what_serves_the_network_lies_there(made: Path) -> None:
    names = {path.name for path in made.iterdir()}
    assert {"network.py", "model.safetensors", "model.pt2", "model.onnx", "report.html", "prune.toml", "runs"} <= names
    assert {path.name for path in (made / "runs").iterdir() if path.is_dir()} >= {"dense-1-s0", "uniform-0.5-s0"}


def test_the_source_needs_nothing_of_greenprune(made: Path, pictures: Path) -> None:
    """In a process that cannot import it: a bright picture is told from a dark one, as the metadata name them."""
    script = f"""
import sys
sys.modules["greenprune"] = None
sys.path.insert(0, {str(made)!r})
import json, torch, network
from PIL import Image
net, said = network.load(), network.about()
told = []
for name in said["class_names"]:
    images = [network.preprocess(Image.open(f"{pictures}/{{name}}/{{i}}.png")) for i in range(30)]
    told += [(name, said["class_names"][k]) for k in net(torch.stack(images)).argmax(1).tolist()]
print(json.dumps({{"right": sum(a == b for a, b in told), "said": said, "shape": list(images[0].shape)}}))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["said"]["class_names"] == ["bright", "dark"]
    assert told["said"]["preprocessing"]["image_size"] == 16
    assert told["shape"] == [3, 16, 16]
    expected = told["said"]["test_score"]
    assert told["right"] / 60 == pytest.approx(expected, abs=0.25)  # of all pictures, and of the test pictures alone


def test_again_it_trains_nothing_and_says_the_same(
    made: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made.parent)
    records = {path: path.stat().st_mtime_ns for path in made.glob("runs/*/record.json")}
    assert main(_words(pictures)) == 0
    assert {path: path.stat().st_mtime_ns for path in records} == records
    said = capsys.readouterr().out
    for part in ("unpruned", "uniform", "million MACs", "ms, batch 1", "modelled", "model.pt2"):
        assert part in said


def test_other_options_do_not_mix(
    made: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made.parent)
    assert main(_words(pictures, "--keep", "0.4")) == 2
    said = capsys.readouterr().err
    assert "small: holds what greenprune prune made with other options" in said
    assert "Traceback" not in said


def test_a_call_that_was_refused_can_be_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["prune", "resnet20", "--data", "digits", "--device", "cpu", "--out", "small", "--batch-size"]
    for size in ("5000", "6000"):
        assert main([*words, size]) == 2
        assert f"batch_size = {size}: is more than" in capsys.readouterr().err
    (tmp_path / "small" / "prune.toml").write_text('name = "mine"')
    assert main([*words, "5000"]) == 2
    assert "made with other options" in capsys.readouterr().err


def test_a_suite_file_that_cannot_be_written_whole_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr("greenprune.bench.cli.run.run_suite", lambda *_, **__: pytest.fail("a run was begun"))
    assert main(["prune", "resnet20", "--data", "digits", "--device", "cpu", "--out", "small"]) == 2
    assert "small/prune.toml: there is no space left on the disk" in capsys.readouterr().err
    assert list((tmp_path / "small").iterdir()) == []


@pytest.mark.parametrize("name", ["network.py", "model.safetensors", "README.md", "runs"])
def test_files_of_the_user_are_not_written_over(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("mine")
    assert main(["prune", "resnet20", "--data", "digits", "--out", "."]) == 2
    said = capsys.readouterr().err
    assert f"--out .: holds {name}, which greenprune prune would write over; allowed: another folder" in said
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_what_is_made_does_not_lie_among_the_pictures(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next start would take it for a class."""
    monkeypatch.chdir(pictures)
    there = sorted(pictures.iterdir())
    assert main(["prune", "resnet20", "--data", ".", "--out", "small"]) == 2
    assert f"--out small: lies in the folder of the images, {pictures.resolve()}; allowed: a folder outside of it" in (
        capsys.readouterr().err
    )
    assert sorted(pictures.iterdir()) == there


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["resnet21", "--data", "digits"], 'MODEL resnet21: model = "resnet21" is unknown'),
        (["resnet20", "--data", "digitz"], "--data digitz: is no folder and no data set; allowed"),
        (["resnet20", "--data", "digits", "--keep", "1.5"], "--keep 1.5: budgets[0] = 1.5"),
        (["resnet20", "--data", "digits", "--method", "gatd"], 'greenprune prune: methods[1].name = "gatd"'),
        (["resnet20", "--data", "digits", "--method", "dense"], "--method dense: prunes nothing"),
        (["resnet20", "--data", "digits", "--epochs", "0"], "greenprune prune: training.epochs = 0"),
        (["resnet20", "--data", "digits", "--cost", "watts"], '--cost watts: cost = "watts"'),
        (["resnet20", "--data", "digits", "--weights", "no.safetensors"], "--weights no.safetensors"),
        (
            ["resnet20", "--data", "digits", "--set", "budgets=[0.3]"],
            "--set budgets=[0.3]: --keep 0.5 sets budgets too",
        ),
        (["resnet20", "--data", "digits", "--task", "classificaton"], "--task classificaton"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_made(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prune", *words, "--out", "small"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert not (tmp_path / "small").exists()
