"""A stretch of time whose energy is read."""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from greenprune.bench.energy.reading import Reading
from greenprune.bench.energy.source import Mark, Segment
from greenprune.bench.energy.units import checked_counts


class Meter(Protocol):
    """What a window needs of the meter that opened it."""

    def synchronise(self) -> list[str]:
        """Wait for the GPU; what went wrong with that."""

    def marks(self) -> list[Mark]:
        """The mark of every source."""

    def marks_at_start(self, window: Window, align: bool) -> list[Mark]:
        """The mark of every source, and the window is open."""

    def marks_at_end(self, window: Window, align: bool) -> list[Mark]:
        """The mark of every source, and the window is closed, or paused."""

    def segments(self, start: Sequence[Mark], end: Sequence[Mark], window_s: float) -> list[Segment]:
        """The stretch between two lists of marks, for each source."""

    def join(self, segments: list[list[Segment]], new: Sequence[Segment]) -> None:
        """Append to each source's segments, or join, so that they stay few."""

    def read(self, name: str, pid: int, segments: Sequence[Sequence[Segment]], span: Span) -> Reading:
        """What every source says of its segments."""


class Span:
    """What else is known of a window."""

    def __init__(self) -> None:
        self.duration_s = 0.0
        self.asleep_s = 0.0  # while the machine was suspended, which is in no duration
        self.problems: dict[str, None] = {}  # in the order in which they came, each once


class Window:
    """A stretch of time whose energy is read. Made by `EnergyMeter.window` and `EnergyMeter.begin`."""

    def __init__(self, meter: Meter, name: str, align: bool = False, units: Mapping[str, float] | None = None) -> None:
        self.name = name
        self._units = checked_counts(units or {})
        self._align = align
        self._meter = meter
        self._pid = os.getpid()
        self._segments: list[list[Segment]] = []  # of each source
        self._span = Span()
        self._reading: Reading | None = None
        self._open: list[Mark] | None = None
        self._start()

    @property
    def reading(self) -> Reading:
        """The energy. Raises RuntimeError while the window is open."""
        if self._reading is None:
            raise RuntimeError(f'the window "{self.name}" has not ended')
        return self._reading

    def count(self, /, **units: float) -> None:  # a unit may be called self
        """Add to what was done in the window, before or after its end: `window.count(tokens=17)`.

        Raises ValueError where a number, or what it comes to with those before, is negative, infinite or none at all;
        nothing is then added.
        """
        sums = {unit: self._units.get(unit, 0.0) + count for unit, count in checked_counts(units).items()}
        self._units |= checked_counts(sums)
        if self._reading is not None:
            self._reading = self._reading.model_copy(update={"units": dict(self._units)})

    def so_far(self) -> Reading:
        """The energy until now; the window stays open. After its end, the whole."""
        if self._reading is not None:
            return self._reading
        segments, span = [list(own) for own in self._segments], copy.copy(self._span)
        if self._open is not None:
            marks, duration_s = self._meter.marks(), time.perf_counter() - self._start_s
            span.duration_s += duration_s
            span.asleep_s += asleep_s() - self._asleep_s
            self._meter.join(segments, self._meter.segments(self._open, marks, duration_s))
        reading = self._meter.read(self.name, self._pid, segments, span)
        return reading.model_copy(update={"units": dict(self._units)})

    def end(self) -> Reading:
        """Close the window; a second time does nothing. Never raises on account of a sensor."""
        if self._reading is None:
            if self._open is not None:
                self._stop()
            reading = self._meter.read(self.name, self._pid, self._segments, self._span)
            self._reading = reading.model_copy(update={"units": dict(self._units)})
            self._segments = []
        return self._reading

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time and energy inside do not count. Inside another pause it does nothing."""
        if self._open is None or self._reading is not None:
            yield
            return
        self._stop()
        try:
            yield
        finally:
            if self._reading is None:
                self._start()

    def _start(self) -> None:
        self._note(self._meter.synchronise())
        self._open = self._meter.marks_at_start(self, self._align)
        self._start_s, self._asleep_s = time.perf_counter(), asleep_s()

    def _stop(self) -> None:
        assert self._open is not None
        self._note(self._meter.synchronise())
        end_s = time.perf_counter()
        marks = self._meter.marks_at_end(self, self._align)
        # An aligned window lasts until the counter moves, and what was used until then is in the figure.
        duration_s = (time.perf_counter() if self._align else end_s) - self._start_s
        self._span.duration_s += duration_s
        self._span.asleep_s += asleep_s() - self._asleep_s
        self._meter.join(self._segments, self._meter.segments(self._open, marks, duration_s))
        self._open = None

    def _note(self, problems: Sequence[str]) -> None:
        self._span.problems |= dict.fromkeys(problems)


def asleep_s() -> float:
    """Seconds for which this machine has been suspended since it started; only differences mean anything."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if clock is None else time.clock_gettime(clock) - time.clock_gettime(time.CLOCK_MONOTONIC)
