"""The Lightning callback: known joules arrive in Lightning's own loggers."""

from __future__ import annotations

import csv
import types
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="lightning is not installed")

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from greenprune.integrations import LightningEnergyCallback
from tests.integrations.conftest import UNSURE_J, Known


class Told(Logger):
    """A logger that remembers."""

    name, version = "told", 0

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[tuple[int | None, float]]] = defaultdict(list)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.found[name].append((step, value))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass

    def of(self, name: str) -> list[float]:
        return [value for _, value in self.found[name]]


class Network(LightningModule):
    """Uses 2 J a training batch, 3 J to validate one, 5 J to test one and 7 J to predict one."""

    def __init__(self, known: Known, fails_at: int | None = None, error: type[BaseException] = RuntimeError) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.known = known
        self.fails_at = fails_at
        self.error = error
        self.batches = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.batches += 1
        if self.batches == self.fails_at:
            raise self.error
        self.known.use(2.0)
        parts = batch.values() if isinstance(batch, dict) else [batch]
        return sum(self.layer(part).square().mean() for part in parts)

    def validation_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.known.use(3.0)

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.known.use(5.0)

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.known.use(7.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.layer.parameters(), lr=0.01)


def batches(count: int, size: int = 4) -> DataLoader:
    return DataLoader(torch.randn(count * size, 4), batch_size=size)


def trainer(folder: Path, *callbacks: Any, logger: Any = False, **options: Any) -> Trainer:
    settings = {"max_epochs": 1, "log_every_n_steps": 2, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    return Trainer(
        accelerator="cpu", devices=1, default_root_dir=folder, callbacks=list(callbacks), logger=logger,
        enable_progress_bar=False, enable_model_summary=False, **{**settings, **options},
    )  # fmt: skip


def test_every_phase_has_its_joules_and_intervals_their_bounds(meter, known: Known, tmp_path: Path) -> None:
    told, energy = Told(), LightningEnergyCallback(meter, min_interval_s=0.0, gco2e_per_kwh=360.0)
    network, runner = Network(known), trainer(tmp_path, energy, logger=told, max_epochs=2, num_sanity_val_steps=1)
    runner.fit(network, batches(6), batches(2))
    known.use(100.0)  # between phases: nobody's
    runner.test(network, batches(3), verbose=False)
    runner.predict(network, batches(1), return_predictions=False)

    assert told.found["energy/train/measured/interval_j"] == [
        (2, 4.0),
        (4, 4.0),
        (6, 4.0),
        (8, 4.0),
        (10, 4.0),
        (12, 4.0),
    ]
    assert told.of("energy/train/measured/interval_j_per_sample") == [0.5] * 6
    assert set(told.of("energy/train/measured/interval_low_j")) <= {4.0 - n * UNSURE_J for n in (1, 2, 3)}
    assert all(high > 4.0 for high in told.of("energy/train/measured/interval_high_j"))
    assert told.of("energy/train/measured/j") == [24.0]
    assert told.of("energy/train/measured/j_per_sample") == [0.5]
    assert told.of("energy/validation/measured/j") == [6.0, 6.0]
    assert told.of("energy/validation/measured/total_j") == [6.0, 12.0]
    assert told.of("energy/validation/measured/low_j") == [6.0 - UNSURE_J] * 2
    assert told.of("energy/validation/measured/high_j_per_sample") == [(6.0 + UNSURE_J) / 8] * 2
    assert told.of("energy/sanity_check/measured/j") == [3.0]
    assert told.of("energy/test/measured/j") == [15.0]
    assert told.of("energy/predict/measured/j") == [7.0]
    assert told.of("energy/test/measured/gco2e") == [pytest.approx(15.0 / 3.6e6 * 360)]
    assert {phase: account.energy_j["measured"][0] for phase, account in energy.totals.items()} == {
        "sanity_check": 3.0, "validation": 12.0, "train": 24.0, "test": 15.0, "predict": 7.0,
    }  # fmt: skip
    assert meter._sampling.open_windows == []


def test_accumulated_gradients_and_several_dataloaders(meter, known: Known, tmp_path: Path) -> None:
    told = Told()
    energy = LightningEnergyCallback(meter, min_interval_s=0.0)
    runner = trainer(tmp_path, energy, logger=told, accumulate_grad_batches=3)
    runner.fit(Network(known), {"a": batches(12), "b": batches(12, size=2)}, [batches(2), batches(1, size=8)])
    # A logging interval has two steps of three batches each, every batch 4 + 2 samples.
    assert told.found["energy/train/measured/interval_j"] == [(2, 12.0), (4, 12.0)]
    assert told.of("energy/train/measured/interval_j_per_sample") == [12.0 / 36] * 2
    assert energy.totals["train"].samples == 12 * 6
    assert energy.totals["validation"].samples == 2 * 4 + 8
    assert told.of("energy/validation/measured/j") == [9.0]


def test_short_intervals_are_joined(meter, known: Known, tmp_path: Path) -> None:
    told = Told()
    trainer(tmp_path, LightningEnergyCallback(meter, min_interval_s=1000.0), logger=told).fit(
        Network(known), batches(6)
    )
    assert not any("interval" in name for name in told.found)
    assert told.of("energy/train/measured/j") == [12.0]


def test_steps_between_intervals_do_not_touch_the_meter(meter, known: Known, tmp_path: Path, monkeypatch) -> None:
    begun = []
    begin = meter.begin
    monkeypatch.setattr(meter, "begin", lambda name, **options: begun.append(name) or begin(name, **options))
    energy = LightningEnergyCallback(meter, min_interval_s=1000.0)
    trainer(tmp_path, energy, log_every_n_steps=1).fit(Network(known), batches(40))
    assert begun == ["train", "train interval"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_measured_until_an_exception_is_logged(error, meter, known: Known, tmp_path: Path) -> None:
    told, energy = Told(), LightningEnergyCallback(meter)
    with pytest.raises((error, SystemExit)):
        trainer(tmp_path, energy, logger=told).fit(Network(known, fails_at=4, error=error), batches(6))
    assert told.of("energy/train/measured/j") == [6.0]
    assert energy.totals["train"].samples == 12
    assert meter._sampling.open_windows == []


def test_a_resumed_training_goes_on_from_what_was_used(meter, known: Known, tmp_path: Path) -> None:
    runner = trainer(tmp_path, LightningEnergyCallback(meter), max_epochs=1)
    runner.fit(Network(known), batches(6), batches(1))
    runner.save_checkpoint(tmp_path / "x.ckpt")
    told = Told()
    again = trainer(tmp_path, LightningEnergyCallback(meter), logger=told, max_epochs=2)
    again.fit(Network(known), batches(6), batches(1), ckpt_path=tmp_path / "x.ckpt", weights_only=False)
    assert told.of("energy/train/measured/j") == [12.0]
    assert told.of("energy/train/measured/total_j") == [24.0]
    assert told.of("energy/validation/measured/total_j") == [6.0]


def test_a_test_of_a_checkpoint_leaves_what_the_training_used(meter, known: Known, tmp_path: Path) -> None:
    energy = LightningEnergyCallback(meter)
    runner = trainer(tmp_path, energy)
    runner.fit(Network(known), batches(6))
    runner.save_checkpoint(tmp_path / "x.ckpt")
    runner.fit_loop.max_epochs = 2
    runner.fit(Network(known), batches(6))
    for ask in (runner.test, runner.validate):
        ask(Network(known), batches(1), ckpt_path=tmp_path / "x.ckpt", verbose=False, weights_only=False)
    assert {phase: account.energy_j["measured"][0] for phase, account in energy.totals.items()} == {
        "train": 24.0, "test": 5.0, "validation": 3.0,
    }  # fmt: skip


def test_another_node_does_not_go_on_from_the_joules_of_the_first(
    meter, known: Known, tmp_path: Path, monkeypatch
) -> None:
    runner = trainer(tmp_path, LightningEnergyCallback(meter))
    runner.fit(Network(known), batches(6))
    runner.save_checkpoint(tmp_path / "x.ckpt")
    energy = LightningEnergyCallback(meter)
    again = trainer(tmp_path, energy, max_epochs=2)
    monkeypatch.setattr(type(again), "global_rank", 4)
    again.fit(Network(known), batches(6), ckpt_path=tmp_path / "x.ckpt", weights_only=False)
    assert energy.totals["train"].energy_j["measured"][0] == 12.0


def test_a_checkpoint_within_training_holds_what_was_used_so_far(meter, known: Known, tmp_path: Path) -> None:
    energy = LightningEnergyCallback(meter)
    states = []

    class Look(Network):
        def on_train_batch_end(self, *_: Any) -> None:
            states.append(energy.state_dict()["train"]["energy_j"]["measured"][0])

    trainer(tmp_path, energy).fit(Look(known), batches(3))
    assert states == [2.0, 4.0, 6.0]
    assert energy.totals["train"].energy_j["measured"][0] == 6.0


def test_a_sensor_that_broke_is_told_and_gives_no_figure(meter, known: Known, tmp_path: Path, caplog) -> None:
    told = Told()

    class First(LightningEnergyCallback):
        def on_train_end(self, *arguments: Any) -> None:
            known.broken = True
            super().on_train_end(*arguments)

    energy = First(meter)
    trainer(tmp_path, energy, logger=told).fit(Network(known), batches(3))
    assert not any(name.startswith("energy/train/measured") for name in told.found)
    assert "measured energy of train is not known: known: it broke" in caplog.text


def test_other_ranks_of_a_node_report_nothing(meter, known: Known, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(meter, "begin", lambda *_, **__: pytest.fail("it measured"))
    told, energy = Told(), LightningEnergyCallback(meter)
    runner = trainer(tmp_path, energy, logger=told)
    monkeypatch.setattr(type(runner), "local_rank", 1)
    runner.fit(Network(known), batches(3))
    assert not told.found
    assert energy.totals == {}


def test_its_own_loggers_write_it_to_disk(meter, known: Known, tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path, name="csv"), TensorBoardLogger(tmp_path, name="board")]
    trainer(tmp_path, LightningEnergyCallback(meter, min_interval_s=0.0), logger=loggers).fit(
        Network(known), batches(4)
    )
    (path,) = tmp_path.glob("csv/**/metrics.csv")
    with path.open() as text:
        rows = list(csv.DictReader(text))
    assert [float(row["energy/train/measured/j"]) for row in rows if row["energy/train/measured/j"]] == [8.0]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(loggers[1].log_dir)
    events.Reload()
    assert [event.value for event in events.Scalars("energy/train/measured/interval_j")] == [4.0, 4.0]
    assert [event.value for event in events.Scalars("energy/train/measured/j")] == [8.0]


def test_without_a_meter_of_ones_own_this_machine_is_measured(tmp_path: Path) -> None:
    energy = LightningEnergyCallback()
    trainer(tmp_path, energy).fit(Network(Known()), batches(3))
    account = energy.totals["train"]
    assert account.energy_j
    assert all(0 <= low_j <= energy_j <= high_j for energy_j, low_j, high_j in account.energy_j.values())
    assert account.samples == 12


@pytest.mark.parametrize(("automatic", "accumulated", "intervals"), [(True, 1, 4), (True, 4, 1), (False, 1, 4)])
def test_a_step_that_logs_nothing_does_not_look_at_the_trainer(monkeypatch, automatic, accumulated, intervals) -> None:
    class FakeTrainer:
        train_dataloader: list[int] | DataLoader = DataLoader(range(2))
        log_every_n_steps = 50
        batches = looks = 0

        @property
        def global_step(self) -> int:
            self.looks += 1
            return self.batches // accumulated

    energy, trainer = LightningEnergyCallback(), FakeTrainer()
    ended = []
    monkeypatch.setattr(energy._phases, "interval", lambda: ended.append(trainer.batches))
    module = types.SimpleNamespace(automatic_optimization=automatic)
    energy.on_train_start(trainer, module)  # type: ignore[arg-type]
    for index in range(200):
        trainer.batches += 1
        energy.on_train_batch_end(trainer, module, None, torch.ones(4, 4), index)  # type: ignore[arg-type]
    assert ended == [50 * accumulated * (i + 1) for i in range(intervals)]
    assert trainer.looks <= 30 or not automatic
