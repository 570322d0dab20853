"""`greenprune energy -- COMMAND` behaves as COMMAND alone: signals, descriptors, orphans, exit, terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="job control and /proc as on Linux")

CATCH = """
import os, signal, sys, time
path, *names = sys.argv[1:]
got = []
for name in names:
    signal.signal(getattr(signal, name), lambda number, _: got.append(signal.Signals(number).name))
open(path, "w").write(str(os.getpid()))
until = time.time() + 60
while "SIGUSR2" not in got and time.time() < until:
    time.sleep(0.01)
time.sleep(0.2)
print(" ".join(got))
"""
SIGNALS = ["SIGUSR1", "SIGHUP", "SIGTERM", "SIGINT", "SIGQUIT", "SIGCONT", "SIGTSTP", "SIGWINCH", "SIGALRM", "SIGUSR2"]


def wrapped(*command: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "greenprune", "energy", "--", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str]) -> int:
    until_s = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until_s
        time.sleep(0.02)
    return int(path.read_text())


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]):
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("to_the_group", [False, True])
def test_every_signal_arrives_once(to_the_group: bool, tmp_path: Path) -> None:
    """What is sent to the wrapper alone is handed on; what the whole group gets is not handed on a second time."""
    ready = tmp_path / "ready"
    with ended(wrapped(sys.executable, "-c", CATCH, str(ready), *SIGNALS)) as process:
        wait_for(ready, process)
        for name in SIGNALS:
            number = getattr(signal, name)
            (os.killpg if to_the_group else os.kill)(process.pid, number)
            time.sleep(0.1)
        out, _ = process.communicate(timeout=60)
        assert sorted(out.split()) == sorted(SIGNALS)
        assert process.returncode == 0


def test_ignored_signals_stay_ignored_and_only_those(tmp_path: Path) -> None:
    show = "grep -E 'Sig(Ign|Blk)' /proc/self/status"
    for prepare in ("true", "trap '' HUP USR1 CHLD"):
        alone, inside = (
            subprocess.run(["/bin/sh", "-c", f"{prepare}; exec {start} {show}"], capture_output=True, text=True).stdout
            for start in ("", f"{sys.executable} -m greenprune energy --")
        )
        assert inside == alone != ""


@pytest.mark.parametrize(
    ("script", "out"),
    [
        ("cat <(echo hi)", "hi\n"),
        ("exec 3>&1; W sh -c 'echo three >&3'", "three\n"),
        ("echo in | W cat", "in\n"),
        ("W sh -c 'cat; echo end' </dev/null", "end\n"),
        ("W sh -c 'ulimit -n 77; umask 031; cd /; W -c true'; umask 027; ulimit -n 99; W sh -c 'umask; ulimit -n; pwd'",
         None),
        ("yes | W head -n1", "y\n"),
        ("W sh -c 'exec >&-; sleep 1' | (timeout 5 cat; echo closed)", "closed\n"),
        ("cd /tmp && W -- x; W sh -c 'exit 7'; echo $?", "7\n"),
    ],
)  # fmt: skip
def test_descriptors_and_limits_are_inherited(script: str, out: str | None) -> None:
    def run(wrapper: str) -> str:
        body = script.replace("cat <(", "W cat <(")
        return subprocess.run(
            ["bash", "-c", f'W() {{ {wrapper} "$@"; }}\n{body}'],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        ).stdout  # fmt: skip

    found = run(f"{sys.executable} -m greenprune energy --")
    assert found == (run("command") if out is None else out)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_with_standard_streams_closed_nothing_of_the_wrapper_takes_their_place(closed: str) -> None:
    """Signals are handed on all the same, and the command finds the stream closed."""
    code = "import os; print([os.path.exists(f'/proc/self/fd/{n}') for n in (0, 1)], file=__import__('sys').stderr)"
    script = f'{{wrapper}} sh -c \'kill -USR1 $PPID; {sys.executable} -c "$0"; sleep 0.5\' "$0" {closed}'
    wrapper = f"trap '' USR1; {sys.executable} -m greenprune energy --"
    done = subprocess.run(
        ["bash", "-c", script.format(wrapper=wrapper), code], capture_output=True, text=True, timeout=60, check=False
    )
    told = done.stderr.splitlines()
    assert told[0] == str(["<" not in closed, ">" not in closed])
    assert "Exception ignored" not in done.stderr
    assert done.returncode == 0


def test_orphans_are_waited_for_as_they_end(tmp_path: Path) -> None:
    count = tmp_path / "count"
    zombies = (
        "import os, subprocess, time\n"
        "for _ in range(50): subprocess.run(['/bin/sh', '-c', 'sleep 0.01 & exit'])\n"
        "time.sleep(0.5)\n"
        "parent = os.getppid()\n"
        "children = open(f'/proc/{parent}/task/{parent}/children').read().split()\n"
        "states = [open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0] for pid in children]\n"
        f"open({str(count)!r}, 'w').write(str(states.count('Z')))"
    )
    with ended(wrapped(sys.executable, "-c", zombies)) as process:
        process.communicate(timeout=60)
    assert count.read_text() == "0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT, signal.SIGUSR1])
def test_it_dies_as_the_command_died(number: signal.Signals) -> None:
    kill = f"import os, signal; signal.signal({int(number)}, signal.SIG_DFL) if {number not in (9,)} else 0; "
    with ended(wrapped(sys.executable, "-c", f"{kill}os.kill(os.getpid(), {int(number)})")) as process:
        _, error = process.communicate(timeout=60)
        assert process.returncode == -number
        assert "Energy of" in error


def test_a_stopped_command_stops_the_wrapper_and_goes_on_with_it(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"import os, time; open({str(ready)!r}, 'w').write(str(os.getpid())); time.sleep(1.5)"
    with ended(wrapped(sys.executable, "-c", code)) as process:
        command = wait_for(ready, process)
        os.kill(command, signal.SIGSTOP)  # an orphaned group, as this one is, ignores SIGTSTP
        assert state(process.pid, "T") == "T"
        os.kill(process.pid, signal.SIGCONT)
        assert state(command, "SR") in "SR"
        process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGKILL])
def test_a_command_that_is_stopped_and_goes_on_by_its_own_id_takes_the_wrapper_along(number, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    names = ["SIGCONT", "SIGUSR2"]
    with ended(wrapped(sys.executable, "-c", CATCH, str(ready), *names)) as process:
        command = wait_for(ready, process)
        for _ in range(2):
            os.kill(command, signal.SIGSTOP)
            assert state(process.pid, "T") == "T"
            os.kill(command, number)
            assert state(process.pid, "SR") in "SR"
            if number == signal.SIGKILL:
                break
        else:
            os.kill(command, signal.SIGUSR2)
        out, error = process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        assert out.split() == ([] if number == signal.SIGKILL else ["SIGCONT", "SIGCONT", "SIGUSR2"])
        assert "Energy of" in error


def state(pid: int, wanted: str) -> str:
    until_s = time.monotonic() + 20
    while True:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if found in wanted or time.monotonic() > until_s:
            return found
        time.sleep(0.02)


def test_a_terminal_has_the_command_in_its_foreground_and_ctrl_c_arrives_once(tmp_path: Path) -> None:
    code = (
        "import os, sys, time, signal\n"
        "got = []\n"
        "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
        "print('foreground', os.tcgetpgrp(0) == os.getpgrp(), sys.stdin.isatty(), flush=True)\n"
        "while not got: time.sleep(0.02)\n"
        "time.sleep(0.3)\n"
        "print('interrupts', len(got), input(), flush=True)\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "greenprune", "energy", "--", sys.executable, "-c", code])
    try:
        assert "foreground True True" in read_until(terminal, "foreground")
        os.write(terminal, b"\x03")
        os.write(terminal, b"typed\n")
        assert "interrupts 1 typed" in read_until(terminal, "interrupts")
        read_until(terminal, "kWh")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def read_until(terminal: int, text: str) -> str:
    told, until_s = "", time.monotonic() + 60
    while time.monotonic() < until_s and (text not in told or not told.endswith("\n")):
        ready, _, _ = select.select([terminal], [], [], 0.5)
        if ready:
            told += os.read(terminal, 4096).decode(errors="replace")
    return told


def test_a_script_without_an_interpreter_runs_as_a_shell_runs_it(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo plain $1\n")
    script.chmod(0o755)
    with ended(wrapped(str(script), "words")) as process:
        assert process.communicate(timeout=60)[0] == "plain words\n"


def test_what_a_kill_leaves_is_what_was_saved_last(tmp_path: Path) -> None:
    path, table = tmp_path / "e.json", tmp_path / "e.csv"
    process = subprocess.Popen(
        [sys.executable, "-m", "greenprune", "energy", "--json", str(path), "--csv", str(table), "--", "sleep", "60"],
        start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until_s = time.monotonic() + 60
        while not (path.exists() and table.exists() and table.read_text()):
            assert time.monotonic() < until_s
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    stored = json.loads(path.read_text())
    assert (stored["finished"], stored["exit_code"]) == (False, None)
    assert stored["totals"]["modelled"]["energy_j"] > 0
    assert len(table.read_text().splitlines()) == 2
