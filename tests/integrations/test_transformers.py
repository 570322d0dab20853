"""The Hugging Face callback: known joules arrive in the Trainer's own loggers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate", reason="accelerate is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from transformers import Trainer, TrainingArguments

from greenprune.integrations import TransformersEnergyCallback
from tests.integrations.conftest import UNSURE_J, Known


class Network(torch.nn.Module):
    """Uses 2 J a training batch and 3 J a batch of anything else."""

    def __init__(self, known: Known, fails_at: int | None = None, error: type[BaseException] = RuntimeError) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.known = known
        self.fails_at = fails_at
        self.error = error
        self.batches = 0

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.training:
            self.batches += 1
            if self.batches == self.fails_at:
                raise self.error
        self.known.use(2.0 if self.training else 3.0)
        found = self.layer(x)
        return {"loss": (found - labels).square().mean(), "logits": found}


def samples(count: int) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return [{"x": torch.randn(4), "labels": torch.ones(1)} for _ in range(count)]


def trainer(folder: Path, network: Network, **options: Any) -> Trainer:
    settings = {
        "output_dir": str(folder / "out"), "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4,
        "num_train_epochs": 1, "logging_steps": 2, "save_strategy": "no", "report_to": [], "use_cpu": True,
        "disable_tqdm": True,
    }  # fmt: skip
    arguments = TrainingArguments(**{**settings, **options})
    return Trainer(network, arguments, train_dataset=samples(24), eval_dataset=samples(8))


def logged(runner: Trainer, name: str) -> list[tuple[int, float]]:
    return [(entry["step"], entry[name]) for entry in runner.state.log_history if name in entry]


def values(runner: Trainer, name: str) -> list[float]:
    return [value for _, value in logged(runner, name)]


def test_every_phase_has_its_joules_and_intervals_their_bounds(meter, known: Known, tmp_path: Path) -> None:
    runner = trainer(tmp_path, Network(known), eval_strategy="steps", eval_steps=3)
    energy = TransformersEnergyCallback(runner, meter, min_interval_s=0.0, gco2e_per_kwh=360.0)
    runner.add_callback(energy)
    runner.train()
    known.use(100.0)  # between phases: nobody's
    runner.evaluate(samples(4), metric_key_prefix="test")
    runner.predict(samples(12))

    assert logged(runner, "energy/train/measured/interval_j") == [(2, 4.0), (4, 4.0), (6, 4.0)]
    assert values(runner, "energy/train/measured/interval_j_per_sample") == [0.5] * 3
    assert values(runner, "energy/train/measured/interval_low_j") == [4.0 - n * UNSURE_J for n in (1, 2, 1)]
    assert logged(runner, "energy/train/measured/j") == [(6, 12.0)]
    assert logged(runner, "energy/validation/measured/j") == [(3, 6.0), (6, 6.0)]
    assert values(runner, "energy/validation/measured/total_j") == [6.0, 12.0]
    assert values(runner, "energy/validation/measured/high_j_per_sample") == [(6.0 + UNSURE_J) / 8] * 2
    assert values(runner, "energy/test/measured/j") == [3.0]
    assert values(runner, "energy/predict/measured/j") == [9.0]
    assert values(runner, "energy/predict/measured/j_per_sample") == [0.75]
    assert values(runner, "energy/test/measured/gco2e") == [pytest.approx(3.0 / 3.6e6 * 360)]
    assert {phase: account.energy_j["measured"][0] for phase, account in energy.totals.items()} == {
        "validation": 12.0, "train": 12.0, "test": 3.0, "predict": 9.0,
    }  # fmt: skip
    assert meter._sampling.open_windows == []


def test_accumulated_gradients_and_a_last_batch_that_is_smaller(meter, known: Known, tmp_path: Path) -> None:
    runner = trainer(tmp_path, Network(known), gradient_accumulation_steps=3, logging_steps=1)
    runner.train_dataset = samples(23)
    energy = TransformersEnergyCallback(runner, meter, min_interval_s=0.0)
    runner.add_callback(energy)
    runner.train()
    assert logged(runner, "energy/train/measured/interval_j") == [(1, 6.0), (2, 6.0)]
    assert values(runner, "energy/train/measured/interval_j_per_sample") == [6.0 / 12, 6.0 / 11]
    assert energy.totals["train"].samples == 23


def test_several_evaluation_sets_are_turns_of_one_phase(meter, known: Known, tmp_path: Path) -> None:
    runner = trainer(tmp_path, Network(known), eval_strategy="epoch")
    runner.eval_dataset = {"a": samples(4), "b": samples(12)}
    runner.add_callback(TransformersEnergyCallback(runner, meter))
    runner.train()
    assert values(runner, "energy/validation/measured/j") == [3.0, 9.0]
    assert values(runner, "energy/validation/measured/total_j") == [3.0, 12.0]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_measured_until_an_exception_is_logged(error, meter, known: Known, tmp_path: Path) -> None:
    runner = trainer(tmp_path, Network(known, fails_at=4, error=error))
    energy = TransformersEnergyCallback(runner, meter)
    runner.add_callback(energy)
    with pytest.raises(error):
        runner.train()
    assert values(runner, "energy/train/measured/j") == [6.0]
    assert energy.totals["train"].energy_j["measured"][0] == 6.0
    assert meter._sampling.open_windows == []


@pytest.mark.parametrize("named", [True, False])
def test_a_resumed_training_goes_on_from_what_was_used(named: bool, meter, known: Known, tmp_path: Path) -> None:
    first = trainer(tmp_path, Network(known), save_strategy="steps", save_steps=4)
    first.add_callback(TransformersEnergyCallback(first, meter))
    first.train()
    folder = tmp_path / "out" / "checkpoint-4"
    for later in (tmp_path / "out").glob("checkpoint-6"):
        later.rename(tmp_path / "later")
    again = trainer(tmp_path, Network(known))
    again.add_callback(TransformersEnergyCallback(again, meter))
    again.train(resume_from_checkpoint=str(folder) if named else True)
    assert logged(again, "energy/train/measured/j") == [(6, 4.0)]
    assert values(again, "energy/train/measured/total_j") == [12.0]


def test_other_ranks_of_a_node_report_nothing(meter, known: Known, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(meter, "begin", lambda *_, **__: pytest.fail("it measured"))
    runner = trainer(tmp_path, Network(known), eval_strategy="epoch")
    monkeypatch.setenv("SLURM_LOCALID", "1")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    energy = TransformersEnergyCallback(runner, meter)
    runner.add_callback(energy)
    runner.train()
    assert not any("energy" in name for entry in runner.state.log_history for name in entry)
    assert energy.totals == {}


def test_tensorboard_has_it(meter, known: Known, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    runner = trainer(tmp_path, Network(known), report_to=["tensorboard"])
    runner.add_callback(TransformersEnergyCallback(runner, meter, min_interval_s=0.0))
    runner.train()
    (path,) = (tmp_path / "board").glob("events*")
    events = EventAccumulator(str(path))
    events.Reload()
    assert [event.value for event in events.Scalars("train/energy/train/measured/interval_j")] == [4.0] * 3


def test_wandb_offline_and_mlflow_have_it(meter, known: Known, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    runner = trainer(tmp_path, Network(known), report_to=["wandb", "mlflow"])
    runner.add_callback(TransformersEnergyCallback(runner, meter, min_interval_s=0.0))
    runner.train()

    import wandb

    assert dict(wandb.run.summary)["train/energy/train/measured/j"] == 12.0
    wandb.finish()
    (run,) = tmp_path.glob("mlruns/*/*/metrics")  # and no other run that was begun for it
    written = run / "energy" / "train" / "measured" / "j"
    assert [float(line.split()[1]) for line in written.read_text().splitlines()] == [12.0]
    mlflow.end_run()
