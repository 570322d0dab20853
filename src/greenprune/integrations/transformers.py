"""Joules of a Hugging Face training, in its own loggers."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.node.ranks import local_rank
from greenprune.bench.records.stored import write_atomically
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
    import accelerate  # noqa: F401 (the Trainer needs it)
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint
except ImportError as e:
    raise MissingFrameworkError("transformers") from e

STATE_FILE = "greenprune_energy-{node}.json"
"""In a checkpoint's folder, which all nodes may share: the sums of one of them, numbered from 0."""


class TransformersEnergyCallback(TrainerCallback):
    """`trainer.add_callback(TransformersEnergyCallback(trainer))`: energy of train, validation, test and predict.

    Whenever the trainer logs its loss (`logging_steps`) its loggers get the joules since the last time
    (`energy/train/KIND/interval_j`, with `interval_low_j`, `interval_high_j` and each of them `_per_sample`), at the end
    of a phase those of the phase (`energy/validation/KIND/j`) and of all its turns (`total_j`), which go on from a
    checkpoint that was resumed. KIND is measured, sampled or modelled. `trainer.evaluate` is validation, with
    `metric_key_prefix="test"` test, `trainer.predict` predict; an evaluation inside a training does not count as train.
    What was measured until an exception or Ctrl-C is logged.

    It takes the trainer because callbacks are not told where an evaluation begins, nor of exceptions, and cannot log: it
    wraps `train`, `training_step` and `evaluation_loop` of this one trainer. The process with local rank 0 reports for
    its node. Loggers write on the first node only; of the others `totals` and Python's logger `greenprune.integrations`
    have the figures.
    """

    def __init__(
        self,
        trainer: Trainer,
        meter: EnergyMeter | None = None,
        *,
        batch_size: Callable[[Any], int] = first_dimension,
        prefix: str = "energy",
        gco2e_per_kwh: float | None = None,
        min_interval_s: float = MIN_INTERVAL_S,
    ) -> None:
        """Args:
        trainer: whose training is measured.
        meter: the meter to use; None: one of the trainer's devices on this node.
        batch_size: samples in the inputs of a step. As it is, the length of the first tensor.
        prefix: what the names in the log begin with.
        gco2e_per_kwh: grid intensity, to log grams of CO2 equivalent too.
        min_interval_s: shorter logging intervals are joined with the next.
        """
        self._phases = PhaseLog(meter, prefix=prefix, gco2e_per_kwh=gco2e_per_kwh, min_interval_s=min_interval_s)
        self._state_file = ""
        arguments = trainer.args
        if arguments.local_process_index or not reports_here():
            return
        here = local_rank(os.environ) if arguments.world_size > 1 else None
        # Processes of this node; each takes batches of its own. Where nobody says how many, samples are not counted.
        local_size = 1 if here is None else here.size
        nodes = arguments.world_size / (local_size or 1)
        self._state_file = STATE_FILE.format(node=arguments.process_index // (local_size or 1))
        gpus = range(max(1, arguments.n_gpu)) if here is None else range(local_size or 0)
        self._phases.start(_to_loggers(trainer), lambda: meter_of(arguments.device.type, gpus))
        train, training_step, evaluation_loop = trainer.train, trainer.training_step, trainer.evaluation_loop

        @functools.wraps(train)
        def measured_train(resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
            self._resume(resume_from_checkpoint, arguments.output_dir or "")
            try:
                return train(resume_from_checkpoint, *args, **kwargs)
            finally:
                self._phases.finish()

        @functools.wraps(training_step)
        def counted_step(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._phases.count((local_size or 0) * batch_size(inputs))
            return training_step(model, inputs, *args, **kwargs)

        @functools.wraps(evaluation_loop)
        def measured_evaluation(dataloader: Any, description: str, *args: Any, **kwargs: Any) -> Any:
            with self._phases.phase(_phase(description, kwargs.get("metric_key_prefix", "eval"))):
                output = evaluation_loop(dataloader, description, *args, **kwargs)
                self._phases.count((output.num_samples or 0) / nodes if local_size else 0)
                return output

        trainer.train = measured_train  # type: ignore[method-assign]
        trainer.training_step = counted_step  # type: ignore[method-assign]
        trainer.evaluation_loop = measured_evaluation  # type: ignore[method-assign]

    @property
    def totals(self) -> dict[str, Account]:
        """By phase, what was used so far in turns that have ended; empty in processes that do not report."""
        return self._phases.totals

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._phases.finish()  # a training that began anew, with smaller batches
        self._phases.enter("train")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._phases.leave("train")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if "loss" in (logs or {}):
            self._phases.interval()
        if "train_runtime" in (logs or {}):
            self._phases.leave("train")  # loggers close at the end of the training, which they may be told of first

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        stored = self._phases.state()
        folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        if stored and folder.is_dir():
            write_atomically(folder / self._state_file, json.dumps(stored))

    def _resume(self, checkpoint: str | bool | None, output_dir: str) -> None:
        folder = get_last_checkpoint(output_dir) if checkpoint is True else checkpoint
        path = Path(folder, self._state_file) if folder else None
        if path is not None and path.is_file():
            self._phases.restore(json.loads(path.read_text(encoding="utf-8")))


def _to_loggers(trainer: Trainer) -> Callable[[dict[str, float]], None]:
    return lambda metrics: trainer.log(dict(metrics))


def _phase(description: str, prefix: str) -> str:
    if description == "Prediction":
        return "predict"
    return "test" if prefix.split("_")[0] == "test" else "validation"
