"""What is told about a command when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from greenprune.bench.command.account import OwnCost
from greenprune.bench.energy.carbon.intensity import J_PER_KWH, GridIntensity, gco2e, place
from greenprune.bench.energy.crosscheck import CrossCheck
from greenprune.bench.energy.parts import part_of
from greenprune.bench.energy.reading import Kind, Reading, SourceReading
from greenprune.bench.energy.units import singular
from greenprune.bench.terminal import console as console_of
from greenprune.bench.text import short, three_digits
from rich.table import Table


def totals(reading: Reading, intensity: GridIntensity, pue: float = 1.0) -> dict[Kind, dict[str, Any]]:
    """By kind: joules and kilowatt-hours of the machine, and grams of CO2 equivalent of the data centre, with bounds; and
    joules per unit of what was counted.

    `pue` is in the grams alone. `missing` names the sensors that a total lacks, with the reason of each; without one it is
    whole. Kinds of which nothing could be read are left out.
    """
    found: dict[Kind, dict[str, Any]] = {}
    for kind in get_args(Kind):
        total = reading.total(kind)
        if total is None:
            continue
        energy_j, bounds_j = total.energy_j, (total.low_j, total.high_j)
        found[kind] = {
            "missing": total.missing,
            "energy_j": energy_j,
            "low_j": bounds_j[0],
            "high_j": bounds_j[1],
            "uncertainty_j": max(energy_j - bounds_j[0], bounds_j[1] - energy_j, 0.0),
            "energy_kwh": energy_j / J_PER_KWH,
            "gco2e": gco2e(energy_j, intensity, pue),
            "gco2e_low": gco2e(bounds_j[0], intensity, pue),
            "gco2e_high": gco2e(bounds_j[1], intensity, pue),
            "per_unit": [part.model_dump() for part in reading.per_unit(kind)],
        }
        net_j = reading.net_j(kind)
        if net_j is not None:
            found[kind]["net_j"] = net_j
    return found


def print_summary(
    reading: Reading,
    sources: Sequence[dict[str, Any]],
    intensity: GridIntensity,
    pue: float,
    own: OwnCost,
    check: CrossCheck | None,
) -> None:
    """On standard error."""
    console = console_of(stderr=True)
    table = Table(title=f"Energy of {reading.duration_s:.2f} s")
    for column in ("source", "kind", "J", "from … to", "net J"):
        table.add_column(column, justify="left" if column in ("source", "kind") else "right", no_wrap=True)
    told = []
    for source in reading.sources:
        if source.energy_j is None:
            table.add_row(source.name, "invalid")
            told.append(f"{source.name}: invalid, {source.reason}")
            continue
        low_j = source.energy_j if source.low_j is None else source.low_j
        high_j = source.energy_j if source.high_j is None else source.high_j
        table.add_row(
            source.name,
            source.kind,
            short(source.energy_j),
            f"{short(low_j)} … {short(high_j)}",
            "–" if source.net_j is None else short(source.net_j),
        )
    console.print(table)
    for kind, total in totals(reading, intensity, pue).items():
        without = f", without {', '.join(total['missing'])}" if total["missing"] else ""
        told.append(
            f"{kind}{without}: {short(total['energy_j'])} J = {short(total['energy_kwh'])} kWh, "
            f"{short(total['gco2e'])} gCO2e ({short(total['gco2e_low'])} to {short(total['gco2e_high'])})"
        )
        told += [
            f"{kind}: {short(part.j_per_unit)} J per {singular(part.unit)} "
            f"({short(part.low_j_per_unit)} to {short(part.high_j_per_unit)}), {part.count:g} {part.unit}"
            for part in reading.per_unit(kind)
        ]
    whole = [source.name for source in reading.whole_machine()]
    if whole:
        told.append(f"{', '.join(whole)}: in no total, where joules of the others would count twice")
    told += [
        f"CO2 by {intensity.gco2e_per_kwh:.4g} g/kWh, {place(intensity)} ({intensity.source})"
        f"{f', PUE {pue:g} included' if pue != 1 else ''}; what is measured and what is modelled are not added up",
        _own_cost(own, reading),
        *(f"{row['source']}: not used, {row['reason']}" for row in sources if not row["available"]),
        *(f"{source.name}: {source.basis}" for source in reading.sources if _is_told(source, reading)),
        *reading.warnings,
    ]
    if check is not None:
        told.append(check.problem or _beside(check))
    for line in told:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _is_told(source: SourceReading, reading: Reading) -> bool:
    """Whether a source's reading says which figure it gives, and no warning does."""
    said = any(source.basis in warning for warning in reading.warnings) if source.basis else True
    return not said and (source.scope == "module" or "mirror" in (source.basis or ""))


def _own_cost(own: OwnCost, reading: Reading) -> str:
    counted = "in what is measured of the whole machine, in no modelled figure"
    where = counted if _sees_the_cores(reading) else "in none of these figures"
    return f"the meter itself took {own.cpu_s:.2f} s of CPU time and {own.resident_bytes / 1e9:.2f} GB: {where}"


def _sees_the_cores(reading: Reading) -> bool:
    """Whether a sensor that could be read counts what every process of the machine does on its cores.

    Where no source is the cores' own, they are in the socket of a GPU (`greenprune.bench.energy.find`).
    """
    in_socket = not any(part_of(source.name) == "cpu" for source in reading.sources)
    return any(
        in_socket or source.scope == "module" or part_of(source.name) in ("cpu", "machine")
        for source in reading.sources
        if source.energy_j is not None and source.kind != "modelled"
    )


def _beside(check: CrossCheck) -> str:
    parts = {"CPU": check.cpu_j, "GPU": check.gpu_j, "RAM": check.ram_j}
    figures = ", ".join(f"{name} {three_digits(joules)} J" for name, joules in parts.items() if joules is not None)
    return f"CodeCarbon {check.version} beside it: {figures} (it took {check.overhead_s or 0:.1f} s of CPU time itself)"
