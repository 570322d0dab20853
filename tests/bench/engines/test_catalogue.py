"""Engines by name, and the file with their options: what is wrong is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.engines.catalogue import make
from greenprune.bench.engines.engine import Place
from greenprune.bench.engines.names import ENGINES
from greenprune.bench.errors import UserError


def test_an_engine_that_there_is_not_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r'--engine locl: is unknown; allowed: local.* \(did you mean "local"\?\)'):
        make("locl", None, Place())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobs = 2", "engine local: jobs = 2: unknown key; allowed: none"),
        ("jobs = ", "not TOML: "),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_of_options_that_cannot_be_used_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    config = tmp_path / "cluster.toml"
    if text is not None:
        config.write_text(text)
    out = str(tmp_path / "results")
    assert main(["run", "quickstart", "--out", out, "--device", "cpu", "--engine-config", str(config)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"greenprune: --engine-config {config}")
    assert said in line
    assert not Path(out).exists()


def test_every_engine_of_the_list_is_a_file() -> None:
    folder = Path(__import__("greenprune.bench.engines").bench.engines.__file__).parent
    assert [name for name in ENGINES if not (folder / f"{name}.py").is_file()] == []
