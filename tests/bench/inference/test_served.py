"""Networks in other runtimes beside dense: what is noted of them. Nothing here depends on how long anything takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.errors import UserError
from greenprune.bench.inference import pair
from greenprune.bench.inference.served import LARGEST_DIFFERENCE, serve
from greenprune.bench.plan.plan import plan
from greenprune.bench.records.inference import Served
from greenprune.bench.runtimes.runtime import Session
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.measurement import Measurement

from tests.bench.runtimes.test_runtimes import Doubled, NoFour, Numbered, small
from tests.conftest import SUITE

DOUBLED = f"{Doubled.__module__}:Doubled"


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair, "CPU_BLOCK_S", 0.002)


def served(runtimes: tuple[str, ...], int8: bool = False, sizes: tuple[int, ...] = (1, 4)) -> tuple[Served, ...]:
    measurement = Measurement(runtimes=runtimes, int8=int8, inference_seconds=0.01, inference_batch_sizes=sizes)
    images = torch.randn(16, 3, 8, 8)
    with EnergyMeter("cpu") as meter:
        return serve(
            SimpleNamespace(measurement=measurement, seed=0, cost="macs"),  # type: ignore[arg-type]
            small().eval(), small().eval(), images, meter, held_out=lambda: [images],
            score=lambda model: float(len(model(images))),
        )  # fmt: skip


def test_a_runtime_is_measured_at_every_batch_size_and_checked() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    plain, integers = served(("eager", "onnxruntime"), int8=True)
    for entry, precision in ((plain, "float32"), (integers, "int8")):
        assert (entry.runtime, entry.precision, entry.problem) == ("onnxruntime", precision, None)
        assert [measured.batch_size for measured in entry.inference] == [1, 4]
        assert all(measured.latency_ratio > 0 for measured in entry.inference)
        assert entry.threads == torch.get_num_threads()
        assert "onnxruntime" in entry.versions
    assert plain.difference < LARGEST_DIFFERENCE < integers.difference
    assert (plain.test_score, integers.test_score) == (None, 16)


def test_a_runtime_that_computes_something_else_is_told_and_not_measured() -> None:
    (entry,) = served((DOUBLED,))
    assert entry.problem == "its results differ from those of eager PyTorch by 1.0e+00 of the largest, more than 0.001"
    assert entry.inference == ()


def test_a_batch_size_that_does_not_run_costs_its_own_figures_alone() -> None:
    (entry,) = served((f"{NoFour.__module__}:NoFour",), sizes=(1, 4, 2))
    assert entry.problem == "batch size 4: RuntimeError: no four"
    assert [measured.batch_size for measured in entry.inference] == [1, 2]
    assert entry.difference == 0


def test_a_runtime_that_describes_itself_in_numbers_is_noted_in_text() -> None:
    (entry,) = served((f"{Numbered.__module__}:Numbered",))
    assert entry.versions == {"threads": "4"}


@pytest.mark.parametrize("fails_in", ["__init__", "lacks", "describe"])
def test_a_runtime_that_fails_after_the_training_costs_its_own_figures_alone(
    fails_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ZeroDivisionError("gone")

    monkeypatch.setattr(Doubled, fails_in, failing)
    first, second = served((DOUBLED, "nowhere:Runtime"))
    assert first.problem is not None
    assert first.problem.endswith("() failed with ZeroDivisionError: gone")
    assert second.problem == (
        'runtime = "nowhere:Runtime": there is no module "nowhere" in the working directory or among the installed packages'
    )


def test_results_that_are_no_numbers_are_told_in_either_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(Session):
        def run(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.full((len(batch), 5), torch.nan)

    monkeypatch.setattr(Doubled, "quantises", True)
    monkeypatch.setattr(Doubled, "prepare", lambda *_, **__: Nothing())
    entries = served((DOUBLED,), int8=True)
    assert [entry.precision for entry in entries] == ["float32", "int8"]
    assert {entry.problem for entry in entries} == {"its results, or those of eager PyTorch, are not finite numbers"}


def test_eager_alone_is_measured_with_every_run_and_nowhere_else() -> None:
    assert served(("eager",)) == ()


@pytest.mark.parametrize(
    ("runtimes", "said"),
    [
        ('["onnxrt"]', r'measurement.runtimes = \["onnxrt"\]: "onnxrt" is unknown; allowed: eager, .*module:Class'),
        ('["nowhere:Runtime"]', 'runtime = "nowhere:Runtime": there is no module "nowhere"'),
    ],
)
def test_what_is_no_runtime_is_told_before_anything_runs(
    at_work: Path, tmp_path: Path, runtimes: str, said: str
) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE.replace("[measurement]", f"[measurement]\nruntimes = {runtimes}"))
    with pytest.raises(UserError, match=said):
        plan(load_suite(str(suite)), {}, "cpu")


def test_settings_of_records_without_runtimes_are_those_of_the_same_run() -> None:
    assert "runtimes" not in Measurement().model_dump()
    assert Measurement(runtimes=("compile",)).model_dump()["runtimes"] == ("compile",)
