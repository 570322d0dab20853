"""A lock that is a file: who gets it, when it is over, and that of many who want a dead one's one gets it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from greenprune.bench.errors import UserError
from greenprune.bench.records import lock as locks
from greenprune.bench.records.folder import LOCK_FILE, locked, running, take_run
from greenprune.bench.records.lock import STALE_S, Holder, Lock, holding, is_held, take

ELSEWHERE = Holder(host="node7", machine="another", pid=1, began="5", token="ab")
TAKES_AND_DIES = """
import os, sys
from pathlib import Path
from greenprune.bench.records.lock import Lock, take
assert isinstance(take(Path(sys.argv[1])), Lock)
print("mine", flush=True)
if sys.argv[2] == "die":
    os.kill(os.getpid(), 9)
sys.stdin.read()
"""


def other_process(path: Path, how: str) -> subprocess.Popen[str]:
    """A process that took the lock `path`, and lives until its input ends, or is dead."""
    command = [sys.executable, "-c", TAKES_AND_DIES, str(path), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    return process


def aged(path: Path, holder: Holder | None, age_s: float) -> None:
    """The file of a lock that was last touched `age_s` ago."""
    path.write_text("" if holder is None else holder.model_dump_json())
    then_s = path.stat().st_mtime - age_s
    os.utime(path, (then_s, then_s))


def test_who_is_alive_keeps_it_and_who_is_dead_does_not(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with other_process(path, "live") as process:
        found = take(path)
        assert isinstance(found, Holder)
        assert str(found) == f"process {process.pid}"
        aged(path, found, 2 * STALE_S)  # a process of this machine is looked at, however long it was still
        assert is_held(path)
        process.communicate("")
    assert isinstance(take(path), Lock)  # it let go at its end
    again = tmp_path / "again"
    with other_process(again, "die") as process:
        process.wait()
    assert not is_held(again)
    mine = take(again)
    assert isinstance(mine, Lock)
    assert not mine.lost
    mine.release()
    assert list(tmp_path.glob("again*")) == []


@pytest.mark.parametrize("holder", [ELSEWHERE, None])
def test_of_another_machine_it_is_over_when_it_was_not_touched_for_long(tmp_path: Path, holder: Holder | None) -> None:
    path = tmp_path / "lock"
    aged(path, holder, STALE_S - 60)
    assert take(path) == holder
    aged(path, holder, STALE_S + 5)
    assert isinstance(take(path), Lock)


def test_age_is_told_by_the_clock_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    aged(path, ELSEWHERE, 0)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert is_held(path)


def test_who_holds_it_touches_it_and_finds_out_when_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT_S", 0.01)
    path = tmp_path / "lock"
    beating = locks._Beating()
    monkeypatch.setattr(locks, "_beating", beating)
    mine = take(path)
    assert isinstance(mine, Lock)
    os.utime(path, (1e9, 1e9))
    end_s = time.monotonic() + 20
    while path.stat().st_mtime < 1.1e9 and time.monotonic() < end_s:
        time.sleep(0.01)
    assert path.stat().st_mtime > 1.1e9
    path.write_text(ELSEWHERE.model_dump_json())
    assert mine.lost
    mine.release()
    assert path.exists()  # it is not ours any more


def test_of_many_who_want_a_dead_ones_lock_one_has_it_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    aged(path, ELSEWHERE, STALE_S + 5)
    inside, most, gate = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with holding(path):
                with gate:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with gate:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    locks_poll = locks.POLL_S
    locks.POLL_S = 0.001
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        locks.POLL_S = locks_poll
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_its_place_is_refused_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match=r"is no lock that can be read .*; delete it"):
        take(tmp_path / "lock")
    assert (tmp_path / "mine").read_text() == "precious"


def test_the_whole_folder_and_one_of_its_runs_exclude_each_other_on_one_machine(tmp_path: Path) -> None:
    run = tmp_path / "dense-1-s0"
    held = take_run(run)
    assert isinstance(held, Lock)
    assert list(running(tmp_path)) == [run.name]
    with (
        pytest.raises(
            UserError, match=rf"{run.name}: another greenprune is running this suite \(process {os.getpid()}\)"
        ),
        locked(tmp_path),
    ):
        pass
    held.release()
    with locked(tmp_path):
        assert isinstance(take_run(run), Holder)
        aged(run / LOCK_FILE, ELSEWHERE, 0)  # another machine is not disturbed by this one
    with locked(tmp_path):
        assert running(tmp_path) == {run.name: ELSEWHERE}
