"""Checkpoints on disk: whole or not at all, nothing but data, and none of another training. What was lost is known."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from greenprune.bench.energy import Reading
from greenprune.bench.energy.reading import SourceReading
from greenprune.bench.training import checkpoint, keeper
from greenprune.bench.training.checkpoint import BadCheckpointError, newest, read, write
from greenprune.bench.training.files import CHECKPOINT_FILE, PREVIOUS_FILE, SPENT_FILE, clear
from greenprune.bench.training.keeper import StoppedError
from greenprune.bench.training.spent import Spent, SpentLog
from greenprune.methods.dense import Dense
from greenprune.methods.structure.plain import StateError
from torch import Tensor, nn

from tests.bench.training.test_loop import BATCH_SIZE
from tests.bench.training.test_resume import entries, run, same

THESE = {"settings": "these", "code": "this"}


def state(number: int = 1, **others: Any) -> dict[str, Any]:
    return {"identity": THESE, "number": number, "values": torch.arange(4.0), **others}


# Files


def test_what_is_written_is_read_and_the_one_before_is_kept(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path, state(number, pair=(1, "two"), flag=None))
    found, said = newest(tmp_path, THESE)
    assert [each["number"] for each in found] == [3, 2]
    assert torch.equal(found[0]["values"], torch.arange(4.0))
    assert (found[0]["pair"], found[0]["flag"], said) == ((1, "two"), None, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS_FILE, CHECKPOINT_FILE]
    clear(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:], lambda b: b""]
)
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path: Path, damage: Any) -> None:
    for number in (1, 2):
        write(tmp_path, state(number))
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(damage(path.read_bytes()))
    found, (said,) = newest(tmp_path, THESE)
    assert [each["number"] for each in found] == [1]
    assert said.startswith("checkpoint.pt is not used: ")


def test_between_the_two_renames_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, state(1))
    replace, calls = os.replace, []

    def killed(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, state(2))
    found, _ = newest(tmp_path, THESE)
    assert [each["number"] for each in found] == [1]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, state(1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, state(2))
    assert newest(tmp_path, THESE)[0][0]["number"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


class Harmful:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_one_that_holds_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(state() | {"values": Harmful(tmp_path / "harmed")}, buffer)
    content = buffer.getvalue()
    import hashlib

    digest = hashlib.sha256(content).hexdigest().encode()
    (tmp_path / CHECKPOINT_FILE).write_bytes(checkpoint.MAGIC + digest + b"\n" + content)
    with pytest.raises(BadCheckpointError, match="more than data"):
        read(tmp_path / CHECKPOINT_FILE)
    assert not (tmp_path / "harmed").exists()


def test_what_is_no_data_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"its method\.helper \(PosixPath\) is no plain data"):
        write(tmp_path, state(method={"helper": tmp_path}))


def test_one_of_another_training_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, state())
    found, said = newest(tmp_path, THESE | {"code": "other"})
    assert (found, said) == ([], ["checkpoint.pt is not used: it was made with other code"])


def test_numbers_and_texts_of_other_classes_are_stored_as_what_they_are(tmp_path: Path) -> None:
    write(tmp_path, state(version=torch.__version__, share=np.float64(0.5), size=torch.zeros(2, 3).shape))
    stored = read(tmp_path / CHECKPOINT_FILE)
    assert [type(stored[name]) for name in ("version", "share", "size")] == [str, float, tuple]
    assert stored["share"] == 0.5


def test_a_slice_is_stored_without_the_rest(tmp_path: Path) -> None:
    write(tmp_path, state(values=torch.zeros(10**6)[:2]))
    assert (tmp_path / CHECKPOINT_FILE).stat().st_size < 10**5


# What was spent


def spent(attempt: int, after: int, samples: int, part: str = "training") -> Spent:
    source = SourceReading(name="cpu", kind="modelled", energy_j=float(samples), low_j=0.0, high_j=2.0 * samples)
    reading = Reading(name="training", duration_s=1.0, sources=(source,))
    return Spent(
        attempt=attempt, after=after, part=part, samples=samples, forward_macs=0, duration_s=1.0, reading=reading
    )


def test_what_no_checkpoint_holds_is_lost_once(tmp_path: Path) -> None:
    log = SpentLog(tmp_path, THESE, "first")
    for each in (spent(1, 0, 5), spent(1, 0, 8), spent(1, 1, 2), spent(1, 1, 3)):
        log.note(each)
    log.shorten()
    second = SpentLog(tmp_path, THESE, "second")
    assert (second.attempt, second.first_started_at) == (2, "first")
    assert [each.samples for each in second.lost(1)] == [3]
    assert sorted(each.samples for each in second.lost(0)) == [3, 8]  # both checkpoints were damaged
    second.note(spent(2, 1, 1, part="prepare"))
    second.note(spent(2, 1, 4))
    with (tmp_path / SPENT_FILE).open("a") as file:
        file.write('{"attempt": 2, "after": 1, "samp')  # killed while it wrote
    third = SpentLog(tmp_path, THESE, "third")
    assert sorted(each.samples for each in third.lost(1)) == [1, 3, 4]
    assert third.last_checkpoint == 1


def test_what_another_training_spent_is_forgotten(tmp_path: Path) -> None:
    SpentLog(tmp_path, THESE, "first").note(spent(1, 0, 5))
    log = SpentLog(tmp_path, {"settings": "others"}, "second")
    assert (log.attempt, log.lost(0)) == (1, [])


def test_of_one_that_does_not_fit_nothing_is_counted(tmp_path: Path) -> None:
    log = SpentLog(tmp_path, THESE, "first")
    for each in (spent(1, 0, 5), spent(1, 3, 2)):
        log.note(each)
    kept = keeper.Keeper(tmp_path, THESE, interval_s=1e9, started_at="second")
    assert [each.samples for each in kept.goes_on_from({"number": 3, "checkpoints": 3, "checkpoint_s": 1.5})] == [2]
    assert sorted(each.samples for each in kept.goes_on_from(None)) == [2, 5]
    assert (kept.number, kept.checkpoints, kept.checkpoint_s) == (0, 0, 0.0)


# Trainings


class Killed(BaseException): ...


def killed_at(step: int) -> type[Dense]:
    class Dying(Dense):
        def after_step(self, optimizer: torch.optim.Optimizer) -> None:
            super().after_step(optimizer)
            if self.step == step:
                raise Killed

    return Dying


def test_what_is_done_again_is_charged_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "LOG_S", 0.0)
    undisturbed = run(Dense, None)
    with pytest.raises(StoppedError):
        run(Dense, tmp_path, stop=5, interval_s=1e9)
    for step in (9, 7):
        with pytest.raises(Killed):
            run(killed_at(step), tmp_path, interval_s=1e9)
    trained = run(Dense, tmp_path, interval_s=1e9)
    assert same(trained, undisturbed)
    assert entries(trained) == entries(undisturbed)
    ledger = trained.ledger.stored()
    assert ledger.redone is not None
    assert ledger.redone.samples == (3 + 1) * BATCH_SIZE  # of the step that was running nothing is known
    assert ledger.redone.forward_macs > 0
    assert ledger.redone_share > 0
    # A joule for each reading: two lost trainings and three preparations for them and for this one.
    assert trained.redone is not None
    assert trained.redone.energy_j("modelled") == ledger.redone.energy_j["modelled"] == 5.0
    assert trained.redone.bounds_j("modelled") == (2.5, 10.0)
    assert trained.energy.energy_j("modelled") == 2.0  # before and after
    assert trained.energy.bounds_j("modelled") == (1.0, 4.0)


def test_a_damaged_checkpoint_costs_more_and_changes_nothing(tmp_path: Path) -> None:
    undisturbed = run(Dense, None)
    for stop in (5, 9):
        with pytest.raises(StoppedError):
            run(Dense, tmp_path, stop, interval_s=1e9)
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"nothing")
    trained = run(Dense, tmp_path, interval_s=1e9)
    assert same(trained, undisturbed)
    redone = trained.ledger.stored().redone
    assert redone is not None
    assert redone.samples == 4 * BATCH_SIZE


class Secretive(Dense):
    """Keeps what nobody can store."""

    def prepare(self, model: nn.Module, example_inputs: Tensor) -> nn.Module:
        self.secret = object()
        return super().prepare(model, example_inputs)


class SecretiveAndDying(Secretive):
    """Is killed in its sixth step."""

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        if self.step == 6:
            raise Killed


def test_a_method_that_cannot_be_stored_trains_all_the_same(tmp_path: Path) -> None:
    assert same(run(Secretive, tmp_path), run(Dense, None))
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    with pytest.raises(StoppedError, match="stopped; not saved"):
        run(Secretive, tmp_path, stop=5)


def test_of_a_method_that_cannot_be_stored_all_that_is_lost_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LOG_S", 0.0)
    with pytest.raises(Killed):  # it tried to save itself after the first step, in vain
        run(SecretiveAndDying, tmp_path, interval_s=0.0)
    redone = run(Secretive, tmp_path, interval_s=1e9).ledger.stored().redone
    assert redone is not None
    assert redone.samples == 5 * BATCH_SIZE  # of the step that was running nothing is known
