"""Callbacks in one of several processes that a launcher started: whose GPUs count, and whose samples."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from greenprune.bench.energy.node.usage import NodeRanks

from greenprune.integrations import recorder
from tests.integrations.conftest import Known

TORCHRUN = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4", "RANK": "0", "WORLD_SIZE": "8"}
DEEPSPEED = {"LOCAL_RANK": "0", "LOCAL_SIZE": "4", "RANK": "0", "WORLD_SIZE": "8"}
UNKNOWN = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "8"}


@pytest.mark.parametrize(
    ("environ", "trained", "evaluated"), [(TORCHRUN, 32, 500), (DEEPSPEED, 32, 500), (UNKNOWN, 0, 0), ({}, 64, 125)]
)
def test_samples_are_those_of_the_processes_of_this_node_or_none(
    environ: dict[str, str], trained: int, evaluated: int, integration, meter, known: Known, monkeypatch
) -> None:
    """Of two nodes with four processes each, or eight with one (`{}`), each of which takes 8 samples a step."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    module = integration("transformers")
    arguments = SimpleNamespace(local_process_index=0, process_index=0, world_size=8, n_gpu=1, output_dir="")
    trainer: Any = SimpleNamespace(
        args=arguments, train=lambda checkpoint: None, training_step=lambda *_: None, log=dict
    )
    trainer.evaluation_loop = lambda *_, **__: SimpleNamespace(num_samples=1000)
    energy = module.TransformersEnergyCallback(trainer, meter)
    energy.on_train_begin(arguments, SimpleNamespace(global_step=0), None)
    for _ in range(1 if environ else 8):
        trainer.training_step(None, {"x": torch.zeros(8, 1)})
    energy.on_train_end(arguments, SimpleNamespace(global_step=1), None)
    trainer.evaluation_loop(None, "Evaluation")
    assert {phase: account.samples for phase, account in energy.totals.items()} == {
        "train": trained,
        "validation": evaluated,
    }


@pytest.mark.parametrize(
    ("environ", "device", "gpus", "shown", "asked"),
    [
        ({}, "cuda", (2, 3), 8, (None, ["2", "3"])),
        ({}, "cpu", (), 8, ("cpu", None)),
        (TORCHRUN, "cuda", range(4), 8, (None, ["0", "1", "2", "3"])),
        (TORCHRUN, "cuda", range(4), 1, (None, None)),  # each is shown its own alone
        (TORCHRUN, "cuda", (0,), 1, (None, None)),
        (TORCHRUN, "cpu", range(4), 8, ("cpu", None)),
        ({"LOCAL_RANK": "0"}, "cuda", (2, 3), 8, (None, ["2", "3"])),  # Lightning's own, which does not say how many
        (UNKNOWN, "cuda", (), 8, (None, None)),
    ],
)
def test_the_gpus_are_those_of_the_trainer_where_they_are_known(
    environ: dict[str, str], device: str, gpus: Any, shown: int, asked: tuple[Any, Any], meter, monkeypatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: shown)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=index))
    made: dict[str, Any] = {}

    def meter_like(device: str | None = None, **options: Any) -> None:
        made.update(device=device, **options)

    monkeypatch.setattr(recorder, "EnergyMeter", meter_like)
    recorder.meter_of(device, gpus)
    assert (made["device"], made.get("gpu_uuids")) == asked
    assert made["ranks"] == "one_per_node"
    assert isinstance(made["usage"], NodeRanks) == bool(environ)
