"""Power over time: a zero-order hold over samples, and the thread that takes them."""

from __future__ import annotations

import bisect
import threading
import time
from array import array
from collections.abc import Callable


class PowerTrace:
    """Samples of power, integrated by a zero-order hold: each sample holds until the next one.

    Duplicates are kept: a sensor that repeats itself says that the power has not changed. Dropping repeats and joining
    the rest by straight lines, as some tools do, loses a constant load altogether and smears every step.
    Times are of `time.perf_counter`.
    """

    def __init__(self) -> None:
        self.times_s = array("d")
        self.power_w = array("d")
        self._integral_j = array("d")  # from the first sample to each sample

    def __len__(self) -> int:
        return len(self.times_s)

    def add(self, time_s: float, power_w: float) -> None:
        """Append a sample. One that is older than the last is dropped: the clock that times them never runs back."""
        if not self.times_s:
            self._integral_j.append(0.0)
        elif time_s < self.times_s[-1]:
            return
        else:
            self._integral_j.append(self._integral_j[-1] + self.power_w[-1] * (time_s - self.times_s[-1]))
        self.times_s.append(time_s)
        self.power_w.append(power_w)

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy between two times. Before the first sample the first one holds, after the last one the last."""
        return self._until_j(end_s) - self._until_j(start_s)

    def peak_w(self, start_s: float, end_s: float) -> float:
        """Largest power that was held at any time between the two."""
        first = max(0, bisect.bisect_right(self.times_s, start_s) - 1)
        last = bisect.bisect_right(self.times_s, end_s)
        return max(self.power_w[first : max(last, first + 1)], default=0.0)

    def uncovered_s(self, start_s: float, end_s: float, longest_hold_s: float) -> float:
        """How much of the stretch lies further than `longest_hold_s` behind the last sample before it."""
        first = max(0, bisect.bisect_right(self.times_s, start_s) - 1)
        last = bisect.bisect_right(self.times_s, end_s)
        uncovered_s = 0.0
        for i in range(first, last):
            until_s = self.times_s[i + 1] if i + 1 < last else end_s
            uncovered_s += max(0.0, until_s - max(start_s, self.times_s[i] + longest_hold_s))
        return uncovered_s

    def clear(self) -> None:
        """Forget all samples."""
        self.times_s, self.power_w, self._integral_j = array("d"), array("d"), array("d")

    def _until_j(self, time_s: float) -> float:
        if not self.times_s:
            raise ValueError("no power samples")
        i = max(0, bisect.bisect_right(self.times_s, time_s) - 1)
        return self._integral_j[i] + self.power_w[i] * (time_s - self.times_s[i])


LONGEST_SLEEP_S = 3600.0


class Sampler:
    """A daemon thread that calls `poll` every `interval_s` while it is resumed. `poll` must not raise.

    It is kept between windows, because to start a thread costs more than a window does; paused it uses no CPU time.
    """

    def __init__(self, poll: Callable[[], None], interval_s: float) -> None:
        self._poll = poll
        self._interval_s = interval_s
        self._resumed = threading.Event()
        self._stopped = False
        threading.Thread(target=self._run, name="greenprune-energy", daemon=True).start()

    def resume(self) -> None:
        """Poll from one interval from now on."""
        self._resumed.set()

    def pause(self) -> None:
        """Stop polling after the current poll."""
        self._resumed.clear()

    def stop(self) -> None:
        """End the thread for good; does not wait for it."""
        self._stopped = True
        self._resumed.set()

    def _run(self) -> None:
        # sleep and not Event.wait with a limit: that costs more CPU time than some polls do.
        while self._resumed.wait() and not self._stopped:
            time.sleep(min(self._interval_s, LONGEST_SLEEP_S))  # no source that polls: an endless interval
            if self._resumed.is_set() and not self._stopped:
                self._poll()
