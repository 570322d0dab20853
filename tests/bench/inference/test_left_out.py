"""What cannot be measured together: left out by name where the rest can be, else one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from greenprune.bench.data.content import file_hash
from greenprune.bench.errors import UserError
from greenprune.bench.inference import candidates, rounds
from greenprune.bench.inference import together as joint_measure
from greenprune.bench.inference.asked import JointSettings
from greenprune.bench.inference.together import measure
from greenprune.bench.records.folder import locked
from greenprune.bench.records.joint import JOINT_FILE
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import MODEL_FILE, write_record
from greenprune.bench.records.store import save_model
from torch import nn

from tests.bench.inference.joint import SETTINGS, add, job, silent
from tests.plots.records import record


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def other_width(path: Path) -> None:
    """A network that is not the one of the record."""
    import joint_networks

    save_model(joint_networks.net(10, 6), path.parent, name=str(SETTINGS["model"]), classes=10, input_shape=(3, 32, 32))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (Path.unlink, "there is no stored network"),
        (truncate, "is not the file that was stored"),
        (lambda path: path.write_bytes(b"x" * 2000), "is not the file that was stored"),
        (other_width, "is not the file that was stored"),
    ],
)
def test_a_network_that_cannot_be_loaded_is_left_out_and_named(
    suite: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(suite / "gated-0.5-s0" / MODEL_FILE)
    (found,) = measure(job(suite), silent)
    (entry,) = found.left_out
    assert entry.key == "gated-0.5-s0"
    assert reason in entry.reason
    assert "\n" not in entry.reason
    assert [network.key for network in found.networks] == ["dense-1-s0", "magnitude-0.5-s0"]
    assert all(len(network.inference) == 2 for network in found.networks)


@pytest.mark.parametrize("data", [{"of_tomorrow": 1}, {"mean": [0.5, 0.5, 0.5]}, 3])
def test_images_that_a_record_tells_of_otherwise_are_one_sentence(data: object, tmp_path: Path) -> None:
    made = record("dense", settings={**SETTINGS, "data": data})
    with pytest.raises(UserError, match=r"its settings have no usable (data|of_tomorrow) \(.*\); run it again"):
        JointSettings.of(made, job(tmp_path), tmp_path)


def test_a_record_that_cannot_be_read_and_one_of_another_network_are_left_out(suite: Path) -> None:
    (suite / "gated-0.5-s0" / "record.json").write_text("{")
    add(suite, "slimming-0.5-s0", 8, settings={**SETTINGS, "model": "resnet20"})
    (found,) = measure(job(suite), silent)
    reasons = {entry.key: entry.reason for entry in found.left_out}
    assert "JSON is broken" in reasons["gated-0.5-s0"]
    assert "its model is resnet20, of which there is no dense network" in reasons["slimming-0.5-s0"]
    assert len(found.networks) == 2


def other_macs(path: Path) -> None:
    """A network of fewer MACs than its record says, stored as the record's own."""
    other_width(path)
    stored = read_record(path.parent / "record.json")
    write_record(stored.model_copy(update={"files": {path.name: file_hash(path)}}), path.parent)


@pytest.mark.parametrize("spoil", [Path.unlink, other_width, other_macs])
def test_another_dense_seed_stands_in_where_the_first_has_no_network_of_its_own(
    suite: Path, spoil: Callable[[Path], object]
) -> None:
    add(suite, "dense-1-s1", 32)
    spoil(suite / "dense-1-s0" / MODEL_FILE)
    (found,) = measure(job(suite, batch_sizes=(4,)), silent)
    assert found.reference == "dense-1-s1"


def no_dense_network(folder: Path) -> None:
    (folder / "dense-1-s0" / MODEL_FILE).unlink()


def no_dense_run(folder: Path) -> None:
    (folder / "dense-1-s0" / "record.json").unlink()


def no_runs(folder: Path) -> None:
    for path in folder.glob("*/record.json"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_dense_network, "there is no dense network to compare with"),
        (no_dense_run, "no dense run is finished"),
        (no_runs, "holds no finished run"),
    ],
)
def test_without_anything_to_compare_it_is_one_sentence_and_exit_code_2(
    suite: Path, capsys, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(suite)
    assert joint_measure.main([job(suite).model_dump_json()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"greenprune: {suite}: ")
    assert sentence in line
    assert not (suite / JOINT_FILE).exists()


def test_a_seed_that_is_not_there_and_a_folder_in_use_are_refused(suite: Path) -> None:
    with pytest.raises(UserError, match=r"--seeds 7: .* allowed: 0"):
        measure(job(suite, seeds=(7,)), silent)
    with locked(suite), pytest.raises(UserError, match="another greenprune"):
        measure(job(suite), silent)
    with pytest.raises(UserError, match="no such results folder"):
        measure(job(suite / "nowhere"), silent)


class OneByOne(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):  # type: ignore[no-untyped-def]
        if len(x) > 2:
            raise RuntimeError("too many images")
        return self.inner(x)


def few_images_for(method: str, patch: pytest.MonkeyPatch) -> None:
    """Networks of `method` run with one or two images alone."""
    load_model = candidates.load_model

    def loaded(folder: Path, **options: object) -> nn.Module:
        model = load_model(folder, **options)
        return OneByOne(model) if folder.name.startswith(method) else model

    patch.setattr(candidates, "load_model", loaded)


def test_a_dense_network_that_does_not_run_and_a_batch_that_cannot_be_made_are_one_sentence(
    suite: Path, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        few_images_for("dense", patch)
        with pytest.raises(UserError, match=r"the dense network does not run at batch size 4 \(RuntimeError: too many"):
            measure(job(suite), silent)

    def no_memory(*arguments: object) -> None:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(rounds, "batch_of", no_memory)
    with pytest.raises(UserError, match=r"there is no batch of 4 images \(RuntimeError: can't allocate memory\)"):
        measure(job(suite, batch_sizes=(4,)), silent)


def test_a_network_that_does_not_run_is_named_and_the_others_are_measured(suite: Path, monkeypatch) -> None:
    few_images_for("gated", monkeypatch)
    (found,) = measure(job(suite), silent)
    (entry,) = found.failed
    assert entry.key == "gated-0.5-s0"
    assert "does not run at batch size 4 (RuntimeError: too many images)" in entry.reason
    assert {network.key: len(network.inference) for network in found.networks} == {
        "dense-1-s0": 2, "gated-0.5-s0": 1, "magnitude-0.5-s0": 2
    }  # fmt: skip
