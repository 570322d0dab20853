"""What a command writes of its units: every name counts, and no file of them loses a measurement."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from greenprune.bench.cli.energy import measure
from greenprune.bench.command.counts import count_from_files
from greenprune.bench.energy.carbon.intensity import GridIntensity

WORLD = GridIntensity("world", 475.0, "a test")


def test_a_unit_may_have_the_name_of_a_parameter(tmp_path: Path, capfd) -> None:
    units, path = tmp_path / "u.txt", tmp_path / "e.json"
    command = ["/bin/sh", "-c", f"echo self=3 > '{units}'; exit 7"]
    assert measure(command, WORLD, json_path=path, unit_files=[units]) == 7
    assert json.loads(path.read_text())["reading"]["units"] == {"self": 3}
    assert "greenprune: " not in capfd.readouterr().err


def test_counts_that_come_to_no_number_are_told_and_lose_nothing(tmp_path: Path, capfd) -> None:
    units, path = tmp_path / "u.txt", tmp_path / "e.json"
    command = ["/bin/sh", "-c", f"echo tokens=1e308 > '{units}'; echo tokens=1e308 >> '{units}'; exit 7"]
    assert measure(command, WORLD, json_path=path, unit_files=[units]) == 7
    assert json.loads(path.read_text())["reading"]["units"] == {"tokens": 1e308}
    assert f"greenprune: --units @{units}: cannot be counted (ValueError: tokens = inf" in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "u.txt"
    os.mkfifo(pipe)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("the pipe was opened"))
    assert count_from_files(SimpleNamespace(), {pipe: None}) == [f"--units @{pipe}: cannot be read (it is no file)"]
