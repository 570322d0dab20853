"""What every source of energy has in common: a running total that is marked at the edges of a window."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from greenprune.bench.energy.reading import Kind, SourceReading


class SensorError(Exception):
    """A sensor did not answer, or not believably. The message is for the user. Never leaves `greenprune.bench.energy`."""


@dataclass(frozen=True)
class Mark:
    """The running total of one source at one moment. Only the difference of two marks means anything."""

    time_s: float  # of time.perf_counter()
    total_j: float  # NaN when the sensor failed
    stale_s: float = 0.0  # how old the total may be: the update period of a counter
    resets: int = 0  # how often the total has started anew so far
    reason: str | None = None  # why there is no total, or why it last started anew


class Segment(NamedTuple):
    """A stretch of a window between two marks of one source; a window that was paused has several."""

    start: Mark
    end: Mark
    window_s: float | None = None
    """How much of it belongs to the window. Marks that were read late, on a busy machine, enclose more."""

    @property
    def duration_s(self) -> float:
        return self.end.time_s - self.start.time_s

    @property
    def energy_j(self) -> float:
        return self.end.total_j - self.start.total_j


class Source(Protocol):
    """One source of energy. Any method may raise; the meter turns that into an invalid reading."""

    name: str
    kind: Kind
    poll_interval_s: float  # how often the sampler thread calls `poll` while a window is open

    def poll(self) -> None:
        """Keep up with the sensor between the marks: wraparounds, resets, power samples."""

    def mark(self) -> Mark:
        """Read the running total now."""

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        """Energy of the segments together, and warnings about it. Only called when `fault(segments)` is None."""

    def rescued(self, segments: Sequence[Segment], reason: str) -> tuple[SourceReading, list[str]] | None:
        """For segments whose totals cannot be trusted (`reason`): the energy found in another way, None without one."""

    def last_sample(self) -> tuple[float, float] | None:
        """Time (of time.perf_counter()) and power in W that a power register said last, None for a source without one.
        Reads nothing."""

    def expected_uncertainty(self, window_s: float) -> float | None:
        """`uncertainty_j / energy_j` of a window of `window_s` at constant power; None when it cannot be read."""

    def describe(self) -> dict[str, Any]:
        """One row of `EnergyMeter.describe`."""

    def restart(self) -> None:
        """Begin anew in a forked child."""

    def close(self) -> None:
        """Let go of what is held."""


def read_mark(source: Source) -> Mark:
    """The mark of `source` now; where it fails, one of NaN with the reason."""
    try:
        return source.mark()
    except Exception as e:
        return Mark(time.perf_counter(), math.nan, reason=_in_words(e))


def describe_source(source: Source) -> dict[str, Any]:
    """`source.describe()`; where it fails, a row that says so."""
    try:
        return source.describe()
    except Exception as e:
        return {
            "source": source.name,
            "kind": source.kind,
            "available": False,
            "reason": _in_words(e),
            "remedy": None,
        }


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, SensorError) else f"{type(error).__name__}: {error}"


def fault(segments: Sequence[Segment]) -> str | None:
    """Why the segments cannot be trusted, None when they can."""
    for start, end, _ in segments:
        if math.isnan(start.total_j):
            return start.reason or "the sensor failed"
        if math.isnan(end.total_j):
            return end.reason or "the sensor failed"
        if start.resets != end.resets:
            return end.reason or "the counter was reset"
    return None


def edge_error_s(segments: Sequence[Segment]) -> tuple[float, float]:
    """Seconds of energy that may be too much and too little because totals were stale, or read late.

    What was still unread at the start of a segment was counted in it; what was still unread at its end was not.
    """
    excess_s = [0.0 if s.window_s is None else s.duration_s - s.window_s for s in segments]
    over_s = sum(s.start.stale_s + max(0.0, excess) for s, excess in zip(segments, excess_s, strict=True))
    under_s = sum(s.end.stale_s + max(0.0, -excess) for s, excess in zip(segments, excess_s, strict=True))
    return over_s, under_s


def invalid(name: str, kind: Kind, reason: str) -> SourceReading:
    """A reading without a figure. Never 0 J: nothing measured is not the same as nothing used."""
    return SourceReading(name=name, kind=kind, energy_j=None, valid=False, reason=reason)


def counter_step_j(
    previous_j: float, current_j: float, elapsed_s: float, *, max_power_w: float, wrap_j: float | None = None
) -> float:
    """Energy between two readings of a hardware counter, over at most one wraparound.

    `wrap_j` is the value after which the counter starts at 0 again, None for one that never does.

    Raises:
        SensorError: the counter went backwards without a wraparound, or forwards faster than `max_power_w` allows.
    """
    step_j = current_j - previous_j
    if step_j < 0:
        if wrap_j is None:
            raise SensorError(
                f"the energy counter went back from {previous_j:.1f} J to {current_j:.1f} J: it was reset"
            )
        step_j += wrap_j
    if not 0 <= step_j <= max_power_w * elapsed_s:
        raise SensorError(
            f"the energy counter moved by {step_j:.1f} J in {elapsed_s:.2f} s, "
            f"more than {max_power_w:.0f} W allow: it was reset"
        )
    return step_j


class Counter:
    """Running total of a hardware energy counter, followed over wraparounds; a reset is counted, never subtracted."""

    def __init__(
        self, read_j: Callable[[], float], *, max_power_w: float, stale_s: float, wrap_j: float | None = None
    ) -> None:
        """`stale_s`: how old what `read_j` returns may be, the update period of the counter."""
        self._read_j = read_j
        self._max_power_w = max_power_w
        self._stale_s = stale_s
        self._wrap_j = wrap_j
        self._last: tuple[float, float] | None = None  # time in s, counter in J
        self._total_j = 0.0
        self._resets = 0
        self._reason: str | None = None

    def mark(self) -> Mark:
        """Read the counter now. Raises SensorError, or whatever `read_j` raises."""
        counter_j = self._read_j()
        now_s = time.perf_counter()
        if self._last is not None:
            last_s, last_j = self._last
            elapsed_s = now_s - last_s + 2 * self._stale_s
            try:
                self._total_j += counter_step_j(
                    last_j, counter_j, elapsed_s, max_power_w=self._max_power_w, wrap_j=self._wrap_j
                )
            except SensorError as e:
                self._resets += 1
                self._reason = str(e)
        self._last = (now_s, counter_j)
        return Mark(now_s, self._total_j, self._stale_s, self._resets, self._reason)


class Missing:
    """A source that was asked for and is not to be had: every window says so instead of leaving it out."""

    kind: Kind = "measured"
    poll_interval_s = math.inf

    def __init__(self, name: str, reason: str, remedy: str | None = None) -> None:
        self.name = name
        self._reason = reason
        self._remedy = remedy

    def poll(self) -> None:
        pass

    def mark(self) -> Mark:
        raise SensorError(self._reason)

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        return invalid(self.name, self.kind, self._reason), []

    def rescued(self, segments: Sequence[Segment], reason: str) -> None:
        return None

    def last_sample(self) -> None:
        return None

    def expected_uncertainty(self, window_s: float) -> float | None:
        return None

    def describe(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "kind": self.kind,
            "available": False,
            "reason": self._reason,
            "remedy": self._remedy,
        }

    def restart(self) -> None:
        pass

    def close(self) -> None:
        pass
