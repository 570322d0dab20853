"""The tables of docs/how-to/runtimes.md, made from records; `python -m tests.docs.served` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from greenprune.bench.records.inference import Inference
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import RECORD_FILE, Record

from tests.docs.between import write

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "runtimes.md"
COMMAND = "python -m tests.docs.served"
NETWORKS = {  # what the budget was: the record
    "dense": "served-time-64/dense-1-s12",
    "half of the MACs": "served-macs/gated-0.5-s12",
    "half of the time at batch 64": "served-time-64/gated-0.5-s12",
    "half of the time at batch 1": "served-time-1/gated-0.5-s12",
}
BATCH_SIZES = (1, 64)
HEADINGS = (
    "Network", "Budget: requested, achieved", "Runtime", "Test accuracy, %", "ms, batch 1", "× dense", "J, × dense",
    "ms, batch 64", "× dense", "J, × dense",
)  # fmt: skip


def networks() -> str:
    """Markdown: a row for each network, runtime and precision."""
    lines = [HEADINGS, tuple("---" if place in (0, 1, 2) else "---:" for place in range(len(HEADINGS)))]
    for network, place in NETWORKS.items():
        lines += list(_rows(network, read_record(ROOT / "results" / place / RECORD_FILE)))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(network: str, record: Record) -> Iterator[tuple[str, ...]]:
    cost = record.cost
    assert cost is not None
    assert cost.kept is not None
    budget = "–" if cost.budget == 1.0 else f"{cost.budget:.2f}, {cost.kept:.2f}"
    yield (network, budget, "eager", f"{100 * (record.test_score or 0):.2f}", *_figures(record.inference))
    for served in record.served:
        score = record.test_score if served.test_score is None else served.test_score
        name = served.runtime + (", int8" if served.precision == "int8" else "")
        yield (network, budget, name, f"{100 * (score or 0):.2f}", *_figures(served.inference))


def _figures(parts: tuple[Inference, ...]) -> Iterator[str]:
    found = {part.batch_size: part for part in parts}
    for size in BATCH_SIZES:
        part = found[size]
        yield f"{part.latency.median_ms:.2f}"
        yield f"{part.latency_ratio:.2f} [{part.latency_ratio_low:.2f}, {part.latency_ratio_high:.2f}]"
        yield next((f"{ratio[0]:.2f}" for ratio in part.energy_ratio.values()), "–")


def budgets() -> str:
    """Markdown: a row for each runtime and batch size in results/budgets, a column for each method."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "results" / "budgets").glob("*.json")]
    methods = [network["method"] for network in found[0]["networks"]]
    headings = ("Runtime", "Batch", *(f"`{method}`" for method in methods), "Calibration, s")
    lines = [headings, ("---", *["---:"] * (len(headings) - 1))]
    for one in sorted(found, key=lambda one: (one["runtime"], one["batch_size"])):
        kept = [
            f"{n['achieved']:.3f} [{n['low']:.3f}, {n['high']:.3f}]{'' if n['within'] else ' (outside)'}"
            for n in one["networks"]
        ]
        seconds = f"{one['calibration']['duration_s']:.0f}"
        lines.append((one["runtime"], str(one["batch_size"]), *kept, seconds))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


TABLES = {"networks": networks, "budgets": budgets}


if __name__ == "__main__":
    for name, table in TABLES.items():
        write(PAGE, COMMAND, table(), of=name)
