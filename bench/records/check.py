"""What no run gives: figures of a finished record that contradict each other, or what they are figures of.

    impossible(record)  # ["test_score = 1.2: allowed is 0 to 1", ...]

Each rule holds for every honest run, whatever the method, the machine and the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any, get_args

from greenprune.bench.energy.reading import Kind, Reading
from greenprune.bench.records.cost import Cost
from greenprune.bench.records.inference import Inference, Latency
from greenprune.bench.records.record import Epoch, Record

EXACT = 1e-6
"""Relative difference of two figures that are the same one, computed in two ways."""

CLOSE = 0.05
"""Relative difference of two measurements of the same stretch of time that begin and end a little apart."""

CLOSE_S = 5.0
"""And what they may differ by in any case."""

MOST_MACS = 3.0
"""No method executes more than so many times the dense network's forward passes of its samples,"""

MOST_BESIDE = 50_000
"""and of so many images to calibrate with, which a training of a few steps does not outweigh."""


def impossible(record: Record) -> list[str]:
    """What is wrong with a finished record, a sentence each without its full stop; empty where nothing is."""
    rules = (_settings, _shares, _cost, _epochs, _readings, _inference, _ledger, _training_energy, _emissions, _times)
    return [sentence for rule in rules for sentence in rule(record)]


def _shares(record: Record) -> Iterator[str]:
    images = _table(record.settings, "images")
    score = _known(record.score)
    for part in ("train", "holdout", "test"):
        name = f"{part}_score"
        value, count = getattr(record, name), images.get(part)
        if value is None or not score.share:
            continue
        yield from _between(name, value, 0, 1)
        if (
            0 <= value <= 1
            and record.task == "classification"
            and isinstance(count, int)
            and abs(value * count - round(value * count)) > EXACT * count
        ):
            yield f"{name} = {value}: is no number of {count} images"
    if record.test_scores and record.test_scores.get(score.name) != record.test_score:
        yield f"test_score = {record.test_score}: test_scores.{score.name} = {record.test_scores.get(score.name)}"
    if record.masked_max_abs_diff is not None:
        yield from _between("masked_max_abs_diff", record.masked_max_abs_diff, 0)


def _cost(record: Record) -> Iterator[str]:
    cost = _known(record.cost)
    pruned = record.budget < 1
    for name in ("macs", "params"):
        kept, dense = getattr(cost, name), getattr(cost, f"{name}_dense")
        if pruned and kept > dense and not (name == "params" and cost.sample_macs):  # a dynamic network keeps its gates
            yield f"cost.{name} = {kept}: more than the dense network's {dense}, of a run that prunes"
        if record.method_name == "dense" and kept != dense:
            yield f"cost.{name} = {kept}: is not the dense network's {dense}"
    if cost.connections is not None:
        yield from _between("cost.connections", cost.connections, 0, cost.connections_dense)
    if abs(cost.budget - record.budget) > EXACT:
        yield f"cost.budget = {cost.budget}: the run's is {record.budget}"
    for layer, width in cost.widths.items():
        most = cost.widths_dense.get(layer)
        if most is None or not 0 <= width <= most:
            yield f"cost.widths.{layer} = {width}: the dense network has {most}"
    yield from _sampled(cost)


def _sampled(cost: Cost) -> Iterator[str]:
    sampled = cost.sample_macs
    if sampled is None:
        return
    if not 0 <= sampled.low <= sampled.mean * (1 + EXACT) or not sampled.mean <= sampled.high * (1 + EXACT):
        yield f"cost.sample_macs.mean = {sampled.mean}: is not between {sampled.low} and {sampled.high}"
    if sum(sampled.counts) != sampled.images:
        yield f"cost.sample_macs.counts: are {sum(sampled.counts)} images, and images = {sampled.images}"
    if len(sampled.edges) != len(sampled.counts) + 1:
        yield f"cost.sample_macs.edges: are {len(sampled.edges)}, and of {len(sampled.counts)} bins"


def _settings(record: Record) -> Iterator[str]:
    method = _table(record.settings, "method")
    stated = {"budget": record.settings.get("budget"), "seed": record.settings.get("seed")}
    stated |= {"method": method.get("label"), "method_name": method.get("name")}
    for name, value in stated.items():
        if value is not None and value != getattr(record, name):
            yield f"{name} = {getattr(record, name)}: its settings say {value}"


def _epochs(record: Record) -> Iterator[str]:
    for i, epoch in enumerate(record.epochs):
        where = f"epochs.{i}"
        if epoch.epoch != i + 1:
            yield f"{where}.epoch = {epoch.epoch}: it is the {i + 1}. of the list"
        yield from _epoch(where, epoch, _known(record.score).share)
    steps = _steps(record.settings)
    if steps is not None:
        expected = math.ceil(steps[0] / steps[1])
        if len(record.epochs) != expected:
            yield f"epochs: are {len(record.epochs)}, and its settings say {expected}"
    if record.epochs and record.holdout_score not in (None, record.epochs[-1].holdout_score):
        last = record.epochs[-1].holdout_score
        yield f"holdout_score = {record.holdout_score}: its last epoch says {last}"


def _epoch(where: str, epoch: Epoch, share: bool) -> Iterator[str]:
    for name in ("train_score", "holdout_score"):
        value = getattr(epoch, name)
        if value is not None and share:
            yield from _between(f"{where}.{name}", value, 0, 1)
    for name in ("loss", "learning_rate", "duration_s", "kept_macs"):
        yield from _between(f"{where}.{name}", getattr(epoch, name), 0)


def _steps(settings: dict[str, Any]) -> tuple[int, int, int] | None:
    """Optimizer steps of the run, of one epoch, and images of a step; None where the settings do not say."""
    training, images = _table(settings, "training"), _table(settings, "images")
    batch, epochs, count = training.get("batch_size"), training.get("epochs"), images.get("train")
    if not (isinstance(batch, int) and isinstance(epochs, int) and isinstance(count, int)):
        return None
    if min(batch, epochs) < 1 or count < batch:
        return None
    an_epoch = count // batch
    stated = settings.get("steps")
    return stated if isinstance(stated, int) and stated > 0 else epochs * an_epoch, an_epoch, batch


def _table(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """A table of the settings; empty where a stranger has put something else there."""
    found = settings.get(name)
    return found if isinstance(found, dict) else {}


def _ledger(record: Record) -> Iterator[str]:
    ledger, cost = _known(record.ledger), _known(record.cost)
    for i, entry in enumerate(ledger.entries):
        where = f"ledger.entries.{i}"
        for name in ("samples", "forward_macs", "duration_s"):
            yield from _between(f"{where}.{name}", getattr(entry, name), 0)
        for kind, joules in entry.energy_j.items():
            yield from _between(f"{where}.energy_j.{kind}", joules, 0)
    if ledger.samples > ledger.allowance_samples:
        yield f"ledger: its phases took {ledger.samples} samples, and the allowance is {ledger.allowance_samples}"
    steps = _steps(record.settings)
    if steps is not None and ledger.samples != steps[0] * steps[2]:
        yield (
            f"ledger: its phases took {ledger.samples} samples, and its settings say {steps[0]} steps of {steps[2]} images"
        )
    if ledger.allowance_forward_macs is not None and ledger.forward_macs > ledger.allowance_forward_macs:
        yield (
            f"ledger: its phases took {ledger.forward_macs} forward multiply-accumulates, and the allowance is "
            f"{ledger.allowance_forward_macs}"
        )
    dense = ledger.samples * (cost.macs_dense + record.extra_macs)
    if record.method_name == "dense" and not _near(ledger.forward_macs, dense, 0.01):
        yield f"ledger: {ledger.forward_macs} forward multiply-accumulates are not those of {ledger.samples} samples"
    elif ledger.forward_macs > MOST_MACS * dense + MOST_BESIDE * cost.macs_dense:
        yield (
            f"ledger: {ledger.forward_macs} forward multiply-accumulates are more than {MOST_MACS:g} times dense's, and "
            f"than {MOST_BESIDE} images more"
        )


def _training_energy(record: Record) -> Iterator[str]:
    """The phases of the ledger are stretches of the training's window."""
    ledger, training = _known(record.ledger), record.energy.get("training")
    if training is None:
        return
    seconds = sum(entry.duration_s for entry in ledger.entries)
    if abs(seconds - training.duration_s) > CLOSE_S + CLOSE * training.duration_s:
        yield f"ledger: its phases took {seconds:g} s, and the training {training.duration_s:g} s"
    for kind in get_args(Kind):
        parts = [entry.energy_j.get(kind) for entry in ledger.entries]
        known, total, bounds = (
            [part for part in parts if part is not None],
            training.energy_j(kind),
            training.bounds_j(kind),
        )
        if not known or len(known) < len(parts) or total is None or bounds is None:
            continue
        slack = max(CLOSE * total, (bounds[1] - bounds[0]) if kind != "modelled" else 0.0)
        slack += CLOSE_S * total / max(training.duration_s, CLOSE_S)
        if abs(sum(known) - total) > slack:
            yield f"ledger: its phases took {sum(known):g} {kind} joules, and the training {total:g}"


def _readings(record: Record) -> Iterator[str]:
    for name, reading in record.energy.items():
        yield from reading_wrong(f"energy.{name}", reading)


def reading_wrong(where: str, reading: Reading) -> Iterator[str]:
    yield from _between(f"{where}.duration_s", reading.duration_s, 0)
    for i, source in enumerate(reading.sources):
        at = f"{where}.sources.{i}"
        if (source.energy_j is None) == source.valid:
            yield f"{at}.energy_j = {source.energy_j}: and valid = {str(source.valid).lower()}"
        if source.energy_j is None:
            continue
        yield from _between(f"{at}.energy_j", source.energy_j, 0)
        yield from _inside(f"{at}.energy_j", source.energy_j, source.low_j, source.high_j)


def _inference(record: Record) -> Iterator[str]:
    for i, measured in enumerate(record.inference):
        yield from measurement(f"inference.{i}", measured)
    for k, served in enumerate(record.served):
        for i, measured in enumerate(served.inference):
            yield from measurement(f"served.{k}.inference.{i}", measured)


def measurement(where: str, measured: Inference) -> Iterator[str]:
    """What is wrong with a measurement of inference, of a record or of all networks together."""
    for name in ("latency", "dense_latency"):
        yield from _latency(f"{where}.{name}", getattr(measured, name))
    yield from _between(f"{where}.latency_ratio_low", measured.latency_ratio_low, 0)
    yield from _inside(
        f"{where}.latency_ratio", measured.latency_ratio, measured.latency_ratio_low, measured.latency_ratio_high
    )
    yield from reading_wrong(f"{where}.energy", measured.energy)
    yield from reading_wrong(f"{where}.dense_energy", measured.dense_energy)
    for name in ("energy_ratio", "energy_j_per_1000_images", "dense_energy_j_per_1000_images"):
        for kind, (value, low, high) in getattr(measured, name).items():
            yield from _between(f"{where}.{name}.{kind}", low, 0)
            yield from _inside(f"{where}.{name}.{kind}", value, low, high)
    sides = (
        ("", measured.energy, measured.images, measured.energy_j_per_1000_images),
        ("dense_", measured.dense_energy, measured.dense_images, measured.dense_energy_j_per_1000_images),
    )
    for side, reading, images, stated in sides:
        for kind, (value, _, _) in stated.items():
            joules = reading.energy_j(kind)
            if joules is None or not _near(value, 1000 * joules / images, EXACT):
                yield f"{where}.{side}energy_j_per_1000_images.{kind} = {value}: {joules} J for {images} images do not give it"


def _latency(where: str, latency: Latency) -> Iterator[str]:
    named = [(n, getattr(latency, f"{n}_ms")) for n in ("p05", "median", "p95", "p99")]
    known = [(name, value) for name, value in named if value is not None]
    yield from _between(f"{where}.p05_ms", latency.p05_ms, 0)
    for (low_name, low), (name, value) in pairwise(known):
        if low > value * (1 + EXACT):
            yield f"{where}.{name}_ms = {value}: is below {low_name}_ms = {low}"


def _emissions(record: Record) -> Iterator[str]:
    emissions, training = record.emissions, record.energy.get("training")
    if emissions is None:
        return
    for kind, grams in emissions.training_gco2e.items():
        joules = None if training is None or kind not in get_args(Kind) else training.energy_j(kind)  # type: ignore[arg-type]
        expected = None if joules is None else joules / 3.6e6 * emissions.grid_gco2e_per_kwh * emissions.pue
        if expected is None or not _near(grams, expected, 0.001):
            yield f"emissions.training_gco2e.{kind} = {grams}: the training's joules give {expected}"


def _times(record: Record) -> Iterator[str]:
    try:
        started, finished = (datetime.fromisoformat(text) for text in (record.started_at, record.finished_at))
        if finished < started:
            yield f"finished_at = {record.finished_at}: is before started_at = {record.started_at}"
            return
    except (ValueError, TypeError):
        return
    ledger = _known(record.ledger)
    seconds = sum(entry.duration_s for entry in ledger.entries)
    whole_s = (finished - started).total_seconds()
    if seconds > whole_s * (1 + CLOSE) + CLOSE_S:
        yield f"ledger: its phases took {seconds:g} s, and the whole run {whole_s:g} s"


def _between(name: str, value: float, low: float, high: float | None = None) -> Iterator[str]:
    if not low <= value <= (math.inf if high is None else high):
        yield f"{name} = {value}: allowed is " + (
            f"a number from {low:g} up" if high is None else f"{low:g} to {high:g}"
        )


def _inside(name: str, value: float, low: float | None, high: float | None) -> Iterator[str]:
    least, most = (value if bound is None else bound for bound in (low, high))
    slack = EXACT * max(abs(value), abs(least), abs(most))
    if not least - slack <= value <= most + slack:
        yield f"{name} = {value}: is not within its bounds, {least} to {most}"


def _near(value: float, expected: float, share: float) -> bool:
    return abs(value - expected) <= share * max(abs(value), abs(expected))


def _known(part: Any) -> Any:
    assert part is not None  # a record that is done has it
    return part
