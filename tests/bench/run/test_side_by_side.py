"""The process that measures networks side by side ends with who started it, and with what interrupts that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from greenprune.bench.cli import measure
from greenprune.bench.cli.main import main
from greenprune.bench.inference.job import JointJob
from greenprune.bench.run import side_by_side
from greenprune.bench.run.side_by_side import measure_in_child
from greenprune.bench.run.stop import stoppable

from tests.conftest import is_running, wait_until

JOB = JointJob(folder=".", command="")

STAND_IN = """\
import os, sys, time, types
from pathlib import Path

def main(argv):
    Path("measuring.tmp").write_text(str(os.getpid()))
    Path("measuring.tmp").rename("measuring")
    try:
        time.sleep(20)
    except KeyboardInterrupt:
        Path("stored").touch()
        return 130
    return 0

sys.modules["greenprune.bench.inference.together"] = types.SimpleNamespace(main=main)
"""
"""Of what measures: it takes 20 s."""

LAUNCHER = f"""\
from greenprune.bench.inference.job import JointJob
from greenprune.bench.run import side_by_side
side_by_side.CHILD = {STAND_IN!r} + side_by_side.CHILD
side_by_side.measure_in_child(JointJob(folder=".", command=""))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_its_launcher_alone_is_asked_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(side_by_side, "subprocess", subprocess)
    monkeypatch.setattr(side_by_side, "CHILD", STAND_IN + side_by_side.CHILD)

    def ask() -> None:
        if wait_until(Path("measuring").exists):
            os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background it is ignored
    try:
        threading.Thread(target=ask).start()
        with pytest.raises(KeyboardInterrupt), stoppable():
            measure_in_child(JOB)
    finally:
        signal.signal(signal.SIGINT, before)
    assert Path("stored").exists()
    assert not is_running(int(Path("measuring").read_text()))


def test_it_ends_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER], cwd=tmp_path)
    assert wait_until((tmp_path / "measuring").exists)
    launcher.kill()
    launcher.wait()
    measuring = int((tmp_path / "measuring").read_text())
    assert wait_until(lambda: not is_running(measuring), limit_s=10)


def test_measure_heeds_signals_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(job: JointJob) -> int:
        if callable(signal.getsignal(signal.SIGTERM)):  # else it would end the tests
            signal.raise_signal(signal.SIGTERM)
        return 7

    monkeypatch.setattr(measure, "measure_in_child", interrupted)
    assert main(["measure", str(tmp_path)]) == 130
    assert capsys.readouterr().err.startswith("greenprune: stopped (SIGTERM); what was finished is kept")
