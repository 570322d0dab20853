"""Energy of NVIDIA GPUs: the card's own counter where it works, else its power, sampled and integrated.

Both count the whole card, whoever uses it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

from greenprune.bench.energy.counting.history import History
from greenprune.bench.energy.counting.ticks import TickWatch, probe_period_s
from greenprune.bench.energy.counting.totals import Counter
from greenprune.bench.energy.counting.trace import PowerIntegral
from greenprune.bench.energy.nvml.errors import NvmlError
from greenprune.bench.energy.nvml.library import Card
from greenprune.bench.energy.nvml.notes import Notes, NvmlMark, Stretch
from greenprune.bench.energy.nvml.reading import NO_LIMIT_W, CardWindow, Probed, sensor_error_fraction
from greenprune.bench.energy.nvml.state import CardObserver
from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.source import Mark, Segment, SensorError

LONGEST_HOLD_S = 1.0  # a power sample older than this says nothing about now
POLL_COUNTER_S, POLL_POWER_S = 0.1, 0.05
SECOND_LOOK_EVERY_S = 1.0
SECOND_LOOK_BELOW_S = 0.09  # the sampler itself sees whether a counter of a longer period is late


class NvmlSource:
    """One card in the meter."""

    def __init__(self, card: Card, warnings: Sequence[str] = ()) -> None:
        """Probe the counter, its period and the power registers; takes about five counter periods.

        `warnings` go into every reading. Raises NvmlError when the card has neither a working counter nor power.
        """
        self._card = card
        self._power = PowerIntegral(LONGEST_HOLD_S)
        self._module = PowerIntegral(LONGEST_HOLD_S)
        self._history: History[Notes] = History(Notes, Notes.merge)
        power_problem: str | None = None
        try:
            power_name, averaging_s = card.find_power_field()
        except NvmlError as e:
            power_problem = str(e)
            power_name, averaging_s = "none", 0.0
        period_s: float | None = None
        try:
            period_s = probe_period_s(card.counter_j)
            why_no_counter = "the energy counter does not move"
        except NvmlError as e:
            why_no_counter = str(e)
            if power_problem:
                raise
        if period_s is None and power_problem:
            raise SensorError(f"{why_no_counter}; {power_problem}")
        self.kind: Kind = "sampled" if period_s is None else "measured"
        self.poll_interval_s = POLL_POWER_S if period_s is None else POLL_COUNTER_S
        limit_mw = card.optional("nvmlDeviceGetEnforcedPowerLimit")
        self._probed = Probed(
            card.gpu,
            self.kind,
            period_s or 0.0,
            averaging_s + self.poll_interval_s,
            limit_mw / 1e3 if limit_mw else None,
            power_name,
            power_problem is None,
            why_no_counter,
            sensor_error_fraction(card.optional("nvmlDeviceGetArchitecture")),
            tuple(warnings),
        )
        self.name = self._probed.name
        self._observer = CardObserver(card, self._probed.power_limit_w)
        self._watch = TickWatch(self._probed.probed_s)
        # Short peaks exceed the limit; what this must tell apart is a jump of the counter: kilojoules in no time.
        limit_w = self._probed.power_limit_w or NO_LIMIT_W
        self._counter = Counter(self._look, max_power_w=10 * limit_w, stale_s=self._probed.probed_s)
        self._second_look_s = -math.inf

    @property
    def period_s(self) -> float:
        """The counter's update period as it was seen last, 0 without a counter."""
        return self._watch.period_s

    def poll(self) -> None:
        """Sample the power; follow the counter, so that a reset is noticed before the counter is past its old value."""
        try:
            if self.kind == "measured":
                self._counter.mark()
        finally:
            with contextlib.suppress(NvmlError):
                self._sample()
            look = self._observer.look()
            if look is not None:
                noted = self._history.current
                noted.look = noted.look.merge(look) if noted.look else look

    def second_look_s(self) -> float | None:
        """In how many seconds `look_again` should be called; None: not this time.

        The sampler comes too seldom to see whether a quick counter has become slower.
        """
        now_s = time.perf_counter()
        quick = self.kind == "measured" and self.period_s < SECOND_LOOK_BELOW_S
        if not quick or now_s - self._second_look_s < SECOND_LOOK_EVERY_S:
            return None
        self._second_look_s = now_s
        return 1.5 * self.period_s + 0.006

    def look_again(self) -> None:
        """Read the counter once more. Raises NvmlError."""
        self._counter.mark()

    def mark(self) -> Mark:
        """Read the counter, or the integral of the power. Raises NvmlError."""
        if self.kind == "sampled":
            now_s = self._sample()
            total_j, uncovered_s = self._power.until(now_s)
            return NvmlMark(
                now_s, total_j, self._probed.lag_s, cut=self._history.cut(), sampled_j=total_j,
                uncovered_s=uncovered_s, held_w=self._held_w(),
            )  # fmt: skip
        mark = self._counter.mark()
        if not self._power or mark.time_s - self._power.last[0] > self.poll_interval_s / 4:
            with contextlib.suppress(NvmlError):
                self._sample()
        sampled_j, uncovered_s = self._power.until(mark.time_s)
        return NvmlMark(
            mark.time_s,
            mark.total_j,
            self._watch.stale_s(mark.time_s),
            mark.resets,
            mark.reason,
            tick_s=self.period_s,
            cut=self._history.cut(),
            sampled_j=sampled_j,
            module_j=self._module.until(mark.time_s)[0] if self._module else None,
            uncovered_s=uncovered_s,
            held_w=self._held_w(),
            known_s=self._watch.known_s(mark.time_s),
        )

    def tally(self, start: Mark, end: Mark) -> Stretch | None:
        """What the sampler noted between two marks of this source; None where one of them failed."""
        if not isinstance(start, NvmlMark) or not isinstance(end, NvmlMark) or start.cut is None or end.cut is None:
            return None
        notes = self._history.between(start.cut, end.cut)
        late_over_s = late_under_s = 0.0
        ticks = notes.ticks
        if ticks.still_s or ticks.interval_s:
            # What was due at the start is as old as the updates are apart; how old the end is has been seen.
            apart_s = ticks.interval_s or math.inf
            late_over_s = max(0.0, min(start.known_s, apart_s) - start.stale_s)
            late_under_s = max(0.0, end.known_s - end.stale_s)
        module_j = None if start.module_j is None or end.module_j is None else end.module_j - start.module_j
        return Stretch(
            end.sampled_j - start.sampled_j,
            module_j,
            end.uncovered_s - start.uncovered_s,
            max(notes.peak_w, start.held_w),
            notes.look,
            late_over_s,
            late_under_s,
            ticks.still_s,
            ticks.interval_s,
        )

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        """Bounds: at each edge, the energy of one counter period, or of the time by which sampled power lags."""
        return self._window(segments).read()

    def rescued(self, segments: Sequence[Segment], reason: str) -> tuple[SourceReading, list[str]] | None:
        """After a reset of the counter: integrated power, and so marked. Not for a card that failed or has no power."""
        return self._window(segments).rescued(reason)

    def describe(self) -> dict[str, Any]:
        """What was found when the meter was made, and the card's state now."""
        optional, found = self._card.optional, self._probed
        return {
            "source": self.name,
            "kind": self.kind,
            "available": True,
            "detail": f"{found.gpu.name}, {found.gpu.uuid}",
            "reason": None if self.kind == "measured" else found.why_no_counter,
            "remedy": None,
            "period_s": self.period_s if self.kind == "measured" else None,
            "power_register": found.power_name if found.has_power else None,
            "module_power_register": self._card.has_module_power,
            "power_limit_w": found.power_limit_w,
            "temperature_c": optional("nvmlDeviceGetTemperature", 0),
            "persistence": optional("nvmlDeviceGetPersistenceMode"),
            "sm_clock_mhz": optional("nvmlDeviceGetClockInfo", 1),
            "warnings": list(found.warnings),
        }

    def last_sample(self) -> tuple[float, float] | None:
        """Of the power register; None where there is none yet. Costs nothing."""
        return self._power.last if self._power else None

    def expected_uncertainty(self, window_s: float) -> float | None:
        """One counter period, or the lag of sampled power, in `window_s`."""
        error_s = self.period_s if self.kind == "measured" else self._probed.lag_s
        return min(1.0, error_s / window_s)

    def restart(self) -> None:
        """Nothing: the first call after a fork meets UNINITIALIZED and starts NVML again."""

    def close(self) -> None:
        """Nothing: the library is the meter's."""

    def _look(self) -> float:
        counter_j = self._card.counter_j()
        self._watch.look(time.perf_counter(), counter_j, self._history.current.ticks)
        return counter_j

    def _sample(self) -> float:
        if not self._probed.has_power:
            return time.perf_counter()
        power_w, module_w = self._card.powers_w()
        now_s = time.perf_counter()
        self._power.add(now_s, power_w)
        if module_w is not None:
            self._module.add(now_s, module_w)
        noted = self._history.current
        noted.peak_w = max(noted.peak_w, power_w, module_w or 0.0)
        return now_s

    def _held_w(self) -> float:
        """The highest of the last power samples: what a counter that is behind may still have to add."""
        return self._power.recent_w if self._power else 0.0

    def _window(self, segments: Sequence[Segment]) -> CardWindow:
        noted: Stretch | None = None
        for segment in segments:
            tally = segment.tally if isinstance(segment.tally, Stretch) else self.tally(segment.start, segment.end)
            if tally is not None:
                noted = tally if noted is None else noted + tally
        noted = noted or Stretch(0.0, None, math.inf, 0.0, None)
        return CardWindow(
            self._probed,
            segments,
            noted,
            period_s=self.period_s,
            state=self._observer.state(noted.look),
            sampled=bool(self._power),
        )
