"""Which domains of RAPL a machine has, as Linux's powercap lists them.

Since 2020 (CVE-2020-8694) reading their counters needs root, or a permission that the administrator grants.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from greenprune.bench.energy.rapl.source import RaplSource
from greenprune.bench.energy.sensors.place import IN_CONTAINER, row
from greenprune.bench.energy.sensors.sysfs import by_number
from greenprune.bench.energy.source import SensorError

POWERCAP = Path("/sys/class/powercap")
UDEV_RULE = 'ACTION=="add", SUBSYSTEM=="powercap", KERNEL=="intel-rapl*:*", RUN+="/bin/chmod a+r /sys%p/energy_uj"'
REMEDY = (
    "sudo chmod a+r /sys/class/powercap/intel-rapl*:*/energy_uj (until the next start of the machine); for good, put "
    f"{UDEV_RULE} into /etc/udev/rules.d/70-energy.rules and run: sudo udevadm control --reload && sudo udevadm trigger "
    "--subsystem-match=powercap --action=add. Every user of the machine can then read it (CVE-2020-8694)"
)
NO_RAPL_REMEDY = (
    "RAPL needs an Intel or AMD processor without a hypervisor in between (sudo modprobe intel_rapl_msr); "
    f"{IN_CONTAINER}"
)


def find_rapl(powercap: Path = POWERCAP) -> tuple[list[RaplSource], list[dict[str, Any]]]:
    """All domains to be counted, or none of them and, for `EnergyMeter.describe`, why.

    Packages and the memory beside them ("dram") are counted; the counters of a socket's dies are one source, in which
    mirrors count once. Not counted: "core" and "uncore", which are parts of the package; "psys", which contains it
    (`greenprune.bench.energy.sources.psys`); and a second path to a package that is counted (intel-rapl-mmio). When one
    package cannot be read, none is used: half of a machine would pass for the whole.
    """
    try:
        zones = _zones(powercap)
        known = {name for name, _ in zones}
        zones += [(name, folder) for name, folder in _zones(powercap, "intel-rapl-mmio:") if name not in known]
    except SensorError as e:
        return [], [_unavailable("rapl", str(e), REMEDY)]
    packages: dict[str, list[Path]] = {}  # by the number of the socket
    for name, folder in zones:
        if name.startswith("package-"):
            socket = re.match(r"package-(\d+)", name)
            packages.setdefault(socket.group(1) if socket else name.removeprefix("package-"), []).append(folder)
    if not packages:
        reason = f"no RAPL domain under {powercap} (a virtual machine, a container, or a processor without RAPL)"
        return [], [row("rapl", "measured", reason, NO_RAPL_REMEDY, found=False)]
    sources, problems = [], []
    for number, folders in packages.items():
        domain = f"package-{number}"
        try:
            sources.append(RaplSource(domain, folders))
            memory = [sub for folder in folders for sub_name, sub in _parts(folder) if sub_name == "dram"]
            if memory:
                domain = f"dram-{number}"
                sources.append(RaplSource(domain, memory))
        except SensorError as e:
            problems.append(_unavailable(f"rapl:{domain}", str(e), REMEDY))
    return ([], problems) if problems else (sources, [])


def _parts(package: Path) -> list[tuple[str, Path]]:
    return _zones(package, package.name.partition(":")[0] + ":")


def _zones(folder: Path, prefix: str = "intel-rapl:") -> list[tuple[str, Path]]:
    """Control zones directly below `folder` with their names, in the kernel's order.

    Raises:
        SensorError: the folder is there and cannot be read, or one of its zones: it may be a package that is missed.
    """
    try:
        below = sorted((p for p in folder.iterdir() if p.name.startswith(prefix)), key=by_number)
        # The class folder lists zones of every level side by side: a package has one colon, its parts have two.
        depth = min((p.name.count(":") for p in below), default=0)
        top = [p for p in below if p.name.count(":") == depth]
        return [((p / "name").read_text(errors="replace").strip(), p) for p in top]
    except FileNotFoundError as e:
        if Path(e.filename) == folder:
            return []
        raise SensorError(f"{e.filename} is missing") from None
    except OSError as e:
        raise SensorError(f"{e.filename} cannot be read ({e.strerror})") from None


def _unavailable(source: str, reason: str, remedy: str | None) -> dict[str, Any]:
    return row(source, "measured", reason, remedy)
