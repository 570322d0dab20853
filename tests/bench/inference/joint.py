"""A suite of three small networks whose inference is measured together."""

from __future__ import annotations

from pathlib import Path

import torch
from greenprune.bench.data.content import file_hash
from greenprune.bench.inference.job import JointJob
from greenprune.bench.records.record import write_record
from greenprune.bench.records.store import save_model
from greenprune.methods import count_macs
from torch import nn

from tests.plots.records import record

FACTORY = """
from torch import nn

def net(classes, width=32):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes),
    )
"""
SETTINGS = {
    "dataset": "digits",
    "model": "joint_networks:net",
    "device": "cpu",
    "training": {"precision": "float32", "channels_last": True},
    "measurement": {"inference_batch_sizes": [1, 4], "inference_seconds": 0.05},
}
WIDTHS = {"dense-1-s0": 32, "gated-0.5-s0": 4, "magnitude-0.5-s0": 20}


def add(folder: Path, key: str, width: int, **changes: object) -> None:
    """A finished run and its network."""
    import joint_networks  # type: ignore[import-not-found]

    *_, method, budget, seed = key.split("-")
    model: nn.Module = joint_networks.net(10, width)
    made = record(method, budget=float(budget), seed=int(seed[1:]), suite="mine", settings=SETTINGS)
    assert made.cost is not None
    assert made.ledger is not None
    macs = count_macs(model, torch.zeros(2, 3, 32, 32))
    dense = macs if method == "dense" else max(macs, made.cost.macs_dense)
    cost = made.cost.model_copy(update={"macs": macs, "macs_dense": dense})
    entries = tuple(e.model_copy(update={"forward_macs": e.samples * macs}) for e in made.ledger.entries)
    ledger = made.ledger.model_copy(update={"entries": entries})
    machine = {**made.machine, "threads": 1}
    (folder / key).mkdir(parents=True, exist_ok=True)
    stored = save_model(model, folder / key, name=SETTINGS["model"], classes=10, input_shape=(3, 32, 32))
    own = {"key": key, "cost": cost, "ledger": ledger, "machine": machine, "files": {stored.name: file_hash(stored)}}
    write_record(made.model_copy(update=own | changes), folder / key)


def job(folder: Path, **options: object) -> JointJob:
    return JointJob.model_validate(
        {"folder": str(folder), "command": "greenprune measure results/mine", "trust": True, **options}
    )


def silent(line: str) -> None:
    """Says nothing."""
