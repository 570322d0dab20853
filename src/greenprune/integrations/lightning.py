"""Joules of a Lightning training, in its own loggers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from greenprune.bench.energy import EnergyMeter
from greenprune.integrations.account import Account
from greenprune.integrations.recorder import (
    MIN_INTERVAL_S,
    MissingFrameworkError,
    PhaseLog,
    first_dimension,
    meter_of,
    reports_here,
)

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.strategies import ParallelStrategy
except ImportError as e:
    raise MissingFrameworkError("lightning") from e


class LightningEnergyCallback(Callback):
    """`Trainer(callbacks=[LightningEnergyCallback()])`: energy of train, validation, test and predict.

    Every `log_every_n_steps` steps of the trainer its loggers get the joules since the last time
    (`energy/train/KIND/interval_j`, with `interval_low_j`, `interval_high_j` and each of them `_per_sample`), at the end
    of a phase those of the phase (`energy/validation/KIND/j`) and of all its turns (`total_j`), which go on from a
    checkpoint that was resumed. KIND is measured, sampled or modelled. Validation inside a training counts as validation
    alone, the sanity check before it as `sanity_check`. What was measured until an exception or Ctrl-C is logged.

    The process with local rank 0 reports for its node. Loggers write on the first node only; of the others `totals` and
    Python's logger `greenprune.integrations` have the figures. A checkpoint holds the sums of the first node alone: after
    a resume the others begin anew.
    """

    def __init__(
        self,
        meter: EnergyMeter | None = None,
        *,
        batch_size: Callable[[Any], int] = first_dimension,
        prefix: str = "energy",
        gco2e_per_kwh: float | None = None,
        min_interval_s: float = MIN_INTERVAL_S,
    ) -> None:
        """Args:
        meter: the meter to use; None: one of the trainer's devices on this node.
        batch_size: samples in a batch of one dataloader. As it is, the length of the first tensor.
        prefix: what the names in the log begin with.
        gco2e_per_kwh: grid intensity, to log grams of CO2 equivalent too.
        min_interval_s: shorter logging intervals are joined with the next.
        """
        self._phases = PhaseLog(meter, prefix=prefix, gco2e_per_kwh=gco2e_per_kwh, min_interval_s=min_interval_s)
        self._batch_size = batch_size
        self._logged_step = 0
        self._batches_to_go = 0  # until the interval may end; before that a batch costs no look at the trainer
        self._one_loader = False
        self._replicas = 1.0  # processes of this node that each take batches of their own
        self._resumes = False  # whether a checkpoint that is loaded now is one to go on from, and of this process

    @property
    def totals(self) -> dict[str, Account]:
        """By phase, what was used so far in turns that have ended; empty in processes that do not report."""
        return self._phases.totals

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Lightning restores callbacks after this, in every process, and also to validate, test and predict.
        self._resumes = stage == "fit" and trainer.global_rank == 0
        if trainer.local_rank or not reports_here():
            return

        def log(metrics: dict[str, float]) -> None:
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=trainer.global_step)

        self._phases.start(log, lambda: meter_of(trainer.strategy.root_device.type, trainer.device_ids))
        if isinstance(trainer.strategy, ParallelStrategy):
            sampler = trainer.strategy.distributed_sampler_kwargs or {}
            self._replicas = sampler.get("num_replicas", 1) / trainer.num_nodes

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._phases.enter("sanity_check")

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._phases.leave("sanity_check")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logged_step = trainer.global_step
        self._batches_to_go = 0
        self._one_loader = not isinstance(trainer.train_dataloader, Mapping | list | tuple)
        self._phases.enter("train")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._one_loader:
            self._phases.count(self._replicas * self._batch_size(batch))
        else:
            self._phases.count(self._replicas * self._samples(batch, trainer.train_dataloader))
        self._batches_to_go -= 1
        if self._batches_to_go > 0:
            return
        every_steps = trainer.log_every_n_steps  # type: ignore[attr-defined]
        # With accumulated gradients the step stays the same over several batches.
        steps = trainer.global_step - self._logged_step
        if steps >= every_steps > 0:
            self._logged_step = trainer.global_step
            steps = 0
            self._phases.interval()
        # A batch is one step at most, but where the module steps its optimizers itself.
        self._batches_to_go = every_steps - steps if pl_module.automatic_optimization else 0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._phases.leave("train")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._phases.enter("validation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._phases.leave("validation")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._phases.enter("test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._phases.leave("test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._phases.enter("predict")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._phases.leave("predict")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._phases.count(self._replicas * self._batch_size(batch))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._phases.count(self._replicas * self._batch_size(batch))

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._phases.count(self._replicas * self._batch_size(batch))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._phases.finish()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._phases.finish()

    def state_dict(self) -> dict[str, Any]:
        return self._phases.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._resumes:
            self._phases.restore(state_dict)

    def _samples(self, batch: Any, loaders: Any) -> int:
        """Of a batch of each of several training dataloaders together, of which some may have run out."""
        if isinstance(loaders, Mapping) and isinstance(batch, Mapping):
            parts = list(batch.values())
        elif isinstance(loaders, list | tuple) and isinstance(batch, list | tuple) and len(batch) == len(loaders):
            parts = list(batch)
        else:
            parts = [batch]
        return sum(self._batch_size(part) for part in parts if part is not None)
