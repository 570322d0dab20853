"""In which files networks of several data sets or models are measured, and that a part never takes the place of a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.inference import rounds
from greenprune.bench.inference import together as joint_measure
from greenprune.bench.inference.together import measure
from greenprune.bench.records.joint import JOINT_FILE, joint_file, joint_files, read_joint
from greenprune.bench.records.record import MODEL_FILE
from greenprune.bench.run.side_by_side import is_due

from tests.bench.inference.joint import SETTINGS, add, job, silent

OTHER = {**SETTINGS, "model": "other_networks:net"}
NAMES = ["inference-digits-joint_networks-net.json", "inference-digits-other_networks-net.json"]


def add_others(suite: Path) -> None:
    for key, width in (("other-dense-1-s0", 8), ("other-gated-0.5-s0", 4)):
        add(suite, key, width, settings=OTHER)


def interrupted_at_the_second_size(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repeat_rounds = rounds.repeat_rounds
    calls: list[int] = []

    def interrupted(*arguments, **options):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return repeat_rounds(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "repeat_rounds", interrupted)
        assert joint_measure.main([job(suite, seconds=0.02).model_dump_json()]) == 130


def test_a_part_does_not_delete_a_whole_of_another_name(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = measure(job(suite, seconds=0.02), silent)
    add_others(suite)
    assert is_due(suite)
    interrupted_at_the_second_size(suite, monkeypatch)
    assert [path.name for path in joint_files(suite)] == [JOINT_FILE]
    assert read_joint(suite) == whole
    assert is_due(suite)


def test_a_part_replaces_a_part_of_another_name(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_at_the_second_size(suite, monkeypatch)
    assert [path.name for path in joint_files(suite)] == [JOINT_FILE]
    add_others(suite)
    interrupted_at_the_second_size(suite, monkeypatch)
    assert [path.name for path in joint_files(suite)] == NAMES[:1]


def test_a_measurement_of_one_seed_has_the_file_of_its_networks(suite: Path) -> None:
    add_others(suite)
    _, other = measure(job(suite, batch_sizes=(4,), seconds=0.02), silent)
    for key, width in (("dense-1-s1", 32), ("gated-0.5-s1", 4)):
        add(suite, key, width)
    (found,) = measure(job(suite, batch_sizes=(4,), seconds=0.02, seeds=(1,)), silent)
    assert [path.name for path in joint_files(suite)] == NAMES
    assert [read_joint(suite, name) for name in NAMES] == [found, other]


def test_a_dense_network_that_cannot_be_loaded_does_not_make_the_others_due(suite: Path) -> None:
    add_others(suite)
    path = suite / "other-dense-1-s0" / MODEL_FILE
    path.write_bytes(path.read_bytes()[:-100])
    (found,) = measure(job(suite, batch_sizes=(4,), seconds=0.02), silent)
    assert {entry.key for entry in found.left_out} == {"other-dense-1-s0", "other-gated-0.5-s0"}
    assert not is_due(suite)
    add(suite, "other-dense-1-s0", 8, settings=OTHER, finished_at="2999-01-01T00:00:00+00:00")
    assert is_due(suite)


def test_a_name_that_no_file_could_have_is_shortened(tmp_path: Path) -> None:
    assert joint_file("digits", "joint_networks:net", alone=False) == NAMES[0]
    names = {joint_file("digits", f"hf/{'a/' * 130}{last}", alone=False) for last in ("b", "é" * 60, "c")}
    assert len(names) == 3
    for name in names:
        (tmp_path / f".{name}.12345678.tmp").touch()  # as it is called while it is written
    assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"] * 3
    for name in names:
        (tmp_path / name).touch()
    assert {path.name for path in joint_files(tmp_path)} == names
