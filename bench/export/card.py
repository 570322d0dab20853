"""What is known of an exported network, for its model card.

Plain data: whoever has no record of a run (a network pruned on its own) makes a `Card` of what is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from greenprune.bench.records.cost import Cost
from greenprune.bench.records.inference import Inference
from greenprune.bench.records.record import Record
from greenprune.bench.records.score import Score
from greenprune.bench.records.validity import bounds_of
from greenprune.bench.text import told_count
from greenprune.methods.cost.kinds import COST_NAMES, MEASURED


@dataclass(frozen=True)
class Measured:
    """One row of the card's table: the network in a runtime at a batch size."""

    runtime: str
    precision: str
    batch_size: int
    latency_ms: float
    latency_ratio: float | None = None  # to the dense network
    energy: dict[str, tuple[float, float | None]] = field(default_factory=dict)  # by kind: J per 1,000 images, ratio


@dataclass(frozen=True)
class Card:
    """What is known of an exported network. Units: MACs for one image, ms per batch.

    Attributes:
        method: what pruned it; empty: nothing did.
        connections: nonzero weights that are left, and of the dense network; where the budget counts them.
        budget: what was asked for, as the end of a sentence.
        invalid_reason: the rule that the run has broken, as the end of a sentence.
        dynamic: whether the file takes batches of any size; else it takes one image at a time.
        score_interval: 95 %, of the share of images that are right; None for scores of another kind.
        licence: of the weights, as an identifier of the Hub; empty: not stated.
    """

    name: str
    network: str  # the dense network that it was cut out of
    task: str
    dataset: str
    to: str  # "onnx", "openvino", "pt2"
    precision: str  # "float32", "int8"
    macs: int
    macs_dense: int
    params: int
    params_dense: int
    input_shape: tuple[int, ...]
    method: str = ""
    connections: tuple[int, int] | None = None
    budget: str = ""
    invalid_reason: str = ""
    dynamic: bool = True
    score: Score | None = None
    score_value: float | None = None
    score_interval: tuple[float, float] | None = None
    test_images: int | None = None
    measured: tuple[Measured, ...] = ()
    machine: str = ""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] = ()
    licence: str = ""
    difference: float | None = None  # of the file from eager PyTorch, max |difference| / max |output|
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def card_of(record: Record, *, to: str, precision: str, input_shape: tuple[int, ...], **more: Any) -> Card:
    """The card of a finished run's network; `more`: other fields of `Card`."""
    cost = record.cost
    assert cost is not None  # it is done
    task = record.settings.get("task")
    images = (record.settings.get("images") or {}).get("test")
    value = record.test_score
    if precision == "int8":  # that of float32 is none of this file
        value = more.pop("score_value", None)
    score = record.score
    right = score is not None and score.name == "accuracy"
    return Card(
        name=f"{record.suite}-{record.key}",
        network=record.pair[1],
        task=str(task.get("name")) if isinstance(task, dict) else "classification",
        dataset=record.pair[0],
        to=to,
        precision=precision,
        macs=cost.macs,
        macs_dense=cost.macs_dense,
        params=cost.params,
        params_dense=cost.params_dense,
        input_shape=input_shape,
        method=record.method if record.budget < 1 else "",
        connections=_connections(cost),
        budget=asked_for(cost) if record.budget < 1 else "",
        invalid_reason=(record.invalid_reason or "") if record.valid is False else "",
        score=score,
        score_value=value,
        score_interval=interval(value, images) if right and value is not None and images else None,
        test_images=images,
        measured=tuple(_measured(record)),
        machine=", ".join(
            str(record.machine[key]) for key in ("gpu", "cpu") if record.machine.get(key)
        ) + (f", {told_count(record.machine['threads'], 'thread')}" if record.machine.get("threads") else ""),
        versions=record.versions,
        **more,
    )  # fmt: skip


def asked_for(cost: Cost) -> str:
    """A budget, as the end of a sentence: what it counts and, where that is measured, in which runtime and batches."""
    share = f"{cost.budget:g} of the dense network's"
    if cost.connections is not None:
        return f"at most {share} connections"
    if cost.kind not in MEASURED:
        on_average = " on average over test images" if cost.sample_macs is not None else ""
        return f"at most {share} {COST_NAMES[cost.kind]}{on_average}"
    low, high = bounds_of(cost)
    found, where, kind = cost.calibration, "", ""
    if found is not None:
        runtime = "eager PyTorch" if found.runtime == "eager" else found.runtime
        where = f", at batch size {found.batch_size} in {runtime}"
        kind = f"{found.energy_kind} " if found.energy_kind is not None else ""
    return f"{share} {kind}{COST_NAMES[cost.kind]} of inference, within {low:g} to {high:g}{where}"


def _connections(cost: Cost) -> tuple[int, int] | None:
    left, dense = cost.connections, cost.connections_dense
    return None if left is None or not dense else (left, dense)


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` images."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def _measured(record: Record) -> Sequence[Measured]:
    precision = str((record.settings.get("training") or {}).get("precision", "float32"))
    found = [_row("eager", record.identity.precision or precision, part) for part in record.inference]
    for served in record.served:
        found += [_row(served.runtime, served.precision, part) for part in served.inference]
    return found


def _row(runtime: str, precision: str, part: Inference) -> Measured:
    energy = {
        str(kind): (value, part.energy_ratio[kind][0] if kind in part.energy_ratio else None)
        for kind, (value, _, _) in part.energy_j_per_1000_images.items()
    }
    return Measured(runtime, precision, part.batch_size, part.latency.median_ms, part.latency_ratio, energy)
