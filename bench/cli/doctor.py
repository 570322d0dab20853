"""`greenprune doctor`: what of this machine's energy can be measured, how well, and what is missing."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greenprune.bench import terminal
from greenprune.bench.cli.place import LONGEST_IDLE_S, intensity_of, place_arguments
from greenprune.bench.cli.saving import check_outputs, write_json
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.carbon.intensity import GridIntensity
from greenprune.bench.energy.carbon.intensity import place as place_of_grid
from greenprune.bench.energy.parts import adds_up
from greenprune.bench.energy.sensors.place import IN_CONTAINER, Place
from greenprune.bench.energy.sensors.sysfs import folders, optional_text
from greenprune.bench.energy.usage.processors import cpu_model
from greenprune.bench.errors import UserError
from rich.table import Table

WINDOWS_S = (1.0, 10.0, 100.0)
NVML_RESOLUTION_J = 1e-3  # nvmlDeviceGetTotalEnergyConsumption counts millijoules


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Options of `greenprune doctor`."""
    command.set_defaults(call=command_doctor)
    command.add_argument("--json", type=Path, metavar="FILE", help="write it as JSON too")
    place_arguments(command, pue=False)
    command.add_argument(
        "--idle", type=float, default=5.0, metavar="SECONDS", help="how long to measure idle power (5; 0: do not)"
    )


def command_doctor(arguments: argparse.Namespace) -> int:
    """Prints the table; returns 0 also where nothing can be measured: the doctor is well, and says what is not.

    Raises:
        UserError: an option has no allowed value, or the JSON cannot be written.
    """
    if not 0 <= arguments.idle <= LONGEST_IDLE_S:
        raise UserError(f"--idle {arguments.idle:g}: allowed is a number of seconds from 0 to {LONGEST_IDLE_S:g}")
    path = arguments.json
    check_outputs({"--json": path}, [])
    found = examine(intensity_of(arguments), idle_s=arguments.idle)
    try:  # what cannot be written is printed, and what cannot be printed is written
        _print(found)
    finally:
        if path is not None:
            write_json(path, found)
    return 0


def _print(found: dict[str, Any]) -> None:
    console = terminal.console()
    console.print(table(found["sources"]))
    for line in advice(found):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def examine(
    intensity: GridIntensity,
    *,
    idle_s: float,
    powercap: Path | None = None,
    sysfs: Path | None = None,
    place: Place | None = None,
) -> dict[str, Any]:
    """Everything the doctor tells, as it is written to JSON.

    Each source says whether it was found, whether it is available (readable), the reason and the remedy where it is not,
    its update period (`period_s`) and its smallest step (`resolution_j` of a counter, `resolution_w` of a register).

    Args:
        idle_s: how long idle power is measured, 0: not.
        powercap, sysfs: as of `EnergyMeter`.
        place: where a container and hardware without a driver are recognised; None: here.
    """
    place = place or Place.here(sysfs, powercap)
    with EnergyMeter(powercap=powercap, sysfs=sysfs) as meter:
        sources = meter.describe()
        sensors = [row for row in sources if row["available"] and row["kind"] != "modelled"]
        warnings: Sequence[str] = ()
        if idle_s and sensors:
            resting = meter.measure_idle(idle_s)
            warnings = resting.warnings
            sources = meter.describe()
        sources = [*sources, *meter.absent]
        expected = {window_s: meter.expected_uncertainty(window_s) for window_s in WINDOWS_S}
    for row in sources:
        row["expected_uncertainty"] = {f"{s:g} s": expected[s].get(row["source"]) for s in WINDOWS_S}
        row.setdefault("found", row["available"] or (row["source"].startswith("nvml") and _nvidia_is_there(place)))
        row.setdefault("resolution_j", NVML_RESOLUTION_J if _is_nvml_counter(row) else None)
        row["enters_sums"] = adds_up(row["source"])
    cpu, virtual, sockets = cpu_model()
    return {
        "version": importlib.metadata.version("greenprune"),
        "cpu": {"model": cpu, "virtual": virtual, "sockets": sockets},
        "container": place.in_container,
        "idle_s": idle_s if sensors else 0.0,
        "sources": sources,
        "grid": dataclasses.asdict(intensity) | {"place": place_of_grid(intensity)},
        "warnings": list(warnings),
    }


def _is_nvml_counter(row: dict[str, Any]) -> bool:
    return bool(row["source"].startswith("nvml") and row["available"] and row["kind"] == "measured")


def _nvidia_is_there(place: Place) -> bool:
    """Whether a card of NVIDIA's is in the machine, with or without its driver."""
    if (place.root / "proc" / "driver" / "nvidia").exists() or (place.root / "dev" / "nvidia0").exists():
        return True
    cards = folders(place.sysfs / "bus" / "pci" / "devices")
    display = [card for card in cards if (optional_text(card / "class") or "").startswith("0x03")]
    return any(optional_text(card / "vendor") == "0x10de" for card in display)


def table(sources: Sequence[dict[str, Any]]) -> Table:
    """A row for each source that is there, what cannot be read last."""
    made = Table(title="Sources of energy figures on this machine")
    for name in ("source", "kind", "period", "step", "idle, W", *(f"± {s:g} s" for s in WINDOWS_S)):
        made.add_column(name, justify="left" if name in ("source", "kind") else "right", no_wrap=True)
    for row in _in_order(sources):
        period_s, idle_w = row.get("period_s"), row.get("idle_power_w")
        errors = row["expected_uncertainty"].values()
        made.add_row(
            row["source"],
            row["kind"] if row["available"] else "not readable" if row.get("found") else "not found",
            "–" if period_s is None else f"{period_s * 1e3:.0f} ms",
            _step(row),
            "–" if idle_w is None else f"{idle_w:.1f}",
            *("–" if error is None else f"{error:.2%}" if error < 0.01 else f"{error:.0%}" for error in errors),
        )
    return made


def _step(row: dict[str, Any]) -> str:
    """The smallest step of a counter or of a register."""
    for key, unit in (("resolution_j", "J"), ("resolution_w", "W")):
        value = row.get(key)
        if value is not None:
            for factor, prefix in ((1.0, ""), (1e3, "m")):
                if value * factor >= 1:
                    return f"{value * factor:.3g} {prefix}{unit}"
            return f"{value * 1e6:.3g} µ{unit}"
    return "–"


def _in_order(sources: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is readable, what is there and is not, what is not there."""
    return sorted(sources, key=lambda row: (not row["available"], not row.get("found", row["available"])))


def advice(found: dict[str, Any]) -> list[str]:
    """Sentences below the table: how to get what is missing, and what the figures mean."""
    lines = []
    if found["container"]:
        lines.append(f"this is a container: {IN_CONTAINER.removeprefix('in a container, ')}")
    for row in _in_order(found["sources"]):
        state = "" if row["available"] else "found, not readable: " if row["found"] else "not found: "
        lines.append(f"{row['source']}: {state}{row['detail'] if row['available'] else row['reason']}")
        if row.get("remedy"):
            lines.append(f"    to get it: {row['remedy']}")
    lines += [
        f"{row['source']}: its power is integrated, because {row['reason']}"
        for row in found["sources"]
        if row["available"] and row["kind"] == "sampled" and row["reason"]
    ]
    if any(row["available"] and not row["enters_sums"] for row in found["sources"]):
        lines.append("machine:…: its joules are counted by others too, so it is shown apart and never added to them")
    grid = found["grid"]
    other = "; for a country's: --country ISO3" if grid["country"] == "world" else ""
    lines.append(f"grid intensity: {grid['gco2e_per_kwh']:.4g} gCO2e/kWh, {grid['place']} ({grid['source']}{other})")
    if any(row["available"] and row["kind"] != "modelled" for row in found["sources"]):
        lines.append(
            "±: from the update period, for a window that is not aligned to it. The sensor's own systematic error "
            "(up to 13 % of a GPU's) comes on top and cancels in ratios."
        )
    if any(row["available"] and row["kind"] == "modelled" for row in found["sources"]):
        lines.append("± of a model: the range of its assumptions; a longer window does not narrow it, ratios do.")
    return lines + list(found["warnings"])
