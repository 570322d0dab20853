"""RAPL's platform domain, "psys": the processor and what the maker of the machine wired to it, a whole laptop at best.

Intel SDM vol. 3B, "RAPL Interfaces", MSR_PLATFORM_ENERGY_STATUS; Linux: the zone of powercap whose file "name" is "psys".
It contains the packages, so its joules are never added to theirs. Its unit is 1 J on servers since Sapphire Rapids (Linux,
drivers/powercap/intel_rapl_common.c).
"""

from __future__ import annotations

from greenprune.bench.energy.parts import MACHINE
from greenprune.bench.energy.rapl.domains import REMEDY
from greenprune.bench.energy.rapl.source import MAX_PLATFORM_W, MAX_POWER_W, period_and_step
from greenprune.bench.energy.sensors.counter import CounterSource
from greenprune.bench.energy.sensors.place import Found, Place, absent, row
from greenprune.bench.energy.sensors.sysfs import folders, optional_number, optional_text, read_number
from greenprune.bench.energy.source import SensorError

NAME = f"{MACHINE}psys"


def find(place: Place) -> Found:
    """The first zone of this name: servers show one for each socket, and all are the same platform's."""
    zones = [zone for zone in folders(place.powercap, "intel-rapl*:*") if optional_text(zone / "name") == "psys"]
    if not zones:
        return absent(NAME, "measured", "no RAPL domain for the platform (psys)")
    file = zones[0] / "energy_uj"
    range_uj = optional_number(zones[0] / "max_energy_range_uj")
    try:
        period_s, step_uj = period_and_step(lambda: int(read_number(file)))
        source = CounterSource(
            NAME,
            lambda: read_number(file) / 1e6,
            period_s=period_s,
            max_power_w=MAX_PLATFORM_W,
            plausible_w=MAX_POWER_W,
            wrap_j=range_uj / 1e6 if range_uj else None,
            detail=f"{zones[0].name}, what the maker wired to the processor's platform domain; enters no sum",
            note="RAPL's platform domain; contains what other sources count",
            # The kernel rounds to whole µJ: of a finer unit nothing is left in common.
            resolution_j=step_uj / 1e6 if step_uj is not None and step_uj > 1 else None,
        )
    except SensorError as e:
        return Found(unusable=[row(NAME, "measured", str(e), REMEDY)])
    return Found([source])
