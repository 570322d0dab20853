"""What the energy of all runs of a report comes to, and what other meters made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from greenprune.bench.energy.reading import KINDS, Kind
from greenprune.bench.records.record import CrossCheck
from greenprune.bench.text import listed, three_digits
from greenprune.plots.frame.frame import Results
from greenprune.plots.report.energy_rows import rows_of_record

CROSSCHECK_NAMES = {"codecarbon": "CodeCarbon", "zeus": "Zeus"}


def crosscheck_text(checks: Sequence[CrossCheck]) -> str:
    """What other meters said of the same training, with our joules over the same time. Never part of a sum."""
    told = []
    for check in checks:
        name = f"{CROSSCHECK_NAMES[check.tool]} {check.version or ''}".strip()
        parts = {"CPU": check.cpu_j, "GPU": check.gpu_j, "memory": check.ram_j}
        figures = [f"{part} {three_digits(joules)} J" for part, joules in parts.items() if joules is not None]
        ours = [f"{three_digits(joules)} J {kind}" for kind, joules in check.ours_j.items()]
        over = "" if check.duration_s is None else f" over {three_digits(check.duration_s / 60)} min"
        told.append(
            f"{name}: {listed(figures) if figures else 'no figure'}{over}; ours then {listed(ours or ['unknown'])}"
        )
    return ". ".join(told)


def energy_rows(results: Results) -> list[dict[str, Any]]:
    """The energy reports of all runs, in their order."""
    once = dict(zip(results.places, results.records, strict=True))  # a run may stand in several views
    return [row for record in once.values() for row in rows_of_record(record)]


def readings_lacking(results: Results) -> dict[Kind, tuple[int, int]]:
    """By kind: how many readings have a source of it, and how many of these no figure, as a source of theirs failed."""
    once = dict(zip(results.places, results.records, strict=True))
    found: dict[Kind, tuple[int, int]] = {}
    for record in once.values():
        for reading in record.energy.values():
            for kind in {source.kind for source in reading.sources}:
                have, lack = found.get(kind, (0, 0))
                found[kind] = have + 1, lack + (reading.energy_j(kind) is None)
    return found


def totals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By kind: kilowatt-hours and grams of CO2 equivalent of all rows together, with bounds of the energy.

    `gco2e` is None where a row has no grid intensity.
    """
    found = []
    for kind in KINDS:
        part = [row for row in rows if row["kind"] == kind]
        if part:
            known = [row["emissions"] for row in part]
            found.append(
                {
                    "kind": kind,
                    "energy_kwh": sum(row["energy_consumed"] for row in part),
                    "energy_low_kwh": sum(row["energy_low_kwh"] for row in part),
                    "energy_high_kwh": sum(row["energy_high_kwh"] for row in part),
                    "gco2e": None if None in known else 1000 * sum(known),
                }
            )
    return found
