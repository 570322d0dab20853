"""What stands in for `subprocess.Popen` where the tests start workers is a process as any other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from greenprune.bench.run import process as processes

from tests.preloaded import AS_USUAL, Preloaded

pytestmark = pytest.mark.skipif(AS_USUAL, reason="all workers are started as usual here")

SAYS = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ["MINE"], os.getsid(0), "torch" in sys.modules]))
"""


def start(code: str, log: Path, environment: dict[str, str]) -> tuple[Preloaded | subprocess.Popen[bytes], str]:
    """A process that has ended, and what it printed."""
    with log.open("w") as stderr:
        process = processes.subprocess.Popen(
            [sys.executable, "-P", "-c", code, "[]", "[]", "more"],
            stdout=subprocess.PIPE, stderr=stderr, env=environment, start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as pipe:
        said = pipe.read().decode()
    process.wait(60)
    return process, said


def test_it_has_an_environment_a_folder_and_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_workers: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    process, said = start(SAYS, tmp_path / "log", quick_workers | {"MINE": "yes"})
    assert isinstance(process, Preloaded)
    assert json.loads(said) == [["-c", "[]", "[]", "more"], str(tmp_path), "yes", process.pid, True]
    assert (process.returncode, process.poll()) == (0, 0)


@pytest.mark.parametrize(
    ("code", "returncode", "last"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("raise ValueError('no')", 1, "ValueError: no"),
    ],
)
def test_it_ends_as_any_other(
    tmp_path: Path, quick_workers: dict[str, str], code: str, returncode: int, last: str
) -> None:
    process, said = start(code, tmp_path / "log", quick_workers)
    assert isinstance(process, Preloaded)
    assert (process.returncode, said) == (returncode, "")
    assert (tmp_path / "log").read_text().strip().endswith(last)


def test_what_would_load_its_libraries_otherwise_is_started_as_usual(
    tmp_path: Path, quick_workers: dict[str, str]
) -> None:
    process, said = start(SAYS, tmp_path / "log", quick_workers | {"MINE": "yes", "MKL_NUM_THREADS": "3"})
    assert isinstance(process, subprocess.Popen)
    assert json.loads(said)[-1] is False
