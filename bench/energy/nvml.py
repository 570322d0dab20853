"""Energy of NVIDIA GPUs: the card's own counter where it works, else its power, sampled and integrated.

Both count the whole card, whoever uses it. The sensor's systematic error (per card and constant, against an external
meter; Yang et al., "Part-time Power Measurements", SC 2024) is not in the bounds but apart, in `sensor_error_j`:
it cancels in a ratio of two readings of the same card, and repeating does not reduce it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

from greenprune.bench.energy.history import History
from greenprune.bench.energy.nvml_errors import NvmlError
from greenprune.bench.energy.nvml_library import Card
from greenprune.bench.energy.nvml_notes import Notes, NvmlMark, Stretch
from greenprune.bench.energy.nvml_state import CardObserver, warnings_of
from greenprune.bench.energy.nvml_words import short, still, too_short
from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.source import Mark, Segment, SensorError, edge_error_s
from greenprune.bench.energy.ticks import TickWatch, probe_period_s
from greenprune.bench.energy.totals import Counter
from greenprune.bench.energy.trace import PowerIntegral
from greenprune.bench.energy.verdict import decide

LONGEST_HOLD_S = 1.0  # a power sample older than this says nothing about now
MAX_UNCOVERED = 0.05  # fraction of a window without power samples above which its sampled energy is invalid
STOOD_STILL = 3.0  # periods as first found, after which a counter that has not moved is no longer only slow to be read
MAX_SLOW = 0.2  # fraction of a window that a slow counter may leave open before integrated power counts instead
NO_LIMIT_W = 1e3  # stands for the power limit of a card that does not tell it
SECOND_LOOK_EVERY_S = 1.0
SECOND_LOOK_BELOW_S = 0.09  # the sampler itself sees whether a counter of a longer period is late

_AMPERE = 7  # NVML_DEVICE_ARCH_AMPERE


def sensor_error_fraction(architecture: int | None) -> float:
    """Largest systematic error of a card's sensor that was found for its architecture (as NVML numbers them).

    Yang et al.: A100 -5.8 %, RTX 3090 -5.6 %, RTX 4090 -5.3 %, RTX 2060 Super +12.7 %. Unknown counts as old.
    """
    return 0.06 if architecture is not None and architecture >= _AMPERE else 0.13


class NvmlSource:
    """One card in the meter."""

    def __init__(self, card: Card, warnings: Sequence[str] = ()) -> None:
        """Probe the counter, its period and the power registers; takes about five counter periods.

        `warnings` go into every reading. Raises NvmlError when the card has neither a working counter nor power.
        """
        self._card = card
        self._warnings = tuple(warnings)
        self.name = f"nvml:{card.gpu.index}"
        self._power = PowerIntegral(LONGEST_HOLD_S)
        self._module = PowerIntegral(LONGEST_HOLD_S)
        self._history: History[Notes] = History(Notes, Notes.merge)
        self._limit_w = (card.optional("nvmlDeviceGetEnforcedPowerLimit") or NO_LIMIT_W * 1e3) / 1e3
        self._observer = CardObserver(card, self._limit_w if self._limit_w < NO_LIMIT_W else None)
        self._sensor_error = sensor_error_fraction(card.optional("nvmlDeviceGetArchitecture"))
        self._power_problem: str | None = None
        try:
            self._power_name, self._averaging_s = card.find_power_field()
        except NvmlError as e:
            self._power_problem = str(e)
            self._power_name, self._averaging_s = "none", 0.0
        period_s: float | None = None
        try:
            period_s = probe_period_s(card.counter_j)
            self._why_no_counter = "the energy counter does not move"
        except NvmlError as e:
            self._why_no_counter = str(e)
            if self._power_problem:
                raise
        self.kind: Kind = "sampled" if period_s is None else "measured"
        if self.kind == "sampled" and self._power_problem:
            raise SensorError(f"{self._why_no_counter}; {self._power_problem}")
        self._probed_s = period_s or 0.0
        self._watch = TickWatch(self._probed_s)
        # Short peaks exceed the limit; what this must tell apart is a jump of the counter: kilojoules in no time.
        self._counter = Counter(self._look, max_power_w=10 * self._limit_w, stale_s=self._probed_s)
        self._second_look_s = -math.inf
        self.poll_interval_s = 0.1 if self.kind == "measured" else 0.05

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
                now_s, total_j, self._averaging_s + self.poll_interval_s, cut=self._history.cut(), sampled_j=total_j,
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
        noted = self._noted(segments)
        if self.kind == "sampled":
            return self._integrated(segments, noted, self._why_no_counter)
        energy_j = sum(s.energy_j for s in segments)
        duration_s = sum(s.duration_s for s in segments)
        over_s, under_s = edge_error_s(segments)
        covered = self._covered(noted, duration_s)
        if energy_j == 0:
            if covered and duration_s > STOOD_STILL * self._probed_s * sum(s.parts for s in segments):
                usual = f"the energy counter, updated every {self._probed_s * 1e3:.0f} ms at first"
                return self._integrated(segments, noted, f"{usual}, stood still for {duration_s:.1f} s")
            return self._invalid(still(duration_s, self.period_s), noted), self._told(noted)
        over_s, under_s = over_s + noted.late_over_s, under_s + noted.late_under_s
        usual_s = self._probed_s * sum(s.parts for s in segments)
        slow_s = max(0.0, over_s - usual_s) + max(0.0, under_s - usual_s)
        if slow_s > MAX_SLOW * duration_s:
            slow = (
                f"the energy counter, updated every {self._probed_s * 1e3:.0f} ms at first, stood still for up to "
                f"{max(noted.still_s, noted.interval_s, min(over_s, duration_s), min(under_s, duration_s)):.1f} s"
            )
            if covered:
                return self._integrated(segments, noted, slow)
            if math.isinf(slow_s):
                return self._invalid(f"{slow}, and how long between two updates is not known", noted), self._told(noted)
        if duration_s < max(over_s, under_s):
            return self._invalid(too_short(duration_s, max(over_s, under_s)), noted), self._told(noted)
        peak_w = max(noted.peak_w, energy_j / duration_s, self._limit_w if self._power_problem else 0.0)
        lag_j = self._lag_j(segments, noted)
        verdict = decide(
            self._card.gpu.name,
            energy_j,
            noted.sampled_j if covered else None,
            noted.module_j if covered else None,
            slack_j=(over_s + under_s) * peak_w + lag_j,
            limit_j=self._limit_w * duration_s if self._limit_w < NO_LIMIT_W else None,
            stood_still_s=noted.still_s,
        )
        warnings = short(duration_s, max(over_s, under_s), "the energy counter's period")
        if verdict.scope == "module" or not verdict.agreed:
            warnings.append(verdict.basis)
        low_j, high_j = max(0.0, energy_j - over_s * peak_w), energy_j + under_s * peak_w
        counts_j, other_j = energy_j, noted.sampled_j if covered else None
        if not verdict.agreed:
            low_j, high_j = min(low_j, noted.sampled_j - lag_j), max(high_j, noted.sampled_j + lag_j)
        if verdict.figure == "power":
            counts_j, other_j = noted.sampled_j, energy_j
        return SourceReading(
            name=self.name,
            kind="sampled" if verdict.figure == "power" else "measured",
            energy_j=counts_j,
            low_j=max(0.0, low_j),
            high_j=high_j,
            note=self._note(f"energy counter, updated every {self._period_in_words(noted)}"),
            sensor_error_j=self._sensor_error * counts_j,
            card=self._observer.state(noted.look),
            basis=verdict.basis,
            other_j=other_j,
            scope=verdict.scope,
        ), self._told(noted, warnings)

    def rescued(self, segments: Sequence[Segment], reason: str) -> tuple[SourceReading, list[str]] | None:
        """After a reset of the counter: integrated power, and so marked. Not for a card that failed or has no power."""
        totals_j = [total_j for s in segments for total_j in (s.start.total_j, s.end.total_j)]
        if self.kind != "measured" or any(map(math.isnan, totals_j)):
            return None
        noted = self._noted(segments)
        if not self._covered(noted, sum(s.duration_s for s in segments)):
            return None
        return self._integrated(segments, noted, reason)

    def describe(self) -> dict[str, Any]:
        """What was found when the meter was made, and the card's state now."""
        optional = self._card.optional
        return {
            "source": self.name,
            "kind": self.kind,
            "available": True,
            "detail": f"{self._card.gpu.name}, {self._card.gpu.uuid}",
            "reason": None if self.kind == "measured" else self._why_no_counter,
            "remedy": None,
            "period_s": self.period_s if self.kind == "measured" else None,
            "power_register": None if self._power_problem else self._power_name,
            "module_power_register": self._card.has_module_power,
            "power_limit_w": self._limit_w,
            "temperature_c": optional("nvmlDeviceGetTemperature", 0),
            "persistence": optional("nvmlDeviceGetPersistenceMode"),
            "sm_clock_mhz": optional("nvmlDeviceGetClockInfo", 1),
            "warnings": list(self._warnings),
        }

    def last_sample(self) -> tuple[float, float] | None:
        """Of the power register; None where there is none yet. Costs nothing."""
        return self._power.last if self._power else None

    def expected_uncertainty(self, window_s: float) -> float | None:
        """One counter period, or the lag of sampled power, in `window_s`."""
        error_s = self.period_s if self.kind == "measured" else self._averaging_s + self.poll_interval_s
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
        if self._power_problem:
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

    def _noted(self, segments: Sequence[Segment]) -> Stretch:
        found: Stretch | None = None
        for segment in segments:
            noted = segment.tally if isinstance(segment.tally, Stretch) else self.tally(segment.start, segment.end)
            if noted is not None:
                found = noted if found is None else found + noted
        return found or Stretch(0.0, None, math.inf, 0.0, None)

    def _covered(self, noted: Stretch, duration_s: float) -> bool:
        """Whether there are power samples nearly all the time."""
        return bool(self._power) and not self._power_problem and noted.uncovered_s <= MAX_UNCOVERED * duration_s

    def _lag_j(self, segments: Sequence[Segment], noted: Stretch) -> float:
        """What integrated power may be off at the edges of a window."""
        return sum(s.parts for s in segments) * (self._averaging_s + self.poll_interval_s) * noted.peak_w

    def _integrated(self, segments: Sequence[Segment], noted: Stretch, why: str) -> tuple[SourceReading, list[str]]:
        """The reading from power samples, `why` the counter does not count."""
        duration_s = sum(s.duration_s for s in segments)
        warnings: list[str] = []
        if self.kind == "sampled":
            over_s, under_s = edge_error_s(segments)
            warnings += short(duration_s, max(over_s, under_s), "the lag of sampled power")
        else:
            over_s = under_s = sum(s.parts for s in segments) * (self._averaging_s + self.poll_interval_s)
            warnings.append(f"{why}; its joules in this window are integrated power")
        if noted.uncovered_s > MAX_UNCOVERED * duration_s:
            reason = f"no power samples for {min(noted.uncovered_s, duration_s):.1f} of {duration_s:.1f} s"
            return self._invalid(reason, noted), self._told(noted, warnings)
        energy_j = noted.sampled_j
        counted_j = sum(s.energy_j for s in segments)
        return SourceReading(
            name=self.name,
            kind="sampled",
            energy_j=energy_j,
            low_j=max(0.0, energy_j - (over_s + noted.uncovered_s) * noted.peak_w),
            high_j=energy_j + (under_s + noted.uncovered_s) * noted.peak_w,
            note=self._note(f"integrated power ({self._power_name}); {why}"),
            sensor_error_j=self._sensor_error * energy_j,
            card=self._observer.state(noted.look),
            basis=f"integrated power; {why}",
            other_j=counted_j if self.kind == "measured" and not math.isnan(counted_j) else None,
            scope="gpu",
        ), self._told(noted, warnings)

    def _invalid(self, reason: str, noted: Stretch) -> SourceReading:
        return SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=None,
            valid=False,
            reason=reason,
            note=self._note("energy counter" if self.kind == "measured" else "integrated power"),
            card=self._observer.state(noted.look),
        )

    def _note(self, text: str) -> str:
        return f"{self._card.gpu.name}, {text}; {self._card.gpu.uuid}"

    def _told(self, noted: Stretch, warnings: Sequence[str] = ()) -> list[str]:
        texts = (*self._warnings, *warnings_of(self._observer.state(noted.look)), *warnings)
        return [f"{self.name}: {text}" for text in texts]

    def _period_in_words(self, noted: Stretch) -> str:
        if noted.interval_s:
            return f"{self._probed_s * 1e3:.0f} ms at first and up to {noted.interval_s * 1e3:.0f} ms in this window"
        return f"{self.period_s * 1e3:.0f} ms"
