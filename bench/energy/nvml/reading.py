"""What a window says of a card's energy: its counter where that works, else its integrated power, each with its bounds.

The sensor's systematic error (per card and constant, against an external meter; Yang et al., "Part-time Power
Measurements", SC 2024) is not in the bounds but apart, in `sensor_error_j`: it cancels in a ratio of two readings of the
same card, and repeating does not reduce it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from greenprune.bench.energy.nvml.notes import Stretch
from greenprune.bench.energy.nvml.state import warnings_of
from greenprune.bench.energy.nvml.verdict import decide
from greenprune.bench.energy.nvml.visible import Gpu
from greenprune.bench.energy.nvml.words import short, still, too_short
from greenprune.bench.energy.reading import CardState, Kind, SourceReading
from greenprune.bench.energy.sensors.power import MAX_UNCOVERED
from greenprune.bench.energy.source import Segment, edge_error_s

STOOD_STILL = 3.0  # periods as first found, after which a counter that has not moved is no longer only slow to be read
NO_LIMIT_W = 1e3  # stands for the power limit of a card that does not tell it
MAX_SLOW = 0.2  # fraction of a window that a slow counter may leave open before integrated power counts instead

_AMPERE = 7  # NVML_DEVICE_ARCH_AMPERE


def sensor_error_fraction(architecture: int | None) -> float:
    """Largest systematic error of a card's sensor that was found for its architecture (as NVML numbers them).

    Yang et al.: A100 -5.8 %, RTX 3090 -5.6 %, RTX 4090 -5.3 %, RTX 2060 Super +12.7 %. Unknown counts as old.
    """
    return 0.06 if architecture is not None and architecture >= _AMPERE else 0.13


@dataclass(frozen=True)
class Probed:
    """What was found of a card when the meter was made."""

    gpu: Gpu
    kind: Kind  # "measured": by its counter; "sampled": by its power
    probed_s: float  # the counter's update period as first found; 0 without a counter
    lag_s: float  # by which integrated power may lag at each edge of a window
    power_limit_w: float | None
    power_name: str  # of the register
    has_power: bool
    why_no_counter: str
    sensor_error: float  # fraction
    warnings: tuple[str, ...] = ()  # part of every reading

    @property
    def name(self) -> str:
        """Of the source."""
        return f"nvml:{self.gpu.index}"


class CardWindow:
    """One window of one card, read from what was marked and noted in it."""

    def __init__(
        self,
        card: Probed,
        segments: Sequence[Segment],
        noted: Stretch,
        *,
        period_s: float,
        state: CardState | None,
        sampled: bool,
    ) -> None:
        """`period_s`: of the counter as seen last. `sampled`: whether power has been sampled at all."""
        self._card = card
        self._segments = segments
        self._noted = noted
        self._period_s = period_s
        self._state = state
        self._duration_s = sum(s.duration_s for s in segments)
        self._parts = sum(s.parts for s in segments)
        self._covered = sampled and card.has_power and noted.uncovered_s <= MAX_UNCOVERED * self._duration_s

    def read(self) -> tuple[SourceReading, list[str]]:
        """The reading and its warnings.

        Bounds: at each edge, the energy of one counter period, or of the time by which sampled power lags.
        """
        card, noted, duration_s = self._card, self._noted, self._duration_s
        if card.kind == "sampled":
            return self._integrated(card.why_no_counter)
        energy_j = sum(s.energy_j for s in self._segments)
        usual = f"the energy counter, updated every {card.probed_s * 1e3:.0f} ms at first, stood still for"
        usual_s = card.probed_s * self._parts
        if energy_j == 0:
            if self._covered and duration_s > STOOD_STILL * usual_s:
                return self._integrated(f"{usual} {duration_s:.1f} s")
            return self._invalid(still(duration_s, self._period_s))
        over_s, under_s = edge_error_s(self._segments)
        over_s, under_s = over_s + noted.late_over_s, under_s + noted.late_under_s
        slow_s = max(0.0, over_s - usual_s) + max(0.0, under_s - usual_s)
        if slow_s > MAX_SLOW * duration_s:
            longest_s = max(noted.still_s, noted.interval_s, min(over_s, duration_s), min(under_s, duration_s))
            slow = f"{usual} up to {longest_s:.1f} s"
            if self._covered:
                return self._integrated(slow)
            if math.isinf(slow_s):
                return self._invalid(f"{slow}, and how long between two updates is not known")
        if duration_s < max(over_s, under_s):
            return self._invalid(too_short(duration_s, max(over_s, under_s)))
        return self._counted(energy_j, over_s, under_s)

    def rescued(self, reason: str) -> tuple[SourceReading, list[str]] | None:
        """After a reset of the counter: integrated power, and so marked. Not for a card that failed or has no power."""
        totals_j = [total_j for s in self._segments for total_j in (s.start.total_j, s.end.total_j)]
        if self._card.kind != "measured" or any(map(math.isnan, totals_j)) or not self._covered:
            return None
        return self._integrated(reason)

    def _counted(self, energy_j: float, over_s: float, under_s: float) -> tuple[SourceReading, list[str]]:
        """The reading from the counter, or from power where that speaks against it."""
        card, noted, duration_s = self._card, self._noted, self._duration_s
        limit_j = None if card.power_limit_w is None else card.power_limit_w * duration_s
        highest_w = 0.0 if card.has_power else card.power_limit_w or NO_LIMIT_W
        peak_w = max(noted.peak_w, energy_j / duration_s, highest_w)
        lag_j = self._parts * card.lag_s * noted.peak_w
        verdict = decide(
            card.gpu.name,
            energy_j,
            noted.sampled_j if self._covered else None,
            noted.module_j if self._covered else None,
            slack_j=(over_s + under_s) * peak_w + lag_j,
            limit_j=limit_j,
            stood_still_s=noted.still_s,
        )
        warnings = short(duration_s, max(over_s, under_s), "the energy counter's period")
        if verdict.scope == "module" or not verdict.agreed:
            warnings.append(verdict.basis)
        low_j, high_j = max(0.0, energy_j - over_s * peak_w), energy_j + under_s * peak_w
        counts_j, other_j = energy_j, noted.sampled_j if self._covered else None
        if not verdict.agreed:
            low_j, high_j = min(low_j, noted.sampled_j - lag_j), max(high_j, noted.sampled_j + lag_j)
        if verdict.figure == "power":
            counts_j, other_j = noted.sampled_j, energy_j
        return SourceReading(
            name=card.name,
            kind="sampled" if verdict.figure == "power" else "measured",
            energy_j=counts_j,
            low_j=max(0.0, low_j),
            high_j=high_j,
            note=self._note(f"energy counter, updated every {self._period_in_words()}"),
            sensor_error_j=card.sensor_error * counts_j,
            card=self._state,
            basis=verdict.basis,
            other_j=other_j,
            scope=verdict.scope,
        ), self._told(warnings)

    def _integrated(self, why: str) -> tuple[SourceReading, list[str]]:
        """The reading from power samples, `why` the counter does not count."""
        card, noted, duration_s = self._card, self._noted, self._duration_s
        warnings: list[str] = []
        if card.kind == "sampled":
            over_s, under_s = edge_error_s(self._segments)
            warnings += short(duration_s, max(over_s, under_s), "the lag of sampled power")
        else:
            over_s = under_s = self._parts * card.lag_s
            warnings.append(f"{why}; its joules in this window are integrated power")
        if noted.uncovered_s > MAX_UNCOVERED * duration_s:
            return self._invalid(
                f"no power samples for {min(noted.uncovered_s, duration_s):.1f} of {duration_s:.1f} s", warnings
            )
        energy_j = noted.sampled_j
        counted_j = sum(s.energy_j for s in self._segments)
        return SourceReading(
            name=card.name,
            kind="sampled",
            energy_j=energy_j,
            low_j=max(0.0, energy_j - (over_s + noted.uncovered_s) * noted.peak_w),
            high_j=energy_j + (under_s + noted.uncovered_s) * noted.peak_w,
            note=self._note(f"integrated power ({card.power_name}); {why}"),
            sensor_error_j=card.sensor_error * energy_j,
            card=self._state,
            basis=f"integrated power; {why}",
            other_j=counted_j if card.kind == "measured" and not math.isnan(counted_j) else None,
            scope="gpu",
        ), self._told(warnings)

    def _invalid(self, reason: str, warnings: Sequence[str] = ()) -> tuple[SourceReading, list[str]]:
        return SourceReading(
            name=self._card.name,
            kind=self._card.kind,
            energy_j=None,
            valid=False,
            reason=reason,
            note=self._note("energy counter" if self._card.kind == "measured" else "integrated power"),
            card=self._state,
        ), self._told(warnings)

    def _note(self, text: str) -> str:
        return f"{self._card.gpu.name}, {text}; {self._card.gpu.uuid}"

    def _told(self, warnings: Sequence[str]) -> list[str]:
        texts = (*self._card.warnings, *warnings_of(self._state), *warnings)
        return [f"{self._card.name}: {text}" for text in texts]

    def _period_in_words(self) -> str:
        if self._noted.interval_s:
            return f"{self._card.probed_s * 1e3:.0f} ms at first and up to {self._noted.interval_s * 1e3:.0f} ms in this window"
        return f"{self._period_s * 1e3:.0f} ms"
