"""`greenprune doctor`: what of this machine's energy can be measured, how well, and what is missing."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.carbon import GridIntensity, grid_intensity
from greenprune.bench.energy.modelled import cpu_model
from greenprune.bench.errors import UserError
from greenprune.bench.records.record import write_atomically
from rich.console import Console
from rich.table import Table

WINDOWS_S = (1.0, 10.0, 100.0)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Options of `greenprune doctor`."""
    command.set_defaults(call=command_doctor)
    command.add_argument("--json", type=Path, metavar="FILE", help="write it as JSON too")
    command.add_argument(
        "--country", metavar="ISO3", help="whose grid intensity to show (default: the world's average)"
    )
    command.add_argument(
        "--idle", type=float, default=5.0, metavar="SECONDS", help="how long to measure idle power (5; 0: do not)"
    )


def command_doctor(arguments: argparse.Namespace) -> int:
    """Prints the table; returns 0 also where nothing can be measured: the doctor is well, and says what is not."""
    if not 0 <= arguments.idle < float("inf"):
        raise UserError(f"--idle {arguments.idle:g}: allowed is a number of seconds from 0")
    path = arguments.json
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise UserError(f"--json {path}: cannot be written; allowed is a file in a folder that exists")
    found = examine(grid_intensity(arguments.country), idle_s=arguments.idle)
    if path is not None:
        try:
            write_atomically(path, json.dumps(found, indent=1) + "\n")
        except OSError as e:
            raise UserError(f"--json {path}: cannot be written ({e.strerror})") from None
    console = Console()
    console.print(table(found["sources"]))
    for line in advice(found):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0


def examine(intensity: GridIntensity, *, idle_s: float, powercap: Path | None = None) -> dict[str, Any]:
    """Everything the doctor tells, as it is written to JSON. `idle_s`: how long idle power is measured, 0: not."""
    with EnergyMeter(powercap=powercap) as meter:
        sources = meter.describe()
        sensors = [row for row in sources if row["available"] and row["kind"] != "modelled"]
        warnings: Sequence[str] = ()
        if idle_s and sensors:
            resting = meter.measure_idle(idle_s)
            warnings = resting.warnings
            sources = meter.describe()
        expected = {window_s: meter.expected_uncertainty(window_s) for window_s in WINDOWS_S}
    for row in sources:
        row["expected_uncertainty"] = {f"{s:g} s": expected[s].get(row["source"]) for s in WINDOWS_S}
    cpu, virtual, sockets = cpu_model()
    return {
        "version": importlib.metadata.version("greenprune"),
        "cpu": {"model": cpu, "virtual": virtual, "sockets": sockets},
        "idle_s": idle_s if sensors else 0.0,
        "sources": sources,
        "grid": dataclasses.asdict(intensity),
        "warnings": list(warnings),
    }


def table(sources: Sequence[dict[str, Any]]) -> Table:
    """A row for each source, what cannot be read last."""
    made = Table(title="Sources of energy figures on this machine")
    for name in ("source", "kind", "period", "idle, W", *(f"± {s:g} s" for s in WINDOWS_S)):
        made.add_column(name, justify="left" if name in ("source", "kind") else "right", no_wrap=True)
    for row in _missing_last(sources):
        period_s, idle_w = row.get("period_s"), row.get("idle_power_w")
        errors = row["expected_uncertainty"].values()
        made.add_row(
            row["source"],
            row["kind"] if row["available"] else "missing",
            "–" if period_s is None else f"{period_s * 1e3:.0f} ms",
            "–" if idle_w is None else f"{idle_w:.1f}",
            *("–" if error is None else f"{error:.2%}" if error < 0.01 else f"{error:.0%}" for error in errors),
        )
    return made


def _missing_last(sources: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(sources, key=lambda row: not row["available"])


def advice(found: dict[str, Any]) -> list[str]:
    """Sentences below the table: how to get what is missing, and what the figures mean."""
    lines = []
    for row in _missing_last(found["sources"]):
        lines.append(f"{row['source']}: {row['detail'] if row['available'] else row['reason']}")
        if row.get("remedy"):
            lines.append(f"    to get it: {row['remedy']}")
    lines += [
        f"{row['source']}: its power is integrated, because {row['reason']}"
        for row in found["sources"]
        if row["available"] and row["kind"] == "sampled" and row["reason"]
    ]
    grid = found["grid"]
    other = "; for a country's: --country ISO3" if grid["country"] == "world" else ""
    lines.append(f"grid intensity: {grid['gco2e_per_kwh']:g} gCO2e/kWh ({grid['source']}{other})")
    if any(row["available"] and row["kind"] != "modelled" for row in found["sources"]):
        lines.append(
            "±: from the update period, for a window that is not aligned to it. The sensor's own systematic error "
            "(up to 13 % of a GPU's) comes on top and cancels in ratios."
        )
    if any(row["available"] and row["kind"] == "modelled" for row in found["sources"]):
        lines.append("± of a model: the range of its assumptions; a longer window does not narrow it, ratios do.")
    return lines + list(found["warnings"])
