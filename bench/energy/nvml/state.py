"""What goes on on a GPU beside its energy: clocks, heat, throttling, other processes. Looked at once a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from greenprune.bench.energy.nvml.library import Card
from greenprune.bench.energy.reading import CardState
from greenprune.bench.energy.usage.processes import tree_pids

LOOK_INTERVAL_S = 1.0

_TEMPERATURE_GPU, _CLOCK_SM = 0, 1
_SLOWED = {
    0x4: "its power limit",
    0x8: "hardware slowdown",
    0x20: "software thermal limit",
    0x40: "heat",
    0x80: "power brake",
}
_WORTH_A_WARNING = ("hardware slowdown", "software thermal limit", "heat", "power brake")
"""The power limit is not: under full load a card is at it by design, and it does not make the energy wrong."""


MAX_PIDS = 64  # of other processes that are remembered of one window


@dataclass(frozen=True)
class Look:
    """One observation, or several joined."""

    slowed_bits: int
    sm_clock_min_mhz: float | None
    sm_clock_max_mhz: float | None
    temperature_c: float | None
    other_pids: frozenset[int]

    def merge(self, other: Look) -> Look:
        """The extremes of both, and everything that happened in one of them."""
        return Look(
            self.slowed_bits | other.slowed_bits,
            _of_known(min, self.sm_clock_min_mhz, other.sm_clock_min_mhz),
            _of_known(max, self.sm_clock_max_mhz, other.sm_clock_max_mhz),
            _of_known(max, self.temperature_c, other.temperature_c),
            frozenset(sorted(self.other_pids | other.other_pids)[:MAX_PIDS]),
        )


def _of_known(extreme: Callable[..., float], *values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return extreme(known) if known else None


class CardObserver:
    """Observations of one card. Nothing here raises: what a card does not tell is None."""

    def __init__(self, card: Card, power_limit_w: float | None) -> None:
        self._card = card
        self._power_limit_w = power_limit_w
        self._last_s = -math.inf
        self._last: Look | None = None

    def look(self) -> Look | None:
        """Observe; None where the last time was less than `LOOK_INTERVAL_S` ago."""
        now_s = time.perf_counter()
        if now_s - self._last_s < LOOK_INTERVAL_S:
            return None
        optional = self._card.optional
        bits = (optional("nvmlDeviceGetCurrentClocksThrottleReasons") or 0) & sum(_SLOWED)
        pids = {p.pid for p in optional("nvmlDeviceGetComputeRunningProcesses") or []}
        others = frozenset(pids - tree_pids()) if pids else frozenset()
        clock_mhz = optional("nvmlDeviceGetClockInfo", _CLOCK_SM)
        self._last_s = now_s
        self._last = Look(bits, clock_mhz, clock_mhz, optional("nvmlDeviceGetTemperature", _TEMPERATURE_GPU), others)
        return self._last

    def state(self, seen: Look | None) -> CardState | None:
        """In words. Of a stretch too short to have been looked at (None), the last observation. None: no looks."""
        if seen is None:
            self.look()
        seen = seen or self._last
        if seen is None:
            return None
        return CardState(
            sm_clock_min_mhz=seen.sm_clock_min_mhz,
            sm_clock_max_mhz=seen.sm_clock_max_mhz,
            temperature_max_c=seen.temperature_c,
            power_limit_w=self._power_limit_w,
            throttled=tuple(text for bit, text in _SLOWED.items() if seen.slowed_bits & bit),
            other_pids=tuple(sorted(seen.other_pids)),
        )


def warnings_of(state: CardState | None) -> list[str]:
    """What in `state` makes a reading less comparable, in words."""
    if state is None:
        return []
    found = []
    slowed = [reason for reason in state.throttled if reason in _WORTH_A_WARNING]
    if slowed:
        found.append("slowed down by " + ", ".join(slowed))
    if state.other_pids:
        found.append(
            f"process {', '.join(map(str, state.other_pids))} on this GPU is not of this process tree as far as the "
            "driver tells; the energy of the whole GPU is counted"
        )
    return found
