"""Energy of CPU and memory from RAPL, the energy counters of Intel and AMD processors, through Linux's powercap.

They count the whole package, whoever uses it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greenprune.bench.energy.counting.ticks import probe_period_s
from greenprune.bench.energy.counting.totals import Counter
from greenprune.bench.energy.rapl.mirrors import Mirrors
from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.source import Mark, Segment, SensorError, edge_error_s

RESOLUTION_J = 2.0**-14  # the usual unit, same place; AMD's is 2^-16 J
PERIOD_S = 1e-3  # shortest update period, Intel SDM vol. 3B, "RAPL Interfaces"
MAX_POWER_W = 5_000.0  # of one package; more can only be a counter that was reset
MAX_PLATFORM_W = 50_000.0  # the same of a platform, which may be a server with all of its GPUs
PEAK_FACTOR = 2.0  # by which a domain may exceed, over seconds, the highest power that its constraints name
LEAST_PLAUSIBLE_W = 100.0
UNKNOWN_RANGE_UJ = 2**63  # of a counter whose range the kernel does not tell
POLLS_IN_A_RANGE = 4  # so many looks while the counter goes round once at its highest plausible power
PROBE_LOOKS, PROBE_EVERY_S = 8, 0.003
PROBE_S = 0.05  # for which a counter is watched for its update period
PROBE_TICKS = 8  # or until it has moved once more than that
LEAST_SEEN = 4  # different values, from which a counter's step is told


@dataclass(frozen=True)
class RaplMark(Mark):
    """A mark with the total of each of the domain's counters, and what each may have gone round unseen."""

    totals_j: tuple[float, ...] = ()
    unseens_j: tuple[float, ...] = ()


@dataclass(frozen=True)
class Counted:
    """What each counter counted between two marks, or in several stretches."""

    totals_j: tuple[float, ...]
    unseens_j: tuple[float, ...]

    def __add__(self, other: Counted) -> Counted:
        return Counted(_sums(self.totals_j, other.totals_j), _sums(self.unseens_j, other.unseens_j))


class RaplSource:
    """One domain of one socket, such as `rapl:package-0`: files that count microjoules and start at 0 again when full.

    A socket of several dies has several; those that mirror one another count once.
    """

    kind: Kind = "measured"

    def __init__(self, name: str, folders: Sequence[Path]) -> None:
        """Raises SensorError when the domain cannot be read."""
        self.name = f"rapl:{name}"
        self._folders = tuple(folders)
        self._files = [folder / "energy_uj" for folder in folders]
        self._labels = [_label(folder) for folder in folders]
        ranges_uj = [_range_uj(folder) for folder in folders]
        plausible_w = [_plausible_w(folder) for folder in folders]
        self._now_uj = [0] * len(self._files)
        self._counters = [
            Counter(
                lambda i=i: self._now_uj[i] / 1e6,  # type: ignore[misc]
                max_power_w=MAX_POWER_W,
                stale_s=PERIOD_S,
                wrap_j=None if range_uj is None else range_uj / 1e6,
                plausible_w=power_w,
            )
            for i, (range_uj, power_w) in enumerate(zip(ranges_uj, plausible_w, strict=True))
        ]
        self._period_s = max(rapl_period_s(lambda file=file: _read_uj(file)) for file in self._files)  # type: ignore[misc]
        for counter in self._counters:
            counter.stale_s = self._period_s
        rounds_s = [uj / 1e6 / power_w for uj, power_w in zip(ranges_uj, plausible_w, strict=True) if uj is not None]
        self.poll_interval_s = min(1.0, max(0.02, min(rounds_s, default=4.0) / POLLS_IN_A_RANGE))
        self._mirrors = Mirrors([UNKNOWN_RANGE_UJ if range_uj is None else range_uj + 1 for range_uj in ranges_uj])
        self._marks: list[Mark] = [Mark(0.0, 0.0)] * len(self._files)
        self._read()
        for _ in range(PROBE_LOOKS):
            if self._mirrors.settled:
                break
            time.sleep(PROBE_EVERY_S)
            self._read()

    def poll(self) -> None:
        """Follow the counters over their wraparounds. Raises SensorError."""
        self._read()

    def mark(self) -> Mark:
        """Raises SensorError."""
        self._read()
        counted = [self._marks[group[0]] for group in self._mirrors.groups()]
        return RaplMark(
            counted[0].time_s,
            sum(mark.total_j for mark in counted),
            self._period_s,
            sum(mark.resets for mark in self._marks),
            next((mark.reason for mark in self._marks if mark.reason), None),
            sum(mark.unseen_j for mark in counted),
            totals_j=tuple(mark.total_j for mark in self._marks),
            unseens_j=tuple(mark.unseen_j for mark in self._marks),
        )

    def tally(self, start: Mark, end: Mark) -> Counted | None:
        """What each counter counted between two marks of this source; None where one of them failed."""
        if not isinstance(start, RaplMark) or not isinstance(end, RaplMark):
            return None
        return Counted(
            tuple(b - a for a, b in zip(start.totals_j, end.totals_j, strict=True)),
            tuple(b - a for a, b in zip(start.unseens_j, end.unseens_j, strict=True)),
        )

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        """Bounds: one update period's energy at each edge, and whole ranges that may have gone by unseen."""
        groups = self._mirrors.groups()
        counted = self._counted(segments)
        energy_j = sum(counted.totals_j[group[0]] for group in groups)
        unseen_j = sum(counted.unseens_j[group[0]] for group in groups)
        duration_s = sum(s.duration_s for s in segments)
        if energy_j == 0:
            return self._invalid(f"the energy counter stood still for {duration_s * 1e3:.1f} ms"), []
        gap = (
            f"nobody looked at the energy counter for so long (stopped, or the machine was paused) that it may have gone "
            f"round unseen, by up to {unseen_j:.0f} J"
        )
        if unseen_j > energy_j:
            return self._invalid(f"{gap}; {energy_j:.1f} J were seen"), []
        over_s, under_s = edge_error_s(segments)
        power_w = energy_j / duration_s
        suspected = self._mirrors.groups(suspected=True)
        once_j = sum(counted.totals_j[group[0]] for group in suspected)
        reading = SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=energy_j,
            low_j=max(0.0, min(energy_j, once_j) - over_s * power_w),
            high_j=energy_j + under_s * power_w + unseen_j,
            note=f"whole package, all processes of the machine{self._mirrored(groups)}",
            basis=self._basis(groups),
        )
        periods = duration_s / (self._period_s * sum(s.parts for s in segments))
        warnings = [f"{self.name}: {gap}"] if unseen_j else []
        if len(suspected) < len(groups):
            warnings.append(
                f"{self.name}: its counters were equal so far and may be mirrors of one; the bounds hold both"
            )
        if periods < 50:
            warnings.append(
                f"{self.name}: {duration_s * 1e3:.1f} ms is only {periods:.0f} periods of the energy counter"
            )
        return reading, warnings

    def rescued(self, segments: Sequence[Segment], reason: str) -> None:
        return None

    def last_sample(self) -> None:
        return None

    def expected_uncertainty(self, window_s: float) -> float | None:
        """One update of the counter in `window_s`."""
        return min(1.0, self._period_s / window_s)

    def describe(self) -> dict[str, Any]:
        with contextlib.suppress(SensorError):
            self._read()
        groups = self._mirrors.groups()
        return {
            "source": self.name,
            "kind": self.kind,
            "available": True,
            "detail": f"{self._folders[0].name}, the whole package{self._mirrored(groups)}",
            "reason": None,
            "remedy": None,
            "period_s": self._period_s,
            "resolution_j": RESOLUTION_J,
            "range_j": min((counter.wrap_j for counter in self._counters if counter.wrap_j is not None), default=None),
            "mirrors": [[self._labels[i] for i in group] for group in groups if len(group) > 1],
        }

    def restart(self) -> None:
        """Nothing: a file needs no connection."""

    def close(self) -> None:
        """Nothing: no file is kept open."""

    def _read(self) -> None:
        """Read what counts; as long as two counters may be one, all of them, twice. Raises SensorError."""
        settled = self._mirrors.settled
        needed = [group[0] for group in self._mirrors.groups()] if settled else list(range(len(self._files)))
        for i in needed:
            self._now_uj[i] = _read_uj(self._files[i])
            self._marks[i] = self._counters[i].mark()
        if not settled:
            first_uj = list(self._now_uj)
            self._mirrors.look(first_uj, [_read_uj(file) for file in self._files])

    def _counted(self, segments: Sequence[Segment]) -> Counted:
        none = (0.0,) * len(self._files)
        found = Counted(none, none)
        for segment in segments:
            part = segment.tally if isinstance(segment.tally, Counted) else self.tally(segment.start, segment.end)
            found += part or Counted((segment.energy_j, *none[1:]), (segment.unseen_j, *none[1:]))
        return found

    def _mirrored(self, groups: Sequence[Sequence[int]]) -> str:
        names = [", ".join(self._labels[i] for i in group) for group in groups if len(group) > 1]
        return "".join(f"; {name} are mirrors of one counter, which counts once" for name in names)

    def _basis(self, groups: Sequence[Sequence[int]]) -> str | None:
        if len(self._files) == 1:
            return None
        counted = " + ".join(self._labels[group[0]] for group in groups)
        return f"{counted if len(groups) == 1 else f'the sum of {counted}'}{self._mirrored(groups)}"

    def _invalid(self, reason: str) -> SourceReading:
        return SourceReading(name=self.name, kind=self.kind, energy_j=None, valid=False, reason=reason)


def _sums(a: Sequence[float], b: Sequence[float]) -> tuple[float, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _range_uj(folder: Path) -> int | None:
    """After which the counter starts again; None where the kernel does not say: one that goes back is then a reset."""
    try:
        return _read_uj(folder / "max_energy_range_uj") or None
    except SensorError:
        return None


def rapl_period_s(read: Callable[[], float]) -> float:
    """The update period of a RAPL counter, 1 ms or longer; 1 ms for one that does not move. Raises SensorError."""
    found_s = probe_period_s(read, ticks=PROBE_TICKS, limit_s=PROBE_S, slow_limit_s=2 * PROBE_S)
    return max(PERIOD_S, found_s or 0.0)


def period_and_step(read: Callable[[], int]) -> tuple[float, int | None]:
    """As `rapl_period_s`; and the counter's step, of which all values that were seen are multiples, None where too few
    were seen to tell. Raises SensorError."""
    seen: set[int] = set()

    def noted() -> int:
        value = read()
        seen.add(value)
        return value

    period_s = rapl_period_s(noted)
    return period_s, math.gcd(*seen) if len(seen) >= LEAST_SEEN else None


def _label(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return (folder / "name").read_text(errors="replace").strip()
    return folder.name


def _plausible_w(folder: Path) -> float:
    """The highest power that a domain may have over seconds: from its constraints, or what no socket exceeds."""
    named_w = []
    for file in (*folder.glob("constraint_*_max_power_uw"), *folder.glob("constraint_*_power_limit_uw")):
        with contextlib.suppress(SensorError):
            named_w.append(_read_uj(file) / 1e6)
    highest_w = max(named_w, default=0.0)
    return min(MAX_POWER_W, max(LEAST_PLAUSIBLE_W, PEAK_FACTOR * highest_w)) if highest_w > 0 else MAX_POWER_W


def _read_uj(path: Path) -> int:
    try:
        return int(path.read_text())
    except OSError as e:
        raise SensorError(f"{path} cannot be read ({e.strerror})") from None
    except ValueError:
        raise SensorError(f"{path} does not hold a number") from None
