"""What a command used is counted whoever waits for it, by each of the three ways, and without the meter's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from greenprune.bench.command import cgroup
from greenprune.bench.command.account import WAYS, CommandUsage
from greenprune.bench.command.process import WrappedCommand
from greenprune.bench.command.task_clock import TaskClock
from greenprune.bench.command.tree import lost_s
from greenprune.bench.energy.usage.processes import ProcessUsage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc, cgroups and performance events are Linux's")

BURN = "import time\nwhile time.process_time() < {0}: pass\n"
SPAWN = "import os, signal, subprocess, sys, threading, time\n"
PIPE = "ours, theirs = os.pipe(); os.set_inheritable(theirs, True)\n"
UNTIL_IT_ENDS = "os.close(theirs); os.read(ours, 1); time.sleep(0.1)"  # whoever holds the other end has ended
CHILD = "[sys.executable, '-S', '-c', {0!r}]"


def child(seconds: float) -> str:
    return CHILD.format(BURN.format(seconds))


CASES = {
    "waited for": SPAWN + f"subprocess.run({child(0.4)})",
    "SIGCHLD ignored": SPAWN
    + f"signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nos.spawnv(os.P_NOWAIT, sys.executable, {child(0.4)})\n"
    "while True:\n try: os.wait()\n except ChildProcessError: break",
    "double fork": SPAWN + PIPE + "shell = ' '.join(map(__import__('shlex').quote, " + child(0.4) + ")) + ' &'\n"
    "subprocess.run(['/bin/sh', '-c', shell], close_fds=False)\n" + UNTIL_IT_ENDS,
    "setsid": SPAWN
    + PIPE
    + f"subprocess.Popen({child(0.4)}, start_new_session=True, close_fds=False)\n"
    + UNTIL_IT_ENDS,
    "threads": SPAWN
    + "def burn():\n while time.thread_time() < 0.2: pass\n"
    + "[t.join() for t in [threading.Thread(target=burn) for _ in range(2)] if t.start() is None]",
}


def used(code: str, *ways: str) -> tuple[float, float, list[str], str]:
    """CPU seconds, those that may be missing, warnings, and the way it was counted."""
    with WrappedCommand([sys.executable, "-S", "-c", code]) as wrapped:
        usage = CommandUsage(wrapped.pid, {wrapped.canary_pid}, wrapped.reaped_s, ways=ways or WAYS)
        try:
            before = usage.now()
            wrapped.start()

            def look() -> float | None:
                usage.now()
                return usage.look_every_s

            assert wrapped.wait(look) == 0
            after = usage.now()
            return after.cpu_s - before.cpu_s, after.unseen_s - before.unseen_s, usage.warnings(), usage.way
        finally:
            usage.close()


def able(way: str) -> bool:
    if way == "cgroup":
        group = cgroup.make()
        if group is not None:
            group.close()
        return group is not None
    if way == "task-clock":
        try:
            TaskClock(os.getpid()).close()
        except OSError:
            return False
    return True


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_cpu_time_is_counted(case: str, way: str) -> None:
    if not able(way):
        pytest.skip(f"no {way} here")
    cpu_s, unseen_s, warnings, counted_by = used(CASES[case], way)
    assert counted_by == way
    assert cpu_s <= 0.9  # starting Python included, the meter's own time not
    if way == "tree" and case == "SIGCHLD ignored":
        assert cpu_s >= 0.25  # what was seen
        assert cpu_s + unseen_s >= 0.38
        assert "ignores SIGCHLD" in warnings[0]
    else:
        assert cpu_s >= 0.38
        assert not warnings


def test_children_too_short_to_be_seen_are_within_the_bound() -> None:
    code = SPAWN + (
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "for _ in range(40):\n"
        " os.spawnv(os.P_NOWAIT, '/bin/true', ['true'])\n"
        " time.sleep(0.01)\n"
    )
    counted_s, unseen_s, warnings, _ = used(code, "tree")
    assert "only in the upper bound" in warnings[0]
    assert unseen_s > 0
    if able("cgroup"):
        truth_s, none_s, no_warning, _ = used(code, "cgroup")
        assert counted_s + unseen_s >= 0.8 * truth_s
        assert (none_s, no_warning) == (0.0, [])


def test_the_meters_own_time_and_memory_are_apart() -> None:
    with WrappedCommand(["/bin/sleep", "2"]) as wrapped:
        usage = CommandUsage(wrapped.pid, {wrapped.canary_pid}, wrapped.reaped_s)
        try:
            before = usage.now()
            wrapped.start()
            sum(range(10_000_000))
            seen = []

            def look() -> float:
                seen.append(sum(usage.now().resident.values()))
                return 0.1

            wrapped.wait(look)
            assert usage.now().cpu_s - before.cpu_s < 0.1 < usage.own_cost().cpu_s
            assert max(seen[1:]) < 20e6 < usage.own_cost().resident_bytes
        finally:
            usage.close()


def test_what_outlives_the_command_is_named(tmp_path: Path) -> None:
    started = "until grep -q sleep /proc/$!/comm; do sleep 0.05; done"  # before, it is still a copy of the shell
    script = f"sleep 20 >/dev/null 2>&1 & echo $!; {started}"
    done = subprocess.run(
        [sys.executable, "-m", "greenprune", "energy", "--", "/bin/sh", "-c", script],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    pid = int(done.stdout)
    os.kill(pid, 9)  # it lives on
    assert f"1 process outlives the command: sleep ({pid})" in done.stderr


# ---- the tree alone


def member(pid: int, parent: int, own_s: float, children_s: float = 0.0) -> ProcessUsage:
    return ProcessUsage(pid, parent, 0, own_s, children_s, 0)


def tree(*members: ProcessUsage) -> dict[tuple[int, int], ProcessUsage]:
    return {(one.pid, one.started): one for one in members}


@pytest.mark.parametrize(
    ("before", "now", "reaped_s", "lost"),
    [
        # A child that its parent waited for, and one that nobody did.
        (tree(member(2, 1, 1), member(3, 2, 5)), tree(member(2, 1, 1, 6)), 0, 0),
        (tree(member(2, 1, 1), member(3, 2, 5)), tree(member(2, 1, 1, 0)), 0, 5),
        # Half a family has gone with its parent, which was waited for.
        (tree(member(2, 1, 1), member(3, 2, 5), member(4, 3, 7)), tree(member(2, 1, 1, 12)), 0, 0),
        (tree(member(2, 1, 1), member(3, 2, 5), member(4, 3, 7)), tree(member(2, 1, 1, 5)), 0, 7),
        # The command itself, waited for here.
        (tree(member(2, 1, 1)), tree(), 1.0, 0),
        (tree(member(2, 1, 1), member(3, 2, 5)), tree(), 1.0, 5),
        # Its parent ended and it became an orphan, which was waited for here.
        (tree(member(2, 1, 1), member(3, 2, 1), member(4, 3, 7)), tree(member(2, 1, 1, 1)), 7.0, 0),
        # Rounding to clock ticks.
        (tree(member(2, 1, 1), member(3, 2, 5)), tree(member(2, 1, 1, 4.99)), 0, 0),
    ],
)
def test_what_nobody_took_over_is_lost(before, now, reaped_s: float, lost: float) -> None:
    assert lost_s(before, now, 1, 0.0, reaped_s) == pytest.approx(lost)


@pytest.mark.parametrize(
    ("mount", "membership", "folder"),
    [
        ("31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "0::/user.slice/x", "/sys/fs/cgroup/user.slice/x"),
        ("31 23 0:27 /docker/a /sys/fs/cgroup ro - cgroup2 cgroup rw", "0::/docker/a/b", "/sys/fs/cgroup/b"),
        ("31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", "3:cpu:/\n0::/", "/sys/fs/cgroup/unified"),
        ("31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "0::/../elsewhere", None),
        ("31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw", "3:cpu:/", None),
    ],
)
def test_the_own_group_is_found(mount: str, membership: str, folder: str | None) -> None:
    assert cgroup.own_folder(mount, membership) == (None if folder is None else Path(folder))


def test_the_own_group_is_found_beside_a_mount_whose_name_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/self/mountinfo": b"40 23 0:9 / /mnt/caf\xe9 rw - ext4 /dev/sdb rw\n31 23 0:27 / /cg rw - cgroup2 cgroup2 rw\n",
        "/proc/self/cgroup": b"0::/caf\xe9\n",
    }
    monkeypatch.setattr(cgroup, "content", files.__getitem__)
    assert cgroup.own_folder() == Path("/cg/caf\udce9")
