"""The rank that reports for its node models all ranks, which the launcher started side by side."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc as on Linux")

RANK_0 = """
import os, sys, time
from greenprune.bench.energy.node.usage import NodeRanks
usage = NodeRanks()
print("ready", flush=True)
input()
before = usage.now()
print("go", flush=True)
input()
after = usage.now()
print(after.cpu_s - before.cpu_s, sum(after.resident.values()), flush=True)
"""
RANK_1 = """
import time
input()
until = time.process_time() + 0.5
while time.process_time() < until: pass
print("done", flush=True)
input()
"""
LAUNCHER = """
import os, subprocess, sys
def start(code, **rank):
    run = '"$0" -c "$1" | cat' if sys.argv[5:] and code == sys.argv[1] else 'exec "$0" -c "$1"'
    wrapped = ["/bin/sh", "-c", run, sys.executable, code]
    return subprocess.Popen(wrapped, env=os.environ | rank, stdin=-1, stdout=-1, text=True)
def ask(process, word=None):
    if word: print(word, file=process.stdin, flush=True)
    return process.stdout.readline().strip()
zero, other, stranger = start(sys.argv[1], **eval(sys.argv[3])), start(sys.argv[2], **eval(sys.argv[4])), start(sys.argv[2])
ask(zero); ask(zero, "x"); ask(other, "x"); ask(stranger, "x")
print(ask(zero, "x"))
for process in (other, stranger): process.communicate("x")
"""


@pytest.mark.parametrize(
    ("of_0", "of_1", "counted"),
    [
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}, {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, True),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
         {"OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, True),
        ({}, {}, False),
    ],
)  # fmt: skip
def test_ranks_beside_this_one_count_and_strangers_do_not(of_0, of_1, counted: bool) -> None:
    assert (0.4 if counted else 0.0) <= used_s(of_0, of_1) < (0.9 if counted else 0.4)


def test_a_helper_of_this_rank_is_not_taken_for_another_rank() -> None:
    of_0, of_1 = ({"LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"} for rank in "01")
    assert 0.4 <= used_s(of_0, of_1, "piped") < 0.9


def used_s(of_0: dict[str, str], of_1: dict[str, str], *piped: str) -> float:
    """CPU seconds that rank 0 sees; `piped`: its output goes through a helper that its wrapper starts."""
    environ = {name: value for name, value in os.environ.items() if not name.endswith(("RANK", "WORLD_SIZE"))}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, RANK_0, RANK_1, repr(of_0), repr(of_1), *piped],
        capture_output=True, text=True, timeout=120, env=environ, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[0])
