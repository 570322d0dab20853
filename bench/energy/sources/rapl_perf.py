"""RAPL through perf_event_open, where powercap is missing or not readable.

The PMU "power" (Linux, arch/x86/events/rapl.c, for Intel and AMD): /sys/bus/event_source/devices/power/type, cpumask (one CPU
of each package), events/energy-pkg ("event=0x02"), .scale (2^-32 J) and .unit ("Joules"). The kernel extends the hardware's
32 bits to 64, so nothing wraps here. Counting a whole CPU needs CAP_PERFMON or kernel.perf_event_paranoid <= 0
(Documentation/admin-guide/perf-security.rst).

As with powercap: packages ("energy-pkg") and the memory beside them ("energy-ram") are counted; "energy-cores" and
"energy-gpu" are parts of the package; "energy-psys" is the platform, which enters no sum.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from greenprune.bench.energy.parts import MACHINE
from greenprune.bench.energy.rapl.source import MAX_PLATFORM_W, MAX_POWER_W, period_and_step
from greenprune.bench.energy.sensors.counter import CounterSource
from greenprune.bench.energy.sensors.perf_event import PerfDeniedError, PerfEvent
from greenprune.bench.energy.sensors.place import IN_CONTAINER, Found, Place, absent, row
from greenprune.bench.energy.sensors.sysfs import optional_text, read_number, read_text
from greenprune.bench.energy.source import SensorError

NAME = "rapl-perf"
DEFAULT_SCALE_J = 2.0**-32
REMEDY = (
    "sudo setcap cap_perfmon+ep {python} (an interpreter of your own: python -m venv --copies), or for "
    "everybody: sudo sysctl kernel.perf_event_paranoid=0 (for good: in /etc/sysctl.d/70-perf.conf); in a container, add "
    "--cap-add PERFMON and a seccomp profile that allows perf_event_open"
)


def find(place: Place, open_event: Callable[[int, int, int], PerfEvent] | None = None) -> Found:
    """All packages and their memory, or none of them: half of a machine would pass for the whole."""
    open_event = open_event or PerfEvent
    pmu = place.sysfs / "bus" / "event_source" / "devices" / "power"
    if not pmu.exists():
        reason = f"no PMU for energy ({pmu})"
        remedy = IN_CONTAINER if place.in_container else "sudo modprobe rapl (x86 without a hypervisor in between)"
        return absent(NAME, "measured", reason, remedy)
    sources: list[CounterSource] = []
    try:
        event_type = int(read_number(pmu / "type"))
        packages = _packages(place, cpus(read_text(pmu / "cpumask")))
        for event, name, needed in (("energy-pkg", "rapl:package", True), ("energy-ram", "rapl:dram", False)):
            if not needed and not (pmu / "events" / event).exists():
                continue
            for package, cpu in packages.items():
                sources.append(_open(f"{name}-{package}", pmu, event, event_type, cpu, open_event))
        if (pmu / "events" / "energy-psys").exists():
            first = next(iter(packages.values()))
            sources.append(_open(f"{MACHINE}psys", pmu, "energy-psys", event_type, first, open_event))
    except SensorError as e:
        for source in sources:
            source.close()
        permission = REMEDY.format(python=sys.executable) if isinstance(e, PerfDeniedError) else None
        return Found(unusable=[row(NAME, "measured", str(e), permission)])
    return Found(sources)


def cpus(text: str) -> list[int]:
    """The CPUs of a mask such as "0,24-25". Raises SensorError."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit()):
            raise SensorError(f'"{text}" is no list of CPUs')
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise SensorError("the PMU for energy names no CPU")
    return found


def _packages(place: Place, mask: list[int]) -> dict[str, int]:
    """By package ("0", or "0-die-1" where dies count apart): the CPU to count on.

    AMD's counter belongs to the package: several of its dies that are listed are mirrors. Intel's belongs to the die.
    """
    vendor = re.search(r"^vendor_id\s*:\s*(\S+)", optional_text(place.root / "proc" / "cpuinfo") or "", re.MULTILINE)
    by_die = vendor is not None and vendor.group(1) == "GenuineIntel"
    places: dict[tuple[int, int], int] = {}
    for cpu in mask:
        topology = place.sysfs / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology"
        package = _topology(topology / "physical_package_id", 0 if len(mask) == 1 else None)
        die = max(0, _topology(topology / "die_id", 0)) if by_die else 0
        places.setdefault((max(0, package), die), cpu)
    multi = {package for package, _ in places if sum(p == package for p, _ in places) > 1}
    return {f"{p}-die-{die}" if p in multi else str(p): cpu for (p, die), cpu in places.items()}


def _topology(path: Path, default: int | None) -> int:
    """Raises SensorError without a default."""
    try:
        return int(read_number(path))
    except SensorError:
        if default is None:
            raise
        return default


def _open(
    name: str, pmu: Path, event: str, event_type: int, cpu: int, open_event: Callable[[int, int, int], PerfEvent]
) -> CounterSource:
    """Raises SensorError."""
    path = pmu / "events" / event
    code = re.search(r"event=(0x[0-9a-fA-F]+|\d+)", read_text(path))
    if code is None:
        raise SensorError(f"{path} does not name an event")
    unit = optional_text(path.with_name(f"{event}.unit")) or "Joules"
    if unit != "Joules":
        raise SensorError(f"{path}.unit is {unit}, not Joules")
    scale = path.with_name(f"{event}.scale")
    scale_j = read_number(scale) if scale.exists() else DEFAULT_SCALE_J
    opened = open_event(event_type, int(code.group(1), 0), cpu)
    platform = name.startswith(MACHINE)
    whole = "the whole platform; enters no sum" if platform else "the whole package"
    period_s, step = period_and_step(opened.read)
    return CounterSource(
        name,
        lambda: opened.read() * scale_j,
        period_s=period_s,
        max_power_w=MAX_PLATFORM_W if platform else MAX_POWER_W,
        detail=f"{event} of perf_event_open on CPU {cpu}, {whole}",
        note=f"{whole}, all processes of the machine, by perf_event_open",
        resolution_j=None if step is None else step * scale_j,
        close=opened.close,
    )
