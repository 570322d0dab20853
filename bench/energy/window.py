"""A stretch of time whose energy is read."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from greenprune.bench.energy.reading import Reading
from greenprune.bench.energy.source import Mark
from greenprune.bench.energy.units import checked_counts

Span = tuple[Sequence[Mark], Sequence[Mark], float]
"""The marks of every source at both ends of a stretch, and its seconds."""


@dataclass(frozen=True)
class Edges:
    """What a meter does where a window begins, pauses and ends.

    Attributes:
        synchronise: waits for what was launched before; returns what went wrong.
        marks_at_start, marks_at_end: read every source for this window; True: when the counters move.
        read: the reading, from the window's name, the process that opened it, its spans and problems.
    """

    synchronise: Callable[[], list[str]]
    marks_at_start: Callable[[Window, bool], list[Mark]]
    marks_at_end: Callable[[Window, bool], list[Mark]]
    read: Callable[[str, int, Sequence[Span], Sequence[str]], Reading]


class Window:
    """A stretch of time whose energy is read. Made by `EnergyMeter.window` and `EnergyMeter.begin`."""

    def __init__(self, edges: Edges, name: str, align: bool = False, units: Mapping[str, float] | None = None) -> None:
        self.name = name
        self._units = checked_counts(units or {})
        self._align = align
        self._edges = edges
        self._pid = os.getpid()
        self._spans: list[Span] = []
        self._problems: list[str] = []
        self._reading: Reading | None = None
        self._open: list[Mark] | None = None
        self._start()

    @property
    def reading(self) -> Reading:
        """The energy. Raises RuntimeError while the window is open."""
        if self._reading is None:
            raise RuntimeError(f'the window "{self.name}" has not ended')
        return self._reading

    def count(self, **units: float) -> None:
        """Add to what was done in the window, before or after its end: `window.count(tokens=17)`.

        Raises ValueError where a number is negative, infinite or none at all; nothing is then added.
        """
        for unit, count in checked_counts(units).items():
            self._units[unit] = self._units.get(unit, 0.0) + count
        if self._reading is not None:
            self._reading = self._reading.model_copy(update={"units": dict(self._units)})

    def end(self) -> Reading:
        """Close the window; a second time does nothing. Never raises on account of a sensor."""
        if self._reading is None:
            if self._open is not None:
                self._stop()
            reading = self._edges.read(self.name, self._pid, self._spans, self._problems)
            self._reading = reading.model_copy(update={"units": dict(self._units)})
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
        self._problems += self._edges.synchronise()
        self._open = self._edges.marks_at_start(self, self._align)
        self._start_s = time.perf_counter()

    def _stop(self) -> None:
        assert self._open is not None
        self._problems += self._edges.synchronise()
        end_s = time.perf_counter()
        marks = self._edges.marks_at_end(self, self._align)
        # An aligned window lasts until the counter moves, and what was used until then is in the figure.
        duration_s = (time.perf_counter() if self._align else end_s) - self._start_s
        self._spans.append((self._open, marks, duration_s))
        self._open = None
