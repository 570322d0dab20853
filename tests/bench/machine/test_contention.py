"""What others took of the processor is told, and only then."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from greenprune.bench.machine.contention import Usage, contention, usage


def test_a_quiet_machine_is_no_warning() -> None:
    assert contention(Usage(0, 0, 50, 1), Usage(100, 380, 440, 6), "training") == []


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (Usage(100, 300, 420, 0), "1.2 cores ran other processes and 0.0 cores were stolen"),
        (Usage(100, 300, 300, 90), "0.0 cores ran other processes and 0.9 cores were stolen"),
    ],
)
def test_others_and_stolen_time_are_told_in_cores(end: Usage, said: str) -> None:
    (warning,) = contention(Usage(0, 0, 0, 0), end, "training")
    assert warning.startswith("training: the machine was shared")
    assert said in warning


def test_a_busy_process_is_seen_and_our_own_work_is_not() -> None:
    busy = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as other:
        start = usage()
        until_s = time.perf_counter() + 2.0
        while time.perf_counter() < until_s:
            pass
        end = usage()
        other.kill()
    # The other process gets at least a share of a core, however many compete.
    assert contention(start, end, "x")
    assert end.own_s - start.own_s == pytest.approx(end.time_s - start.time_s, abs=2.0)
    assert end.all_s - start.all_s >= end.own_s - start.own_s - 0.1
