"""What cannot be measured together: left out by name where the rest can be, else one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from greenprune.bench import terminal
from greenprune.bench.cli.measure import show
from greenprune.bench.data.content import file_hash
from greenprune.bench.errors import UserError
from greenprune.bench.inference import candidates, rounds
from greenprune.bench.inference import together as joint_measure
from greenprune.bench.inference.asked import JointSettings
from greenprune.bench.inference.together import measure
from greenprune.bench.records.folder import locked
from greenprune.bench.records.joint import JOINT_FILE, read_joint
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import MODEL_FILE, write_record
from greenprune.bench.records.store import save_model
from greenprune.bench.run.side_by_side import is_due
from torch import nn

from tests.bench.inference.joint import SETTINGS, add, job, silent
from tests.bench.runtimes.test_runtimes import NoFour
from tests.plots.records import record

NO_FOUR = f"{NoFour.__module__}:{NoFour.__name__}"


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


@pytest.mark.parametrize(
    ("few", "said"),
    [
        ("dense", "the dense network does not run at batch size 4 (RuntimeError: too many images)"),
        (
            "",
            "no network runs at batch size 4; the first: dense-1-s0: does not run at batch size 4 (RuntimeError: too many",
        ),
    ],
)
def test_a_batch_size_that_eager_pytorch_does_not_run_costs_its_own_figures_alone(
    suite: Path, monkeypatch, capsys, few: str, said: str
) -> None:
    """Nor is it due again, and whoever asked is told."""
    few_images_for(few, monkeypatch)
    lines: list[str] = []
    (found,) = measure(job(suite, batch_sizes=(4, 1, 2), seconds=0.02, runtimes=("eager", NO_FOUR)), lines.append)
    assert found.complete
    assert read_joint(suite) == found
    assert not is_due(suite)
    for network in found.networks:
        assert [i.batch_size for i in network.inference] == [1, 2]
    (entry,) = found.failed
    assert entry.key == "dense-1-s0"
    assert entry.reason.startswith(f"nothing was measured: {said}")
    assert any(line.startswith(said) for line in lines)
    show(found, terminal.console())
    assert f"left out: dense-1-s0: nothing was measured: {said}" in capsys.readouterr().out
    assert {n.served[0].runtime for n in found.networks} == {NO_FOUR}


def test_a_network_that_fails_while_it_is_measured_costs_that_batch_size_alone(suite: Path, monkeypatch) -> None:
    repeat_rounds = rounds.repeat_rounds
    calls: list[int] = []

    def no_memory(*arguments, **options):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return repeat_rounds(*arguments, **options)

    monkeypatch.setattr(rounds, "repeat_rounds", no_memory)
    (found,) = measure(job(suite, seconds=0.02), silent)
    assert "no longer does at batch size 1 (RuntimeError: out of memory)" in found.failed[0].reason
    assert {i.batch_size for network in found.networks for i in network.inference} == {4}


def test_where_nothing_can_be_measured_it_is_one_sentence_and_exit_code_2(suite: Path, monkeypatch, capsys) -> None:
    def no_memory(*arguments: object) -> None:
        raise RuntimeError("can't allocate memory")

    (whole,) = measure(job(suite, batch_sizes=(4,)), silent)
    monkeypatch.setattr(rounds, "batch_of", no_memory)
    assert joint_measure.main([job(suite, batch_sizes=(4,)).model_dump_json()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    said = "there is no batch of 4 images (RuntimeError: can't allocate memory)"
    assert line == f"greenprune: {suite}: nothing was measured: {said}"
    assert read_joint(suite) == whole


def test_networks_of_which_nothing_can_be_measured_do_not_keep_the_others_due(suite: Path, monkeypatch) -> None:
    other = {**SETTINGS, "model": "other_networks:net"}
    for key, width in (("other-dense-1-s0", 8), ("other-gated-0.5-s0", 4)):
        add(suite, key, width, settings=other)
    few_images_for("dense", monkeypatch)
    first, second = measure(job(suite, batch_sizes=(4,), seconds=0.02), silent)
    assert all(not network.inference for network in first.networks)
    assert all(network.inference for network in second.networks)
    assert not is_due(suite)


@pytest.mark.parametrize("key", ["dense-1-s0", "gated-0.5-s0"])
def test_whatever_a_network_raises_while_it_is_looked_at_it_is_left_out(suite: Path, monkeypatch, key: str) -> None:
    class Broken(nn.Module):
        def forward(self, x):  # type: ignore[no-untyped-def]
            raise KeyError("mask")

    load_model = candidates.load_model
    monkeypatch.setattr(
        candidates, "load_model", lambda path, **how: Broken() if path.name == key else load_model(path, **how)
    )
    add(suite, "dense-1-s1", 32)
    (found,) = measure(job(suite, batch_sizes=(4,), seconds=0.02), silent)
    (entry,) = found.left_out
    assert entry.key == key
    assert entry.reason == f"{suite / key}: its stored network does not run (KeyError: 'mask')"
    assert found.reference == ("dense-1-s1" if key == "dense-1-s0" else "dense-1-s0")


def test_a_network_that_does_not_run_is_named_and_the_others_are_measured(suite: Path, monkeypatch) -> None:
    few_images_for("gated", monkeypatch)
    (found,) = measure(job(suite), silent)
    (entry,) = found.failed
    assert entry.key == "gated-0.5-s0"
    assert "does not run at batch size 4 (RuntimeError: too many images)" in entry.reason
    assert {network.key: len(network.inference) for network in found.networks} == {
        "dense-1-s0": 2, "gated-0.5-s0": 1, "magnitude-0.5-s0": 2
    }  # fmt: skip
