"""What others took of the processor is told, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from greenprune.bench.machine.contention import Usage, contention, usage

NONE = Usage(0, 0, 0, 0)
BUSY = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
LOADER = "import time\nwhile time.process_time() < 0.5: pass\nprint('loaded', flush=True)\ninput()"


def test_a_quiet_machine_is_no_warning() -> None:
    assert contention(Usage(0, 0, 50, 1), Usage(100, 380, 440, 6), "training", cores=4) == []


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (Usage(100, 300, 420, 0), "1.2 cores ran other processes and 0.0 cores were stolen"),
        (Usage(100, 300, 300, 90), "0.0 cores ran other processes and 0.9 cores were stolen"),
    ],
)
def test_others_and_stolen_time_are_told_in_cores(end: Usage, said: str) -> None:
    (warning,) = contention(NONE, end, "training", cores=4)
    assert warning.startswith("training: the machine was shared")
    assert said in warning


@pytest.mark.parametrize(
    ("cores", "others_s", "told"), [(4, 20, False), (4, 30, True), (192, 190, False), (192, 200, True)]
)
def test_a_hundredth_of_a_large_machine_is_nothing(cores: int, others_s: float, told: bool) -> None:
    assert bool(contention(NONE, Usage(100, 0, others_s, 0), "training", cores=cores)) == told


def test_a_busy_stranger_is_seen() -> None:
    # Started by a shell that goes away, so that it belongs to another tree.
    script = '"$0" -S -c "$1" >/dev/null 2>&1 & echo $!'
    command = ["/bin/sh", "-c", script, sys.executable, BUSY]
    stranger = subprocess.run(command, capture_output=True, text=True, check=True)
    try:
        start = usage()
        until_s = time.perf_counter() + 2.0
        while time.perf_counter() < until_s:
            pass
        end = usage()
    finally:
        os.kill(int(stranger.stdout), 9)
    # The other process gets at least a share of a core, however many compete.
    assert contention(start, end, "x", cores=1)
    assert end.own_s - start.own_s == pytest.approx(end.time_s - start.time_s, abs=2.0)
    assert end.all_s - start.all_s >= end.own_s - start.own_s - 0.1


@pytest.mark.parametrize("ends", [False, True])
def test_what_our_own_children_do_is_our_own_work(ends: bool) -> None:
    """Data loaders are processes: they run while a training ends, or have ended by then."""
    start = usage()
    with subprocess.Popen([sys.executable, "-S", "-c", LOADER], stdin=-1, stdout=-1, text=True) as loader:
        assert loader.stdout is not None
        assert loader.stdout.readline() == "loaded\n"
        if ends:
            loader.communicate()
        assert usage().own_s - start.own_s >= 0.4
