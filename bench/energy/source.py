"""What every source of energy has in common: a running total that is marked at the edges of a window."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from greenprune.bench.energy.reading import Kind, SourceReading

RETRY_AFTER_S = (0.002, 0.003)  # pauses before a mark that failed is read again: longer ones delay other sources' marks


class SensorError(Exception):
    """A sensor did not answer, or not believably. The message is for the user. Never leaves `greenprune.bench.energy`."""

    remedy: str | None = None  # what the user can do about it


@dataclass(frozen=True)
class Mark:
    """The running total of one source at one moment. Only the difference of two marks means anything."""

    time_s: float  # of time.perf_counter()
    total_j: float  # NaN when the sensor failed
    stale_s: float = 0.0  # how old the total may be: the update period of a counter
    resets: int = 0  # how often the total has started anew so far
    reason: str | None = None  # why there is no total, or why it last started anew
    unseen_j: float = 0.0  # how much more it may have been until now: whole ranges that a counter went round unseen
    tick_s: float | None = None  # how soon the total will move, where that is not `stale_s`
    less_j: float = 0.0  # by how much a model may be too high so far
    more_j: float = 0.0  # by how much it may be too low


class Segment(NamedTuple):
    """A stretch of a window between two marks of one source; a window that was paused has several."""

    start: Mark
    end: Mark
    window_s: float | None = None
    """How much of it belongs to the window. Marks that were read late, on a busy machine, enclose more."""
    tally: Any = None
    """What a `Tallying` source noted in it."""
    parts: int = 1
    """How many stretches were joined to this one."""

    @property
    def duration_s(self) -> float:
        return self.end.time_s - self.start.time_s

    @property
    def energy_j(self) -> float:
        return self.end.total_j - self.start.total_j

    @property
    def unseen_j(self) -> float:
        return self.end.unseen_j - self.start.unseen_j

    @property
    def less_j(self) -> float:
        return self.end.less_j - self.start.less_j

    @property
    def more_j(self) -> float:
        return self.end.more_j - self.start.more_j


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


class Tallying(Protocol):
    """What a source may offer beside `Source`, where it needs more of a stretch than the totals at both of its ends."""

    def tally(self, start: Mark, end: Mark) -> Any:
        """What was noted between two of its marks, asked for just after `end` was read; None: nothing. `+` joins two."""


class LookingAgain(Protocol):
    """What a source may offer beside `Source`, where one look of the sampler at a time does not tell enough."""

    def second_look_s(self) -> float | None:
        """In how many seconds after a poll `look_again` is to be called; None: not this time."""

    def look_again(self) -> None:
        """Look at the sensor once more."""


def joined(a: Segment, b: Segment) -> Segment:
    """One segment with the duration, energy, errors and notes of both; `b` follows `a`, with a pause between them.

    A window that is paused a million times so keeps one segment.
    """
    over_s, under_s = edge_error_s([a, b])  # with what was read late, so that nothing of that is left
    duration_s = a.duration_s + b.duration_s
    end = replace(
        a.end,
        time_s=a.start.time_s + duration_s,
        total_j=a.end.total_j + b.energy_j,
        stale_s=under_s,
        resets=a.end.resets + b.end.resets - b.start.resets,
        reason=fault([a, b]),
        unseen_j=a.end.unseen_j + b.unseen_j,
        less_j=a.end.less_j + b.less_j,
        more_j=a.end.more_j + b.more_j,
    )
    tally = None if a.tally is None or b.tally is None else a.tally + b.tally
    return Segment(replace(a.start, stale_s=over_s), end, duration_s, tally, a.parts + b.parts)


def read_mark(source: Source) -> Mark:
    """The mark of `source` now; where it fails, and soon after too, one of NaN with the reason.

    A failed mark spoils its whole window, which may be a training that is paused at each evaluation.
    """
    for pause_s in () if isinstance(source, Missing) else RETRY_AFTER_S:
        with contextlib.suppress(Exception):
            return source.mark()
        time.sleep(pause_s)
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
            "reason": str(e) if isinstance(e, SensorError) else _in_words(e),
            "remedy": getattr(e, "remedy", None),
        }


def _in_words(error: Exception) -> str:
    return with_remedy(error) if isinstance(error, SensorError) else f"{type(error).__name__}: {error}"


def with_remedy(error: SensorError) -> str:
    """What is wrong and what to do about it, in one sentence."""
    return f"{error}; {error.remedy}" if error.remedy else str(error)


def fault(segments: Sequence[Segment]) -> str | None:
    """Why the segments cannot be trusted, None when they can."""
    for start, end in ((s.start, s.end) for s in segments):
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
        error = SensorError(self._reason)
        error.remedy = self._remedy
        raise error

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
