"""What is done with sources of energy while windows are open: they are polled, and what they say is written down."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

from greenprune.bench.energy.counting.trace import Sampler
from greenprune.bench.energy.power_log import PowerLog
from greenprune.bench.energy.source import Mark, Source
from greenprune.bench.energy.window import Window


class Sampling:
    """The windows that are open, the thread that polls while there are any, and the power log. Nothing here raises."""

    def __init__(self, sources: Sequence[Source], lock: threading.Lock) -> None:
        """`lock` is held around whatever asks a source; methods that say so expect it to be held."""
        self._sources = sources
        self._lock = lock
        self._thread: Sampler | None = None
        self._last_poll_s: dict[str, float] = {}
        self.open_windows: list[Window] = []  # the innermost last
        self.power_log = PowerLog()

    def phase(self) -> str:
        """What the power log calls now. An innermost window that another thread opened counts too."""
        return self.open_windows[-1].name if self.open_windows else ""

    def opened(self, window: Window) -> None:
        """Poll from now on. The lock is held."""
        self.open_windows.append(window)
        if self._thread is None:
            self._thread = self._new_thread()
        self._thread.resume()

    def closed(self, window: Window) -> None:
        """Poll no more once the last window is closed. The lock is held."""
        if window in self.open_windows:  # a child may end what its parent began
            self.open_windows.remove(window)
        if not self.open_windows and self._thread is not None:
            self._thread.pause()

    def log(self, marks: Sequence[Mark], phase: str) -> None:
        """What was read at the edge of a window is part of the power log too. The lock is held."""
        for source, mark in zip(self._sources, marks, strict=True):
            self._log(source, mark, phase)

    def stop(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def after_fork(self, lock: threading.Lock) -> None:
        """Begin anew in a child: threads do not survive a fork."""
        self._lock = lock
        self._thread = None
        self.open_windows = []
        self.power_log = PowerLog()

    def _new_thread(self) -> Sampler:
        alive = weakref.ref(self)  # the thread must not keep a forgotten meter alive

        def poll() -> None:
            sampling = alive()
            if sampling is not None:
                sampling._poll()

        thread = Sampler(poll, min((source.poll_interval_s for source in self._sources), default=math.inf))
        weakref.finalize(self, thread.stop)
        return thread

    def _poll(self) -> None:
        again: list[tuple[float, Any]] = []
        for source in self._sources:
            now_s = time.perf_counter()
            # A tenth less, or jitter would skip every other turn.
            if now_s - self._last_poll_s.get(source.name, 0.0) >= 0.9 * source.poll_interval_s:
                self._last_poll_s[source.name] = now_s
                # A failed poll is not a failed window: the marks at its edges and the gaps in the samples decide.
                with self._lock, contextlib.suppress(Exception):
                    source.poll()
                    polled_s = time.perf_counter()
                    mark = Mark(now_s, 0.0) if source.last_sample() else source.mark()
                    self._log(source, mark, self.phase())
                    second_look_s = getattr(source, "second_look_s", None)
                    if second_look_s is not None and (wait_s := second_look_s()) is not None:
                        again.append((polled_s + wait_s, source))
        for due_s, source in sorted(again, key=lambda entry: entry[0]):
            time.sleep(max(0.0, due_s - time.perf_counter()))
            with self._lock, contextlib.suppress(Exception):
                source.look_again()

    def _log(self, source: Source, mark: Mark, phase: str) -> None:
        sample = source.last_sample()
        if sample is None:
            self.power_log.total(source.name, source.kind, mark, phase)
        else:
            self.power_log.sample(source.name, *sample, phase)
