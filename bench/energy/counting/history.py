"""What happened since a mark: sums and extremes of a stretch of time, kept without the stretch's samples."""

from __future__ import annotations

import bisect
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

Notes = TypeVar("Notes")

_SWEEP_FROM = 16  # cuts below which nothing is tidied up


class Cut:
    """A moment that somebody may later ask about. The history forgets it when its holder does."""

    __slots__ = ("__weakref__", "serial")

    def __init__(self, serial: int) -> None:
        self.serial = serial


class History(Generic[Notes]):
    """Notes between cuts.

    Notes on both sides of a cut become one as soon as nobody holds the cut any more. So memory and the time of every
    call follow the number of windows that are open, and not how long the meter has run.
    """

    def __init__(self, empty: Callable[[], Notes], merge: Callable[[Notes, Notes], Notes]) -> None:
        """`merge` takes notes in the order of time and may change and return the first."""
        self._empty = empty
        self._merge = merge
        self._serial = 0
        self.clear()

    def __len__(self) -> int:
        """How many notes are kept apart."""
        return len(self._notes)

    def clear(self) -> None:
        """Forget everything. Cuts that are still held have nothing between them."""
        self._serial += 1
        self._cuts: list[tuple[int, weakref.ref[Cut]]] = []  # the cut before each of the notes, by its serial
        self._notes: list[Notes] = []
        self._sweep_at = _SWEEP_FROM
        self._keep = self.cut()  # so that there are notes to write into

    @property
    def current(self) -> Notes:
        """The notes since the last cut, to be written into."""
        return self._notes[-1]

    def cut(self) -> Cut:
        """Begin new notes here. Hold the cut for as long as `between` may be asked."""
        if len(self._notes) >= self._sweep_at:
            self._sweep()
        self._serial += 1
        made = Cut(self._serial)
        self._cuts.append((made.serial, weakref.ref(made)))
        self._notes.append(self._empty())
        return made

    def between(self, start: Cut, end: Cut) -> Notes:
        """Everything noted from `start` to `end`."""
        found = self._empty()
        first = bisect.bisect_left(self._cuts, start.serial, key=lambda cut: cut[0])
        for (serial, _), notes in zip(self._cuts[first:], self._notes[first:], strict=True):
            if serial >= end.serial:
                break
            found = self._merge(found, notes)
        return found

    def _sweep(self) -> None:
        cuts, notes = [self._cuts[0]], [self._notes[0]]
        for cut, noted in zip(self._cuts[1:], self._notes[1:], strict=True):
            if cut[1]() is None:
                notes[-1] = self._merge(notes[-1], noted)
            else:
                cuts.append(cut)
                notes.append(noted)
        self._cuts, self._notes = cuts, notes
        self._sweep_at = max(_SWEEP_FROM, 2 * len(notes))
