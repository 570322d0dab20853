"""A record as rows of the tidy tables: one for the run, one for each measurement of inference."""

from __future__ import annotations

from typing import Any

from greenprune.bench.energy.reading import KINDS, Kind, Reading
from greenprune.bench.records.inference import Inference
from greenprune.bench.records.record import Record
from greenprune.bench.text import told_count


def machine_label(machine: dict[str, Any]) -> str:
    """A short name for a record's `machine`, e.g. "NVIDIA H100, Intel Xeon, 16 cores"."""
    parts = [str(machine[name]) for name in ("gpu", "cpu") if machine.get(name)]
    cores, threads = machine.get("cores"), machine.get("threads")
    if cores:
        parts.append(told_count(cores, "core"))
    if threads and threads != cores:
        parts.append(told_count(threads, "thread"))
    return ", ".join(parts) or "unknown machine"


PRETRAINED = " (pretrained)"
"""Behind the name of a network that did not start from initial weights."""


def network_label(settings: dict[str, Any]) -> str:
    """The network of these settings, and whether it started from weights that were trained before."""
    return str(settings.get("model", "")) + (PRETRAINED if settings.get("weights") else "")


def run_row(folder: str, record: Record) -> dict[str, Any]:
    cost, ledger, score = record.cost, record.ledger, record.score
    assert cost is not None  # a Record that is done has all three; for the type checker
    assert ledger is not None
    assert score is not None
    row: dict[str, Any] = {
        "folder": folder,
        "suite": record.suite,
        "dataset": record.pair[0],
        "model": network_label(record.settings),
        "machine": machine_label(record.machine),
        "key": record.key,
        "method": record.method,
        "method_name": record.method_name,
        "budget": record.budget,
        "budget_cost": cost.kind if cost.connections is None else "connections",
        "seed": record.seed,
        "valid": bool(record.valid),
        "kept": cost.kept,
        "kept_macs": cost.kept_macs,
        "kept_params": cost.kept_params,
        "macs": cost.macs,
        "params": cost.params,
        "macs_dense": cost.macs_dense,
        "params_dense": cost.params_dense,
        "score": score.label,
        "higher_is_better": score.higher_is_better,
        **{
            name: None if (value := getattr(record, name)) is None else score.shown(value)
            for name in ("train_score", "holdout_score", "test_score")
        },
        "allowance_samples": ledger.allowance_samples,
        "train_samples": ledger.samples,
        "train_forward_macs": ledger.forward_macs,
        "train_duration_s": sum(entry.duration_s for entry in ledger.entries),
        "interruptions": record.interruptions,
        "redone_share": ledger.redone_share,
        "greenprune_version": record.versions.get("greenprune", "unknown"),
        "torch_version": record.versions.get("torch", "unknown"),
    }
    training = record.energy.get("training")
    for kind in KINDS:
        row |= _energy(training, kind, f"train_energy_{kind}_j")
        row[f"train_co2_{kind}_g"] = record.emissions.training_gco2e.get(kind) if record.emissions else None
    return row


def inference_row(measured: Inference) -> dict[str, Any]:
    row: dict[str, Any] = {
        "batch_size": measured.batch_size,
        "latency_ms": measured.latency.median_ms,
        "dense_latency_ms": measured.dense_latency.median_ms,
        "latency_ratio": measured.latency_ratio,
        "latency_ratio_low": measured.latency_ratio_low,
        "latency_ratio_high": measured.latency_ratio_high,
    }
    for kind in KINDS:
        row |= _energy(measured.energy, kind, f"energy_{kind}_j_per_1000_images", 1000 / measured.images)
        name = f"dense_energy_{kind}_j_per_1000_images"
        row |= _energy(measured.dense_energy, kind, name, 1000 / measured.dense_images)
        row |= _bounded(f"energy_ratio_{kind}", _energy_ratio(measured, kind))
    return row


def _energy(reading: Reading | None, kind: Kind, name: str, factor: float = 1.0) -> dict[str, float | None]:
    """`name`, `name_low` and `name_high`: the joules of `kind` in `reading`, times `factor`."""
    joules = reading.energy_j(kind) if reading else None
    bounds = reading.bounds_j(kind) if reading else None
    if joules is None or bounds is None:
        return _bounded(name, None)
    return _bounded(name, (joules * factor, bounds[0] * factor, bounds[1] * factor))


def _energy_ratio(measured: Inference, kind: Kind) -> tuple[float, float | None, float | None] | None:
    """The ratio of joules per image and its 95 % interval; None where either side is unknown or dense took 0 J."""
    if kind in measured.energy_ratio:
        return measured.energy_ratio[kind]
    ours_j, dense_j = measured.energy.energy_j(kind), measured.dense_energy.energy_j(kind)
    if ours_j is None or dense_j is None or dense_j <= 0:
        return None
    return ours_j / measured.images / (dense_j / measured.dense_images), None, None


def _bounded(name: str, figure: tuple[float, float | None, float | None] | None) -> dict[str, float | None]:
    value, low, high = figure if figure else (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
