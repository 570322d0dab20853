"""What the callbacks cost a training step.

    python -m tests.integrations.overhead --out results/energy-meter

writes integrations.json. One training on one thread, in which measuring goes on and off: blocks of steps in pairs, one with
and one without, in seeded random order within the pair. Compared is CPU time of the whole process, the sampler's thread
included, which a busy machine changes least. What the callback does while it measures nothing (to be called) is in both;
it is timed apart and added. The estimate, fixed beforehand, is the 20 % trimmed mean of the pairs' log-ratios with its
bootstrap interval.

Beside that, what does not depend on differences: CPU time of the callback's own functions, logging included, in the blocks
that are measured, as a fraction of their CPU time ("own_percent"); on a busy machine this is the one to believe.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.loggers import CSVLogger
from scipy.stats import bootstrap, trim_mean
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from greenprune.integrations import LightningEnergyCallback, TransformersEnergyCallback
from greenprune.integrations.recorder import PhaseLog, first_dimension

WIDTH, BATCH = 512, 256
STEPS = 100  # in a block; the logging interval is 50, so that every block has what two cost


class Blocks:
    """Turns measuring on and off, and takes the time of each block. Call `step` after every training step."""

    def __init__(self, phases: PhaseLog, pairs: int, seed: int = 0) -> None:
        self._phases = phases
        random.seed(seed)
        self._order = [on for _ in range(pairs) for on in random.sample([True, False], 2)]
        self.cpu_s: list[tuple[bool, float]] = []
        self.own_s = 0.0
        self._own: list[float] = []
        self.steps = STEPS * (len(self._order) + 1)  # the first block warms up
        self._done = 0
        self._began_s = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, whose CPU time counts as the callback's own."""

        @functools.wraps(call)
        def own(*args: Any, **kwargs: Any) -> Any:
            began_s = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.own_s += time.thread_time() - began_s

        return own

    def step(self) -> None:
        self._done += 1
        if self._done % STEPS:
            return
        cpu_s = time.process_time() - self._began_s
        block = self._done // STEPS - 1  # which has ended; block 0 warmed up
        if block > 0:
            self.cpu_s.append((self._order[block - 1], cpu_s))
            if self._order[block - 1]:
                self._own.append(self.own_s / cpu_s)
        self.own_s = 0.0
        self._phases.leave("train")
        if block < len(self._order) and self._order[block]:
            self._phases.enter("train")
        self._began_s = time.process_time()

    def figures(self) -> dict[str, Any]:
        pairs = [dict(self.cpu_s[i : i + 2]) for i in range(0, len(self.cpu_s), 2)]
        logs = np.array([np.log(pair[True] / pair[False]) for pair in pairs])

        def estimate(sample: np.ndarray, axis: int = -1) -> np.ndarray:
            return trim_mean(sample, 0.2, axis=axis)

        interval = bootstrap((logs,), estimate, method="percentile", rng=np.random.default_rng(0)).confidence_interval
        step_s = float(np.median([pair[False] for pair in pairs])) / STEPS
        return {
            "pairs": len(pairs),
            "step_ms": 1000 * step_s,
            "own_percent": 100 * float(np.median(self._own)),
            "percent": 100 * float(np.expm1(estimate(logs))),
            "percent_low": 100 * float(np.expm1(interval.low)),
            "percent_high": 100 * float(np.expm1(interval.high)),
        }


def network() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, 1)
    )


def lightning(pairs: int, folder: Path) -> dict[str, Any]:
    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            loss = self.network(batch).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    energy = LightningEnergyCallback()
    blocks = Blocks(energy._phases, pairs)
    batch_end = energy.on_train_batch_end
    energy.on_train_batch_end = blocks.timed(batch_end)  # type: ignore[method-assign]

    class Toggle(Callback):
        def on_train_start(self, *_: Any) -> None:
            energy._phases.leave("train")

        def on_train_batch_end(self, *_: Any) -> None:
            blocks.step()

    trainer = LightningTrainer(
        max_steps=blocks.steps, max_epochs=-1, accelerator="cpu", devices=1, logger=CSVLogger(folder),
        callbacks=[energy, Toggle()], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(torch.randn(20 * BATCH, WIDTH), batch_size=BATCH))
    idle_s = called_s(lambda: batch_end(trainer, trainer.lightning_module, None, torch.ones(4, 4), 0))
    return with_idle(blocks.figures(), idle_s)


def transformers(pairs: int, folder: Path) -> dict[str, Any]:
    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": self.network(x).square().mean()}

    samples = [{"x": row} for row in torch.randn(20 * BATCH, WIDTH)]
    arguments = {
        "output_dir": str(folder), "per_device_train_batch_size": BATCH, "logging_steps": 50, "save_strategy": "no",
        "report_to": [], "use_cpu": True, "disable_tqdm": True, "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }  # fmt: skip
    trainer = Trainer(Module(), TrainingArguments(**arguments, max_steps=1), train_dataset=samples)
    energy = TransformersEnergyCallback(trainer)
    blocks = Blocks(energy._phases, pairs)
    energy._phases.count = blocks.timed(energy._phases.count)  # type: ignore[method-assign]
    energy.on_log = blocks.timed(energy.on_log)  # type: ignore[method-assign]

    class Toggle(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            energy._phases.leave("train")

        def on_step_end(self, *_: Any, **__: Any) -> None:
            blocks.step()

    trainer.args.max_steps = blocks.steps
    trainer.add_callback(energy)
    trainer.add_callback(Toggle())
    trainer.train()
    inputs = {"x": torch.ones(4, 4)}
    idle_s = called_s(lambda: energy._phases.count(first_dimension(inputs)))
    return with_idle(blocks.figures(), idle_s)


def called_s(call: Callable[[], object]) -> float:
    times_s = []
    for _ in range(2000):
        began_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - began_s)
    return float(np.median(times_s))


def with_idle(figures: dict[str, Any], idle_s: float) -> dict[str, Any]:
    idle = 100 * idle_s / (figures["step_ms"] / 1000)
    return figures | {
        "called_us": 1e6 * idle_s,
        "total_percent": figures["percent"] + idle,
        "total_percent_low": figures["percent_low"] + idle,
        "total_percent_high": figures["percent_high"] + idle,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    found = {}
    for measure in (lightning, transformers):
        with tempfile.TemporaryDirectory() as folder:
            found[measure.__name__] = measure(arguments.pairs, Path(folder))
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.out:
        (arguments.out / "integrations.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
