"""Engines by name, and the file with their options: what is wrong is said in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.engines import ray
from greenprune.bench.engines.catalogue import checked, make
from greenprune.bench.engines.cluster import options as slurm
from greenprune.bench.engines.engine import Options, Place
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
        (f"jobs = {{ most = 0x{'f' * 4000} }}", "f…: is beyond 64 bits"),
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


COUNT = "allowed: an integer at least 1 and at most 1000000"


@pytest.mark.parametrize(
    ("model", "said", "line"),
    [
        (ray.EngineOptions, {"num_cpus": "3"}, 'num_cpus = "3": is not an integer'),
        (ray.EngineOptions, {"max_retries": 2.0}, "max_retries = 2.0: is not an integer"),
        (ray.EngineOptions, {"resources": {"a": -1}}, "resources.a = -1: is too small; allowed: a number at least 0"),
        (ray.EngineOptions, {"resources": {"a": float("nan")}}, "resources.a = NaN: is not a finite number"),
        (ray.EngineOptions, {"resources": {"a": 1e-5}}, "resources.a = 1e-05: is too small for Ray; allowed: 0, or at "),
        (ray.EngineOptions, {"resources": {"CPU": 1}}, "CPU has a key of its own; allowed: num_cpus"),
        (ray.EngineOptions, {"resources": {"GPU": 1}}, "GPU has a key of its own; allowed: num_gpus"),
        (slurm.EngineOptions, {"slurm_cpus_per_task": True}, f"slurm_cpus_per_task = true: is not an integer; {COUNT}"),
        (slurm.EngineOptions, {"measure": {"slurm_cpus_per_task": "2"}}, 'measure.slurm_cpus_per_task = "2": is not'),
        (slurm.EngineOptions, {"slurm_additional_parameters": {"nice": 1.5}}, "parameters.nice = 1.5: is none of"),
        (slurm.EngineOptions, {"slurm_time": 2**40}, 'slurm_time = 1099511627776: is no time; allowed: minutes, or "hours:'),
        (slurm.EngineOptions, {"slurm_time": "400-0"}, 'slurm_time = "400-0": is no time'),
    ],
)  # fmt: skip
def test_an_option_of_the_wrong_type_or_size_is_refused(model: type[Options], said: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        checked(model, said, "c.toml", "x")
    assert str(caught.value).startswith("--engine-config c.toml, engine x: ")
    assert line in str(caught.value)


def test_lists_and_integers_of_a_file_are_taken_where_they_mean_the_same() -> None:
    found = checked(slurm.EngineOptions, {"slurm_setup": ["a"], "slurm_time": "1:00:00"}, "c.toml", "slurm")
    assert found == slurm.EngineOptions(slurm_setup=("a",), slurm_time=60)
    assert checked(ray.EngineOptions, {"resources": {"a": 1}}, "c.toml", "ray").resources == {"a": 1.0}  # type: ignore[attr-defined]


def test_every_engine_of_the_list_is_a_file() -> None:
    folder = Path(__import__("greenprune.bench.engines").bench.engines.__file__).parent
    assert [name for name in ENGINES if not (folder / f"{name}.py").is_file()] == []
