"""The running total of a hardware counter, which wraps around, is reset, and may not be looked at for a long time."""

from __future__ import annotations

import time
from collections.abc import Callable

from greenprune.bench.energy.source import Mark, SensorError

LONGEST_DRIFT_S = 1.0  # by which two clocks of one machine may differ between two looks without a suspension


def counter_step_j(
    previous_j: float, current_j: float, elapsed_s: float, *, max_power_w: float, wrap_j: float | None = None
) -> float:
    """Energy between two readings of a hardware counter, over at most one wraparound.

    `wrap_j` is the value after which the counter starts at 0 again, None for one that never does.

    Raises:
        SensorError: the counter went backwards without a wraparound, or forwards faster than `max_power_w` allows.
    """
    step_j = current_j - previous_j
    if step_j < 0:
        if wrap_j is None:
            raise SensorError(
                f"the energy counter went back from {previous_j:.1f} J to {current_j:.1f} J: it was reset"
            )
        step_j += wrap_j
    if not 0 <= step_j <= max_power_w * elapsed_s:
        raise SensorError(
            f"the energy counter moved by {step_j:.1f} J in {elapsed_s:.2f} s, "
            f"more than {max_power_w:.0f} W allow: it was reset"
        )
    return step_j


def other_clocks_s() -> tuple[float, float]:
    """Two clocks that go on where `perf_counter` stands still: while the machine is suspended, where the system has such
    a one, and the wall clock, which is set right after a virtual machine was paused."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock), time.time()


class Counter:
    """Running total of a hardware energy counter, followed over wraparounds; a reset is counted, never subtracted.

    What a counter that wraps has gone round unseen, because nobody looked for longer than its range lasts, is not in the
    total. How much that can be at most is, in the marks' `unseen_j`.
    """

    def __init__(
        self,
        read_j: Callable[[], float],
        *,
        max_power_w: float,
        stale_s: float,
        wrap_j: float | None = None,
        plausible_w: float | None = None,
        clocks_s: Callable[[], tuple[float, float]] = other_clocks_s,
    ) -> None:
        """`stale_s`: how old what `read_j` returns may be, the update period of the counter.

        `plausible_w`: the highest power that the device may really have over seconds, for what may have been missed;
        more than that can be read, up to `max_power_w`, and then counts from there on. None: `max_power_w`.
        """
        self._read_j = read_j
        self._max_power_w = max_power_w
        self._plausible_w = max_power_w if plausible_w is None else plausible_w
        self.stale_s = stale_s
        self.wrap_j = wrap_j
        self._clocks_s = clocks_s
        self._last: tuple[float, tuple[float, float], float] | None = None  # perf_counter, other clocks, counter in J
        self._total_j = 0.0
        self._unseen_j = 0.0
        self._resets = 0
        self._reason: str | None = None

    def mark(self) -> Mark:
        """Read the counter now. Raises SensorError, or whatever `read_j` raises."""
        counter_j = self._read_j()
        now_s, others_s = time.perf_counter(), self._clocks_s()
        if self._last is not None:
            last_s, last_others_s, last_j = self._last
            gone_s = [now - then for now, then in zip(others_s, last_others_s, strict=True)]
            elapsed_s = max(now_s - last_s, gone_s[0]) + 2 * self.stale_s
            # The wall clock may be set forward at any time: it excuses a large step, and lets no joules have gone unseen.
            longest_s = max(elapsed_s, gone_s[1] + 2 * self.stale_s)
            asleep_s = gone_s[0] - (now_s - last_s)
            try:
                if counter_j < last_j and asleep_s > LONGEST_DRIFT_S:
                    raise SensorError(
                        f"the machine was suspended for {asleep_s:.0f} s and the energy counter went back: it was reset "
                        "or went round, and cannot tell which"
                    )
                step_j = counter_step_j(last_j, counter_j, longest_s, max_power_w=self._max_power_w, wrap_j=self.wrap_j)
                self._total_j += step_j
                self._unseen_j += self._missed_j(step_j, elapsed_s, longest_s)
            except SensorError as e:
                self._resets += 1
                self._reason = str(e)
        self._last = (now_s, others_s, counter_j)
        return Mark(now_s, self._total_j, self.stale_s, self._resets, self._reason, self._unseen_j)

    def _missed_j(self, step_j: float, elapsed_s: float, longest_s: float) -> float:
        """Whole ranges that fit between what was seen and what the device can have used in `elapsed_s`.

        `longest_s`: in which the step may have been made.
        """
        if self.wrap_j is None or self.wrap_j <= 0:
            return 0.0
        if longest_s > 0:
            self._plausible_w = max(self._plausible_w, step_j / longest_s)
        return max(0.0, (self._plausible_w * elapsed_s - step_j) // self.wrap_j) * self.wrap_j
