"""A small factory of realistic records, and of the folders they are stored in."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from greenprune.bench.energy.reading import Kind, Reading, SourceReading
from greenprune.bench.records.cost import Cost, SampleMacs
from greenprune.bench.records.inference import Inference, Latency
from greenprune.bench.records.record import Emissions, Epoch, Failure, Ledger, LedgerEntry, Record, write_record
from greenprune.bench.records.score import Score
from greenprune.plots.figures.power_samples import POWER_COLUMNS, POWER_FILE

ACCURACY = Score(name="accuracy", unit="fraction")

DENSE_MACS, DENSE_PARAMS = 40_800_000, 272_474
SAMPLES = 8 * 45_000

NINE = (
    "dense", "uniform", "random", "magnitude", "magnitude_unstructured", "slimming", "depgraph", "dynamic", "gated",
)  # fmt: skip
"""As many methods as a comparison has at most, as a rule."""

LOSS_POINTS = {
    "dense": 0.0, "uniform": 1.3, "random": 2.4, "magnitude": 1.6, "magnitude_unstructured": 0.4,
    "slimming": 1.2, "depgraph": 1.1, "dynamic": 0.8, "gated": 0.7,
}  # fmt: skip
"""Points of test accuracy that a method typically loses at half of the MACs."""


def source(
    joules: float | None, kind: Kind = "modelled", name: str = "cpu", low: float = 0.7, high: float = 1.4
) -> SourceReading:
    """One source; `low` and `high` are factors on the joules. `joules` None: an invalid source."""
    if joules is None:
        return SourceReading(name=name, kind=kind, energy_j=None, valid=False, reason="counter was reset")
    return SourceReading(name=name, kind=kind, energy_j=joules, low_j=joules * low, high_j=joules * high)


def reading(*sources: SourceReading, duration_s: float = 10.0, warnings: tuple[str, ...] = ()) -> Reading:
    return Reading(name="window", duration_s=duration_s, sources=sources, warnings=warnings)


def inference(
    batch_size: int,
    ratio: float,
    *,
    joules_per_1000: float = 4.0,
    kinds: tuple[Kind, ...] = ("modelled",),
    images: int = 5_000,
) -> Inference:
    """The network takes `ratio` of the dense time and joules; dense takes 4 J per 1,000 images and kind."""
    dense_ms = 5.0 if batch_size == 1 else 0.5 * batch_size
    dense_images = int(images * ratio)  # the slower network classifies fewer images in a block of the same length
    dense_j, ours_j = joules_per_1000 * dense_images / 1000, joules_per_1000 * ratio * images / 1000
    return Inference(
        batch_size=batch_size,
        blocks=10,
        images=images,
        dense_images=dense_images,
        latency=Latency(median_ms=dense_ms * ratio, p05_ms=dense_ms * ratio * 0.95, p95_ms=dense_ms * ratio * 1.1),
        dense_latency=Latency(median_ms=dense_ms, p05_ms=dense_ms * 0.95, p95_ms=dense_ms * 1.1),
        latency_ratio=ratio,
        latency_ratio_low=ratio - 0.02,
        latency_ratio_high=ratio + 0.02,
        energy=reading(*(source(ours_j, kind) for kind in kinds)),
        dense_energy=reading(*(source(dense_j, kind) for kind in kinds)),
    )


def record(
    method: str = "dense",
    *,
    budget: float | None = None,
    seed: int = 0,
    kinds: tuple[Kind, ...] = ("modelled",),
    batches: tuple[int, ...] = (1, 250),
    **changes: Any,
) -> Record:
    """A finished run with plausible figures, the same ones every time. `changes` replace fields of the record."""
    budget = (1.0 if method == "dense" else 0.5) if budget is None else budget
    noise = random.Random(f"{method} {budget} {seed}")
    kept = 1.0 if method == "dense" else budget - noise.uniform(0.0, 0.015)
    loss_points = LOSS_POINTS.get(method, 1.0) * ((1 - budget) / 0.5) ** 1.6
    seed_points = random.Random(seed).gauss(0, 0.15)  # the seed moves all methods together, as real seeds do
    accuracy = 0.861 + (seed_points - loss_points + noise.gauss(0, 0.1)) / 100
    training_macs = int(SAMPLES * DENSE_MACS * (1 if method == "dense" else 0.6 + 0.4 * kept))
    seconds = 360 * (0.3 + 0.7 * training_macs / (SAMPLES * DENSE_MACS)) * noise.uniform(0.97, 1.03)
    ratio = 1.0 if method == "dense" else 0.45 + 0.55 * kept
    fields: dict[str, Any] = {
        "status": "done",
        "suite": "cifar10-cpu",
        "key": f"{method}-{budget:g}-{seed}",
        "method": method,
        "method_name": method,
        "budget": budget,
        "seed": seed,
        "settings": {"dataset": "cifar10", "model": "resnet20", "task": {"name": "classification"}, "epochs": 8},
        "machine": {"cpu": "Example CPU 9000", "cores": 4, "memory_gib": 16.0, "os": "Linux 6.1"},
        "versions": {"greenprune": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        "command": "greenprune run cifar10-cpu --data data",
        "started_at": "2026-01-02T10:00:00Z",
        "finished_at": "2026-01-02T10:06:00Z",
        "valid": True,
        "cost": Cost(
            budget=budget,
            tolerance=0.02,
            macs=int(DENSE_MACS * kept),
            macs_dense=DENSE_MACS,
            params=int(DENSE_PARAMS * (1.0 if method == "dense" else kept * 0.95)),
            params_dense=DENSE_PARAMS,
        ),
        "ledger": Ledger(
            allowance_samples=SAMPLES,
            entries=(LedgerEntry(phase="train", samples=SAMPLES, forward_macs=training_macs, duration_s=seconds),),
        ),
        "score": ACCURACY,
        "train_score": accuracy + 0.02,
        "holdout_score": accuracy + 0.002,
        "test_score": accuracy,
        "energy": {"training": reading(*(source(22.0 * seconds, kind) for kind in kinds), duration_s=seconds)},
        "inference": tuple(inference(batch, ratio if batch > 1 else ratio + 0.1, kinds=kinds) for batch in batches),
        "emissions": Emissions(
            country="DEU",
            grid_gco2e_per_kwh=381.0,
            source="CodeCarbon 3.3.2, country average",
            training_gco2e=dict.fromkeys(kinds, 22.0 * seconds / 3600000.0 * 381.0),
        ),
    }
    return Record(**fields | changes)


def with_epochs(run: Record, count: int = 8) -> Record:
    """The same with a learning curve that ends at its scores."""
    assert run.ledger is not None
    assert run.train_score is not None
    assert run.holdout_score is not None
    seconds = sum(entry.duration_s for entry in run.ledger.entries) / count
    epochs = [
        Epoch(
            epoch=i + 1,
            phase="train",
            loss=2.0 / (i + 1),
            train_score=run.train_score - 0.4 * (1 - (i + 1) / count),
            holdout_score=run.holdout_score - 0.4 * (1 - (i + 1) / count),
            kept_macs=1.0,
            learning_rate=0.1,
            duration_s=seconds,
        )
        for i in range(count)
    ]
    return run.model_copy(update={"epochs": tuple(epochs)})


def of_dense(key: str, settings: dict[str, Any], **changes: Any) -> Record:
    """A finished run of dense with settings that say its images and its length."""
    epochs, size = settings["training"]["epochs"], settings["training"]["batch_size"]
    samples = settings["images"]["train"] // size * size * epochs
    seconds = record().energy["training"].duration_s
    entry = LedgerEntry(phase="train", samples=samples, forward_macs=samples * DENSE_MACS, duration_s=seconds)
    made = record(
        key=key,
        settings=settings,
        ledger=Ledger(allowance_samples=samples, entries=(entry,)),
        train_score=1.0,
        holdout_score=1.0,
        test_score=1.0,
        **changes,
    )
    return with_epochs(made, epochs)


LAYERS = {
    "conv1": 16,
    **{
        f"layer{stage}.{block}.{conv}": 8 * 2**stage
        for stage in (1, 2, 3)
        for block in (0, 1, 2)
        for conv in ("conv1", "conv2")
    },
    "fc": 10,
}
"""Layers of ResNet-20 with their channels."""


def widths(seed: int, keep: float, closed: tuple[str, ...] = ()) -> dict[str, int]:
    """Kept channels of `LAYERS`: about the share `keep` of the inner ones, none of the `closed` blocks."""
    noise = random.Random(seed)
    kept = dict(LAYERS)
    for name, full in LAYERS.items():
        if name.startswith("layer") and name.endswith("conv1"):
            kept[name] = max(1, min(full, round(full * keep * noise.uniform(0.4, 1.5))))
        if name.rpartition(".")[0] in closed:
            kept[name] = 0
    return kept


def with_widths(run: Record, kept: dict[str, int]) -> Record:
    assert run.cost is not None
    return run.model_copy(update={"cost": run.cost.model_copy(update={"widths": kept, "widths_dense": LAYERS})})


def gate_history(seed: int = 0, search_steps: int = 240, rows: int = 24) -> dict[str, Any]:
    """Consensus of gates that are undecided first and agree at the end, as `greenprune.methods.gating.module` tells it."""
    noise = random.Random(seed)
    ends = {name: [noise.random() < 0.55 for _ in range(LAYERS[name])] for name in LAYERS if name.endswith("conv1")}
    ends = {name: end for name, end in ends.items() if name != "conv1"}

    def row(step: int, end: bool, start: float) -> float:
        t = max(0.0, step / search_steps - 0.2) / 0.8
        return round(start + (float(end) - start) * min(1.0, t * 1.1), 2)

    steps = [search_steps * (i + 1) // rows for i in range(rows)]
    starts = {name: [noise.uniform(0.75, 0.95) for _ in end] for name, end in ends.items()}
    channels = {
        name: [[row(step, e, s) for e, s in zip(end, starts[name], strict=True)] for step in steps]
        for name, end in ends.items()
    }
    layers = {name.rpartition(".")[0]: [[row(step, noise.random() < 2, 0.88)] for step in steps] for name in ends}
    return {"steps": steps, "search_steps": search_steps, "channels": channels, "layers": layers}


def power(
    place: Path, *, minutes: float = 6.0, watts: float = 22.0, phases: tuple[str, ...] = ("search", "train")
) -> Path:
    """Write power.parquet beside a record: a sample of two sources each second, phases of equal length."""
    noise, seconds = random.Random(0), int(minutes * 60)
    rows = [
        (float(t), source, "modelled", base + noise.gauss(0, base / 30), phases[len(phases) * t // seconds])
        for t in range(seconds)
        for source, base in (("cpu", watts), ("ram", 6.0))
    ]  # fmt: skip
    path = place / POWER_FILE
    pd.DataFrame(rows, columns=list(POWER_COLUMNS)).to_parquet(path)
    return path


def failed(method: str = "magnitude", *, seed: int = 0, reason: str = "killed by signal 11 (SIGSEGV)") -> Record:
    return Record(
        status="failed",
        suite="cifar10-cpu",
        key=f"{method}-0.5-{seed}",
        method=method,
        method_name=method,
        budget=0.5,
        seed=seed,
        settings={},
        machine={"cpu": "Example CPU 9000", "cores": 4},
        failure=Failure(reason=reason, last_output="epoch 3\nFatal Python error"),
    )


def grid(
    methods: tuple[str, ...] = ("dense", "gated", "magnitude"),
    budgets: tuple[float, ...] = (0.5,),
    seeds: int = 1,
    **settings: Any,
) -> list[Record]:
    """Every method at every budget and seed; dense once per seed."""
    return [
        record(method, budget=budget, seed=seed, **settings)
        for method in methods
        for budget in ((1.0,) if method == "dense" else budgets)
        for seed in range(seeds)
    ]


def store(folder: Path, *records: Record) -> Path:
    """Write the records where `greenprune run` would; returns the results folder."""
    for stored in records:
        write_record(agreeing(stored), folder / stored.suite / stored.key)
    return folder


def agreeing(run: Record) -> Record:
    """A record of which a test changed one figure, with those that say the same in other words: a contradiction is refused."""
    if run.status != "done" or run.ledger is None:
        return run
    seconds = sum(entry.duration_s for entry in run.ledger.entries)
    changes: dict[str, Any] = {}
    training = run.energy.get("training")
    if training is not None:
        training = training.model_copy(update={"duration_s": seconds})
        changes["energy"] = run.energy | {"training": training}
    if run.emissions is not None:
        grams = run.emissions.grid_gco2e_per_kwh * run.emissions.pue / 3.6e6
        joules = {kind: training.energy_j(kind) if training else None for kind in run.emissions.training_gco2e}
        given = {kind: grams * energy_j for kind, energy_j in joules.items() if energy_j is not None}
        changes["emissions"] = run.emissions.model_copy(update={"training_gco2e": given})
    if run.finished_at:
        started = datetime.fromisoformat(run.finished_at) - timedelta(seconds=seconds + 10)
        changes["started_at"] = started.isoformat()
    return run.model_copy(update=changes)


def rich(folder: Path, *runs: Record) -> Path:
    """Store the records with all that figures draw: widths, gates, histograms, intervals, power of seed 0."""
    for run in runs:
        kept = dict(LAYERS)
        if run.method_name != "dense":
            kept = widths(run.seed, run.budget, ("layer2.1",) if run.method_name == "gated" else ())
        full = with_widths(run, kept)
        if run.method_name == "gated":
            full = full.model_copy(update={"history": gate_history(run.seed)})
        if run.method_name == "slimming":
            counts = {"edges": [0.0, 0.1, 0.2, 0.3], "counts": [40, 30, 50]}
            full = full.model_copy(update={"history": {"scale_histogram": counts}})
        if run.method_name == "dynamic" and full.cost is not None:
            edges, images = (0.0, 0.25, 0.5, 0.75, 1.0), (0, 200, 100, 59)
            low, high = 0.62 * run.budget, min(1.0, 1.8 * run.budget)
            sampled = SampleMacs(images=359, mean=run.budget, std=0.06, low=low, high=high, edges=edges, counts=images)
            full = full.model_copy(update={"cost": full.cost.model_copy(update={"sample_macs": sampled})})
        measured = [
            m.model_copy(
                update={
                    "energy_ratio": {
                        s.kind: (m.latency_ratio, m.latency_ratio * 0.97, m.latency_ratio * 1.03) for s in m.energy.sources
                    }
                }
            )
            for m in run.inference
        ]  # fmt: skip
        full = full.model_copy(update={"inference": tuple(measured)})
        store(folder, full)
        if run.seed == 0:
            power(
                folder / run.suite / run.key, phases=("search", "train") if run.method_name == "gated" else ("train",)
            )
    return folder


def priced(train_j: float, ratio: float, interval: float = 1.0, seed: int = 0, method: str = "gated"):
    """A run; dense takes 4 J per 1,000 images beside it. `interval`: factor on both sides of the ratio."""
    measured = inference(250, ratio).model_copy(
        update={"energy_ratio": {"modelled": (ratio, ratio / interval, ratio * interval)}}
    )
    return record(method, seed=seed, inference=(measured,), energy={"training": reading(source(train_j))})
