"""What the page of one run shows: curves, gates, layers, power, ledger, environment, command. Plain data, packed."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.foreign import visible
from greenprune.bench.records.inference import Inference
from greenprune.bench.records.record import Record
from greenprune.bench.text import NOTHING, bounded, duration, plural, three_digits
from greenprune.plots.figures.gates import consensus_of
from greenprune.plots.figures.power_samples import read_power, stretches
from greenprune.plots.frame.whole import whole

POWER_POINTS = 150
"""Of one source: more than such a figure can show."""

STEPS = 60
"""Between a gate of 0 and one of 1, as they are shown: a character each."""

FIRST_CHARACTER = 35  # "#"; none of the 60 after it is a quotation mark


def packed(record: Record, place: Path) -> str:
    """The page of one run as text that is short: JSON, deflated, in base 64. `place`: the folder of the record."""
    text = json.dumps(run_page(whole(record, place), place), separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8"), 9)).decode("ascii")


def run_page(record: Record, place: Path) -> dict[str, Any]:
    """Everything that the page of a run shows; what the record does not have is None or empty."""
    return {
        "facts": _facts(record),
        "warnings": [visible(w) for w in record.warnings],
        "curve": _curve(record),
        "gates": _gates(record),
        "layers": _layers(record),
        "power": _power(place),
        "ledger": _ledger(record),
        "energy": _energy(record),
        "inference": _inference(record),
        "environment": [[visible(str(n)), visible(str(v))] for n, v in {**record.machine, **record.versions}.items()],
        "overrides": [visible(text) for text in record.overrides],
        "command": visible(record.command),
    }


def _facts(record: Record) -> list[list[str]]:
    cost = record.cost
    assert cost is not None  # of a run that is done
    kept = NOTHING if cost.kept is None else f"{cost.kept * 100:.1f} %"
    facts = [
        ["Method", visible(record.method)],
        ["Budget", f"{record.budget * 100:.4g} %, kept {kept}"],
        ["Seed", str(record.seed)],
        ["Valid", "yes" if record.valid else visible(f"no: {record.invalid_reason}")],
        ["MACs", f"{cost.macs:,} of {cost.macs_dense:,}"],
        ["Parameters", f"{cost.params:,} of {cost.params_dense:,}"],
        ["Begun", _minute(record.started_at)],
        ["Finished", _minute(record.finished_at)],
    ]
    if record.score is not None:
        stored = {f"Test {record.score.name}": record.test_score, f"Held-out {record.score.name}": record.holdout_score}
        facts += [[name, NOTHING if v is None else record.score.text(v)] for name, v in stored.items()]
        others = {name: v for name, v in record.test_scores.items() if name != record.score.name}
        facts += [[visible(f"Test {name}"), NOTHING if v is None else f"{v:.4g}"] for name, v in others.items()]
    if record.interruptions:
        facts.append(["Interrupted", f"{record.interruptions} ×"])
    return facts


def _minute(stamp: str) -> str:
    """ "2026-11-28 14:46 UTC" of a time as records have it."""
    date, _, time = visible(stamp[:16]).partition("T")
    return f"{date} {time} UTC".strip() if time else date or NOTHING


def _curve(record: Record) -> dict[str, Any] | None:
    if not record.epochs:
        return None
    return {
        "epoch": [e.epoch for e in record.epochs],
        "phase": [visible(e.phase) for e in record.epochs],
        "loss": [_short(e.loss) for e in record.epochs],
        "train": [_shown(record, e.train_score) for e in record.epochs],
        "holdout": [_shown(record, e.holdout_score) for e in record.epochs],
        "kept": [_short(e.kept_macs * 100) for e in record.epochs],
        "seconds": [_short(e.duration_s) for e in record.epochs],
    }


def _shown(record: Record, stored: float | None) -> float | None:
    """A score in the unit that people see."""
    return None if stored is None or record.score is None else _short(record.score.shown(stored))


def _gates(record: Record) -> dict[str, Any] | None:
    """A text for each gate, a character for each step, sorted within a layer by where they ended."""
    found = consensus_of(record)
    if found is None:
        return None
    codes = np.rint(np.nan_to_num(found.values).clip(0, 1) * STEPS).astype(int) + FIRST_CHARACTER
    return {
        "steps": found.steps,
        "groups": [[visible(name), count] for name, count in found.groups],
        "rows": ["".join(map(chr, row)) for row in codes],
        "first": FIRST_CHARACTER,
        "levels": STEPS,
    }


def _layers(record: Record) -> list[list[Any]]:
    cost = record.cost
    assert cost is not None
    return [[visible(name), dense, cost.widths.get(name, 0)] for name, dense in cost.widths_dense.items()]


def _power(place: Path) -> dict[str, Any] | None:
    """Watts of each source over the seconds of the training, and its phases."""
    rows = read_power(place)
    if rows is None:
        return None
    return {
        "phases": [
            [visible(name), _short(begin_s), _short(end_s)] for name, begin_s, end_s in _joined(stretches(rows))
        ],
        "sources": [
            {"name": visible(f"{source} ({kind})"), **_line(part)}
            for (source, kind), part in rows.groupby(["source", "kind"], sort=True)
        ],
    }


def _joined(phases: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """A phase that goes on after a pause, such as training after the evaluation of an epoch, is one."""
    found: list[tuple[str, float, float]] = []
    for name, begin_s, end_s in phases:
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1], end_s)
        else:
            found.append((name, begin_s, end_s))
    return found


def _line(rows: pd.DataFrame) -> dict[str, list[float | None]]:
    """At most `POWER_POINTS` of one source: neighbours become one with the same joules, a gap stays a gap."""
    time_s, power_w = rows["time_s"].to_numpy(), rows["power_w"].to_numpy()
    starts = np.arange(0, len(rows), -(-len(rows) // POWER_POINTS))
    steps_s = np.diff(time_s, prepend=time_s[0])
    seconds = np.add.reduceat(steps_s, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        watts = np.where(seconds > 0, np.add.reduceat(power_w * steps_s, starts) / seconds, power_w[starts])
    ends = np.append(starts[1:], len(rows)) - 1
    return {
        "seconds": [_short(value) for value in time_s[ends]],
        "watts": [_short(value) if np.isfinite(value) else None for value in watts],
    }


def _ledger(record: Record) -> dict[str, Any]:
    ledger = record.ledger
    assert ledger is not None
    kinds = [kind for kind in KINDS if any(kind in entry.energy_j for entry in ledger.entries)]
    entries = [*ledger.entries, *([ledger.redone] if ledger.redone else [])]
    names = [*(entry.phase for entry in ledger.entries), *(["redone, in no sum"] if ledger.redone else [])]
    return {
        "allowed": f"{plural(ledger.allowance_samples, 'image')}",
        "headings": ["Phase", "Images", "Forward MACs", "Time", *(f"kJ, {kind}" for kind in kinds)],
        "rows": [
            [
                visible(name),
                f"{entry.samples:,}",
                f"{entry.forward_macs:.3g}",
                duration(entry.duration_s),
                *(_kilojoules(entry.energy_j.get(kind)) for kind in kinds),
            ]
            for name, entry in zip(names, entries, strict=True)
        ],
    }


def _energy(record: Record) -> list[list[str]]:
    """Phase, kind and kilojoules with their bounds."""
    rows = []
    for phase, reading in record.energy.items():
        for kind in KINDS:
            joules, bounds = reading.energy_j(kind), reading.bounds_j(kind)
            if joules is not None and bounds is not None:
                written = bounded(joules / 1000, bounds[0] / 1000, bounds[1] / 1000, three_digits)
                rows.append([visible(phase), kind, written, duration(reading.duration_s)])
    return rows


def _inference(record: Record) -> list[list[str]]:
    """Where, milliseconds beside dense, and the ratios with their intervals."""
    rows = [_measured(m, "") for m in record.inference]
    for served in record.served:
        where = visible(f"{served.runtime} {served.precision}, ")
        rows += [_measured(m, where) for m in served.inference]
        if served.problem:
            rows.append([f"{where}not measured: {visible(served.problem)}", *[NOTHING] * 4])
    return rows


def _measured(found: Inference, where: str) -> list[str]:
    joules = [f"{kind}: {bounded(*ratio, lambda value: f'{value:.2f}')}" for kind, ratio in found.energy_ratio.items()]
    return [
        f"{where}batch {found.batch_size}",
        three_digits(found.latency.median_ms),
        three_digits(found.dense_latency.median_ms),
        bounded(found.latency_ratio, found.latency_ratio_low, found.latency_ratio_high, lambda ratio: f"{ratio:.2f}"),
        "; ".join(joules) or NOTHING,
    ]


def _kilojoules(joules: float | None) -> str:
    return NOTHING if joules is None else three_digits(joules / 1000)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
