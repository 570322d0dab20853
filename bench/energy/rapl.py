"""Energy of CPU and memory from RAPL, the energy counters of Intel and AMD processors, through Linux's powercap.

They count the whole package, whoever uses it. Since 2020 (CVE-2020-8694) reading them needs root, or a permission that
the administrator grants.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.sensors.place import IN_CONTAINER
from greenprune.bench.energy.source import Counter, Mark, Segment, SensorError, edge_error_s

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

PERIOD_S = 1e-3  # update period, Intel SDM vol. 3B, "RAPL Interfaces"
MAX_POWER_W = 5_000.0  # of one package; more can only be a counter that was reset


class RaplSource:
    """One domain, such as `rapl:package-0`: a file that counts microjoules and starts at 0 again when it is full."""

    kind: Kind = "measured"
    # A counter that is full after 2^32 units of 15 µJ lasts 13 s at 5 kW: never miss a wraparound.
    poll_interval_s = 1.0

    def __init__(self, name: str, folder: Path) -> None:
        """Raises SensorError when the domain cannot be read."""
        self.name = f"rapl:{name}"
        self._file = folder / "energy_uj"
        wrap_j = _read_uj(folder / "max_energy_range_uj") / 1e6
        self._counter = Counter(
            lambda: _read_uj(self._file) / 1e6, max_power_w=MAX_POWER_W, stale_s=PERIOD_S, wrap_j=wrap_j
        )
        self._counter.mark()

    def poll(self) -> None:
        """Follow the counter over its wraparounds. Raises SensorError."""
        self._counter.mark()

    def mark(self) -> Mark:
        """Raises SensorError."""
        return self._counter.mark()

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        """Bounds: one update period's energy at each edge."""
        energy_j = sum(s.energy_j for s in segments)
        duration_s = sum(s.duration_s for s in segments)
        if energy_j == 0:
            reason = f"the energy counter stood still for {duration_s * 1e3:.1f} ms"
            return SourceReading(name=self.name, kind=self.kind, energy_j=None, valid=False, reason=reason), []
        over_s, under_s = edge_error_s(segments)
        power_w = energy_j / duration_s
        reading = SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=energy_j,
            low_j=max(0.0, energy_j - over_s * power_w),
            high_j=energy_j + under_s * power_w,
            note="whole package, all processes of the machine",
        )
        periods = duration_s / (PERIOD_S * len(segments))
        short = f"{self.name}: {duration_s * 1e3:.1f} ms is only {periods:.0f} periods of the energy counter"
        return reading, [short] if periods < 50 else []

    def rescued(self, segments: Sequence[Segment], reason: str) -> None:
        return None

    def last_sample(self) -> None:
        return None

    def expected_uncertainty(self, window_s: float) -> float | None:
        """One update of the counter in `window_s`."""
        return min(1.0, PERIOD_S / window_s)

    def describe(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "kind": self.kind,
            "available": True,
            "detail": f"{self._file.parent.name}, the whole package",
            "reason": None,
            "remedy": None,
            "period_s": PERIOD_S,
        }

    def restart(self) -> None:
        """Nothing: a file needs no connection."""

    def close(self) -> None:
        """Nothing: no file is kept open."""


def find_rapl(powercap: Path = POWERCAP) -> tuple[list[RaplSource], list[dict[str, Any]]]:
    """All domains to be counted, or none of them and, for `EnergyMeter.describe`, why.

    Packages and the memory beside them ("dram") are counted. Not counted: "core" and "uncore", which are parts of the
    package; "psys", which contains it; and the second path to the same counters (intel-rapl-mmio). When one package
    cannot be read, none is used: half of a machine would pass for the whole.
    """
    try:
        zones = _zones(powercap)
    except SensorError as e:
        return [], [_unavailable("rapl", str(e), REMEDY)]
    packages = [(name, folder) for name, folder in zones if name.startswith("package-")]
    if not packages:
        reason = f"no RAPL domain under {powercap} (a virtual machine, a container, or a processor without RAPL)"
        return [], [_unavailable("rapl", reason, NO_RAPL_REMEDY)]
    sources, problems = [], []
    for name, folder in packages:
        number = name.removeprefix("package-")
        domain = name
        try:
            sources.append(RaplSource(domain, folder))
            for sub_name, sub in _zones(folder):
                if sub_name == "dram":
                    domain = f"dram-{number}"
                    sources.append(RaplSource(domain, sub))
        except SensorError as e:
            problems.append(_unavailable(f"rapl:{domain}", str(e), REMEDY))
    return ([], problems) if problems else (sources, [])


def _zones(folder: Path) -> list[tuple[str, Path]]:
    """Control zones directly below `folder` with their names, in the kernel's order.

    Raises:
        SensorError: the folder is there and cannot be read, or one of its zones: it may be a package that is missed.
    """
    try:
        below = sorted(p for p in folder.iterdir() if p.name.startswith("intel-rapl:"))
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
    return {"source": source, "kind": "measured", "available": False, "reason": reason, "remedy": remedy}


def _read_uj(path: Path) -> int:
    try:
        return int(path.read_text())
    except OSError as e:
        raise SensorError(f"{path} cannot be read ({e.strerror})") from None
    except ValueError:
        raise SensorError(f"{path} does not hold a number") from None
