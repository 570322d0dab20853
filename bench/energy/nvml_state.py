"""What goes on on a GPU beside its energy: clocks, heat, throttling, other processes. Looked at once a second."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from greenprune.bench.energy.nvml_library import Card
from greenprune.bench.energy.processes import tree_pids
from greenprune.bench.energy.reading import CardState

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


@dataclass(frozen=True)
class Look:
    """One observation."""

    time_s: float  # of time.perf_counter()
    slowed_bits: int
    sm_clock_mhz: float | None
    temperature_c: float | None
    other_pids: tuple[int, ...]


class CardObserver:
    """Observations of one card. Nothing here raises: what a card does not tell is None."""

    def __init__(self, card: Card, power_limit_w: float | None) -> None:
        self._card = card
        self._power_limit_w = power_limit_w
        self._looks: list[Look] = []

    def look(self) -> None:
        """Observe, unless the last time was less than `LOOK_INTERVAL_S` ago."""
        now_s = time.perf_counter()
        if now_s - (self._looks[-1].time_s if self._looks else -math.inf) < LOOK_INTERVAL_S:
            return
        optional = self._card.optional
        bits = (optional("nvmlDeviceGetCurrentClocksThrottleReasons") or 0) & sum(_SLOWED)
        pids = {p.pid for p in optional("nvmlDeviceGetComputeRunningProcesses") or []}
        others = tuple(sorted(pids - tree_pids())) if pids else ()
        clock_mhz = optional("nvmlDeviceGetClockInfo", _CLOCK_SM)
        self._looks.append(Look(now_s, bits, clock_mhz, optional("nvmlDeviceGetTemperature", _TEMPERATURE_GPU), others))

    def state(self, spans: Sequence[tuple[float, float]]) -> CardState | None:
        """Over the given times; of a stretch too short to have been looked at, the last observation. None: no looks."""
        self.look()
        seen = [x for x in self._looks if any(start_s <= x.time_s <= end_s for start_s, end_s in spans)]
        seen = seen or self._looks[-1:]
        if not seen:
            return None
        bits = 0
        for x in seen:
            bits |= x.slowed_bits
        clocks_mhz = [x.sm_clock_mhz for x in seen if x.sm_clock_mhz is not None]
        return CardState(
            sm_clock_min_mhz=min(clocks_mhz, default=None),
            sm_clock_max_mhz=max(clocks_mhz, default=None),
            temperature_max_c=max((x.temperature_c for x in seen if x.temperature_c is not None), default=None),
            power_limit_w=self._power_limit_w,
            throttled=tuple(text for bit, text in _SLOWED.items() if bits & bit),
            other_pids=tuple(sorted({pid for x in seen for pid in x.other_pids})),
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
