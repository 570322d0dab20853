"""Power of every source over a whole run, at 10 Hz at most and thinned as it grows; stored as Parquet.

A row is the mean power of one source from its row before (the first: from 0) to `time_s`, so that joules are
sum(power_w x step). A null says that nobody looked in that stretch. A GPU's rows are its power register ("sampled")
even where its joules come from the energy counter, because a counter that moves every 100 ms has no power at 10 Hz.
"""

from __future__ import annotations

import math
import os
import time
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from greenprune.bench.energy.reading import Kind
from greenprune.bench.energy.source import Mark

POWER_FILE = "power.parquet"
INTERVAL_S = 0.1
MAX_ROWS = 4096  # of one source; above it every two rows become one
MOST_ROWS = 4  # times MAX_ROWS, where phases change so often that rows of one phase cannot be joined
SEVERAL = "several"  # the phase of a row that was joined from rows of several
COLUMNS = ("time_s", "source", "kind", "power_w", "phase")
LONGEST_HOLD_S = 2.0  # a power sample older than this says nothing about now


class Track:
    """Power of one source as steps."""

    def __init__(
        self, start_s: float, kind: Kind, max_rows: int = MAX_ROWS, unknown_until_s: float | None = None
    ) -> None:
        self.kind = kind
        self.ends_s = array("d")
        self.power_w = array("d")  # NaN: unknown
        self.phases: list[str] = []
        self.start_s = start_s
        self._max_rows = max_rows
        self._most_rows = MOST_ROWS * max_rows
        self._interval_s = INTERVAL_S
        self._pending_j = 0.0  # since the last row
        if unknown_until_s is not None and unknown_until_s > start_s:
            self._append(unknown_until_s, math.nan, "")

    def add(self, until_s: float, energy_j: float, phase: str) -> None:
        """`energy_j` since the last call was used until `until_s`; NaN when unknown. Becomes a row when it is due."""
        self._pending_j += energy_j
        step_s = until_s - (self.ends_s[-1] if self.ends_s else self.start_s)
        if step_s < 0.9 * self._interval_s:  # a tenth less, or jitter would skip every other turn
            return
        self._append(until_s, self._pending_j / step_s, phase)
        self._pending_j = 0.0
        if len(self.ends_s) >= self._max_rows:
            self._thin()

    def _append(self, until_s: float, power_w: float, phase: str) -> None:
        self.ends_s.append(until_s)
        self.power_w.append(power_w)
        self.phases.append(phase)

    def _thin(self) -> None:
        """Make fewer rows; their energy stays."""
        self._join_pairs(unlike=False)
        self._interval_s *= 2
        if len(self.ends_s) > 0.9 * self._max_rows:  # phases that change with every row cannot be joined
            if 2 * self._max_rows > self._most_rows:
                self._join_pairs(unlike=True)
            else:
                self._max_rows *= 2

    def _join_pairs(self, *, unlike: bool) -> None:
        """Make one row of every two neighbours of one phase, or of any (`unlike`)."""
        ends_s, power_w, phases = self.ends_s, self.power_w, self.phases
        self.ends_s, self.power_w, self.phases = array("d"), array("d"), []
        start_s = self.start_s
        i = 0
        while i < len(ends_s):
            last = i + 1 if i + 1 < len(ends_s) and (unlike or phases[i + 1] == phases[i]) else i
            energy_j, from_s = 0.0, start_s
            for j in range(i, last + 1):
                energy_j += power_w[j] * (ends_s[j] - from_s)
                from_s = ends_s[j]
            phase = phases[i] if phases[i] == phases[last] else SEVERAL
            self._append(from_s, energy_j / (from_s - start_s), phase)
            start_s, i = from_s, last + 1


class PowerLog:
    """Power of all sources since it was made. `phase` is the innermost open window, "" between windows."""

    def __init__(self) -> None:
        self.start_s = self._made_s = time.perf_counter()
        self._epoch_s = time.time()
        self._tracks: dict[str, Track] = {}
        self._marks: dict[str, Mark] = {}
        self._samples: dict[str, tuple[float, float]] = {}  # time in s, power in W
        self._earlier: dict[str, list[Any]] = {}  # columns of the log that this one goes on with

    def total(self, source: str, kind: Kind, mark: Mark, phase: str) -> None:
        """A running total was read."""
        last = self._marks.get(source)
        self._marks[source] = mark
        if last is None or mark.time_s <= last.time_s:
            return
        unknown = mark.resets != last.resets or mark.unseen_j != last.unseen_j
        energy_j = math.nan if unknown else mark.total_j - last.total_j
        self._track(source, kind, last.time_s).add(mark.time_s, energy_j, phase)

    def sample(self, source: str, time_s: float, power_w: float, phase: str) -> None:
        """A power register was read; each value holds until the next one."""
        last = self._samples.get(source)
        self._samples[source] = (time_s, power_w)
        if last is None or time_s <= last[0]:
            return
        step_s = time_s - last[0]
        held_j = last[1] * step_s if step_s <= LONGEST_HOLD_S else math.nan
        self._track(source, "sampled", last[0]).add(time_s, held_j, phase)

    def go_on(self, columns: Mapping[str, list[Any]], started_at_s: float) -> None:
        """Take on the rows of an earlier log, of a process that was interrupted; between the two nobody looked.

        Args:
            columns, started_at_s: its `columns()` and `started_at_s`.
        """
        self._earlier = dict(columns)
        gap_s = max(self._epoch_s - started_at_s, *columns["time_s"], 0.0)  # a clock may have been set back
        self.start_s -= gap_s
        self._epoch_s -= gap_s

    @property
    def started_at_s(self) -> float:
        """Seconds of the Unix epoch at `time_s` = 0."""
        return self._epoch_s

    def columns(self) -> dict[str, list[Any]]:
        """The rows, source by source: time_s (since the log was made), source, kind, power_w, phase."""
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        earlier = list(zip(*(self._earlier.get(name, []) for name in COLUMNS), strict=True))
        for source in dict.fromkeys([*(row[1] for row in earlier), *self._tracks]):
            rows = [row for row in earlier if row[1] == source]
            if source in self._tracks:
                track = self._tracks[source]
                if rows:
                    rows.append((track.start_s - self.start_s, source, track.kind, None, ""))
                for time_s, power_w, phase in zip(track.ends_s, track.power_w, track.phases, strict=True):
                    power = None if math.isnan(power_w) else power_w
                    rows.append((time_s - self.start_s, source, track.kind, power, phase))
            for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=False):
                columns[name] += values
        return columns

    def write(self, path: Path) -> Path:
        """Store the rows as Parquet, whole or not at all. Raises OSError."""
        return write_power(self.columns(), path, started_at_s=self._epoch_s)

    def _track(self, source: str, kind: Kind, start_s: float) -> Track:
        if source not in self._tracks:
            self._tracks[source] = Track(self._made_s, kind, unknown_until_s=start_s)
        return self._tracks[source]


def write_power(columns: Mapping[str, list[Any]], path: Path, *, started_at_s: float) -> Path:
    """Write `PowerLog.columns` to `path`. `started_at_s`: seconds of the Unix epoch at `time_s` = 0. Raises OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    label = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [("time_s", pa.float64()), ("source", label), ("kind", label), ("power_w", pa.float32()), ("phase", label)],
        metadata={"started_at_s": f"{started_at_s:.3f}", "rows": "mean power from the source's row before to time_s"},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(pa.table(dict(columns), schema=schema), temporary, compression="zstd")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_power(path: Path) -> dict[str, list[Any]]:
    """The columns that `write_power` stored. Raises OSError or pyarrow.ArrowException."""
    import pyarrow.parquet as pq

    return dict(pq.read_table(path).to_pydict())
