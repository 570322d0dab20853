"""Windows of time and the energy that every source of the machine used in them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from greenprune.bench.energy.counting.aligned import marks_at_tick
from greenprune.bench.energy.find import find_sources
from greenprune.bench.energy.idle import IdlePower, idle_powers, with_idle
from greenprune.bench.energy.live import LivePower
from greenprune.bench.energy.node.ranks import Ranks, absent_rank, elsewhere, of_node, rank_warnings, reporter
from greenprune.bench.energy.power_log import PowerLog
from greenprune.bench.energy.reading import Reading, SourceReading
from greenprune.bench.energy.sampling import Sampling
from greenprune.bench.energy.sensors.place import Place
from greenprune.bench.energy.source import (
    Mark,
    Segment,
    describe_source,
    fault,
    invalid,
    joined,
    read_mark,
)
from greenprune.bench.energy.usage.processes import UsageSource
from greenprune.bench.energy.window import Span, Window

MAX_SEGMENTS = 64  # of one source in a window that is paused again and again; more are joined
ASLEEP_S = 1.0  # a suspend that is shorter is not worth a word

_meters: weakref.WeakSet[EnergyMeter] = weakref.WeakSet()


class EnergyMeter:
    """Finds the sources of energy on this machine and reads them over windows.

    GPUs by NVML ("nvml:0", numbered as nvidia-smi does) and their likes of other makers; the CPU by RAPL
    ("rapl:package-0"), or, where there is none, modelled from CPU time ("cpu") and memory ("ram"); the whole machine by
    its own meter ("machine:power_meter"). `greenprune.bench.energy.find` knows all of them. Windows may nest, overlap
    and be opened from any thread. A forked child may go on using the meter for windows of its own.
    """

    def __init__(
        self,
        device: str | None = None,
        *,
        synchronise: Callable[[], None] | None = None,
        gpu_uuids: Sequence[str] | None = None,
        environ: Mapping[str, str] = os.environ,
        powercap: Path | None = None,
        sysfs: Path | None = None,
        idle_power_w: Mapping[str, float] | None = None,
        ranks: Ranks = "each",
        usage: UsageSource | None = None,
        shared: str | None = None,
    ) -> None:
        """Takes five updates of each GPU's counter: do it early.

        Args:
            device: whose GPUs count. "cpu": none. "cuda": the first that CUDA shows this process. "cuda:1": the second.
                None: all of them.
            synchronise: called before every reading, so that the work belongs to the window that launched it;
                `torch.cuda.synchronize` where a GPU is used.
            gpu_uuids: the GPUs by UUID instead, for example from `torch.cuda.get_device_properties(0).uuid`.
            environ: where CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER are looked up.
            powercap: where Linux shows RAPL; None: class/powercap in `sysfs`.
            sysfs: where Linux shows its other sensors; None: what GREENPRUNE_SYSFS in `environ` says, else /sys.
            idle_power_w: idle power by source, where it is known already ("nvml:0"); else see `measure_idle`.
            ranks: where a launcher (torchrun, mpirun, srun, ...) started several processes on this node. "each": every one
                reads its devices, and a warning tells where they are the same. "one_per_node": rank 0 of the node reads
                all GPUs of the job, or those named by UUID, or with "cpu" none, and the packages; the others have no
                sensor, and their readings say who reports. What is modelled from a process's own tree every rank reports for
                itself.
            usage: whose CPU time and memory the models take; this process's and its descendants' if None.
            shared: half a sentence, why work of others goes on on this machine, "other jobs are on this node". Then a sensor
                counts only if it is of a GPU that was asked for: those of processors, memory and the whole machine are left
                out, which `describe` tells, and the CPU time and memory of this process tree are modelled.

        Raises:
            ValueError: `device` or `ranks` is none of these.
        """
        self._user_synchronise = synchronise
        self.reporter = reporter(environ, ranks)
        self._lock = threading.Lock()
        self._idle = {name: IdlePower(power_w) for name, power_w in (idle_power_w or {}).items()}
        alone = self.reporter is None or ranks == "each"
        job_gpus: tuple[int, ...] = ()
        if not alone:
            device, gpu_uuids, job_gpus = of_node(self.reporter, environ, device, gpu_uuids)
        place = Place.here(
            sysfs, powercap, device=device, gpu_uuids=gpu_uuids, job_gpus=job_gpus, environ=environ, shared=shared
        )
        self._nvml, self._sources, self._rows, self.absent = find_sources(place, usage)
        self._rank_warnings: list[str] = []
        if self.reporter is not None and not self.reporter.reports:
            self._sources = [source for source in self._sources if source.kind == "modelled"]
            self._rows = [absent_rank(self.reporter)]
            self._rank_warnings = [elsewhere(self.reporter)]
        elif self.reporter is not None:
            names = [source.name for source in self._sources if source.kind != "modelled"]
            named = "" if gpu_uuids else device
            self._rank_warnings = rank_warnings(self.reporter, names, named, environ, alone=alone)
        self._sampling = Sampling(self._sources, self._lock)
        self._live = LivePower(self.marks())
        _meters.add(self)

    @property
    def power_log(self) -> PowerLog:
        """Power of every source while windows were open."""
        return self._sampling.power_log

    def begin(self, name: str, *, align: bool = False, units: Mapping[str, float] | None = None) -> Window:
        """Open a window; end it with `.end()`.

        `units`: what is done in it, such as {"tokens": 1000}, for joules per unit (`Reading.per_unit`); see
        `Window.count` for numbers that are known only later. Raises ValueError where a number is none.

        `align`: begin and end when the GPU's energy counter moves, which takes up to one of its periods each time and
        makes short windows exact. The time and energy until the counter moves at the end are part of the window.
        """
        return Window(self, name, align, units)

    @contextlib.contextmanager
    def window(self, name: str, *, align: bool = False, units: Mapping[str, float] | None = None) -> Iterator[Window]:
        """Measure the block; arguments as in `begin`. What it raises passes through, and the reading is still there."""
        window = self.begin(name, align=align, units=units)
        try:
            yield window
        finally:
            window.end()

    def power_w(self) -> float | None:
        """Power over the last seconds: of all sensors together, or modelled where there is none. For display.

        Never raises; None in the first seconds, and when no source answers.
        """
        return self._live.power_w(self._sources, self.marks)

    def measure_idle(self, duration_s: float = 30.0, rest: Callable[[float], None] = time.sleep) -> Reading:
        """Let the machine rest for `duration_s` and read it; later windows then tell net energy too.

        Net = gross - idle power x duration of the window. Do it where the work will run and before it starts: a process
        that holds a CUDA context idles at a higher power than none. On a GPU at least 30 s, or it is still cooling
        down and clocking down. A source that fails here has no idle power, and no net energy later. `rest` waits for as
        many seconds as it is given; what it raises passes through.
        """
        with self.window("idle", align=True) as window:
            rest(duration_s)
        self._idle |= idle_powers(window.reading)
        return window.reading

    def describe(self) -> list[dict[str, Any]]:
        """One dict for each source: `source`, `kind`, `available`, and `detail`, or `reason` and `remedy`."""
        with self._lock:
            rows = [describe_source(source) for source in self._sources]
        for row in rows:
            idle = self._idle.get(row["source"])
            row["idle_power_w"] = idle.power_w if idle else None
        return [*rows, *self._rows]

    def expected_uncertainty(self, window_s: float) -> dict[str, float | None]:
        """By source: `uncertainty_j / energy_j` to expect of a window of `window_s` that is not aligned, at constant
        power; None for a source that cannot be read."""
        return {source.name: source.expected_uncertainty(window_s) for source in self._sources}

    def close(self) -> None:
        """Stop sampling and let go of the driver. Open windows can still be ended; what failed is invalid."""
        self._sampling.stop()
        for source in self._sources:
            source.close()
        if self._nvml is not None:
            self._nvml.close()

    def __enter__(self) -> EnergyMeter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def synchronise(self) -> list[str]:
        """Wait for the GPU; what went wrong with that."""
        if self._user_synchronise is None:
            return []
        try:
            self._user_synchronise()
        except Exception as e:  # after a CUDA error every call raises; the user's own exception is the one to see
            return [f"the GPU could not be synchronised, its energy may belong to another window ({e})"]
        return []

    def marks(self) -> list[Mark]:
        """The mark of every source."""
        with self._lock:
            return [read_mark(source) for source in self._sources]

    def _marks_at_tick(self) -> list[Mark]:
        marks = self.marks()
        counters = [place for place, source in enumerate(self._sources) if source.kind == "measured"]
        return marks_at_tick(marks, counters, self._mark)

    def _mark(self, place: int) -> Mark:
        with self._lock:
            return read_mark(self._sources[place])

    def marks_at_start(self, window: Window, align: bool) -> list[Mark]:
        """Open `window`: the mark of every source."""
        with self._lock:
            phase = self._sampling.phase()
            self._sampling.opened(window)
        marks = self._marks_at_tick() if align else self.marks()
        with self._lock:
            self._sampling.log(marks, phase)
        return marks

    def marks_at_end(self, window: Window, align: bool) -> list[Mark]:
        """Close or pause `window`: the mark of every source."""
        marks = self._marks_at_tick() if align else self.marks()
        with self._lock:
            self._sampling.log(marks, self._sampling.phase())
            self._sampling.closed(window)
        return marks

    def segments(self, start: Sequence[Mark], end: Sequence[Mark], window_s: float) -> list[Segment]:
        """The stretch between two lists of marks, for each source; asked for just after the second was read."""
        found = []
        with self._lock:
            for i, source in enumerate(self._sources):
                tally = getattr(source, "tally", None)
                found.append(Segment(start[i], end[i], window_s, tally and tally(start[i], end[i])))
        return found

    def join(self, segments: list[list[Segment]], new: Sequence[Segment]) -> None:
        """Append to each source's segments, or join, so that they stay few."""
        segments += [[] for _ in new[len(segments) :]]
        for source, own, segment in zip(self._sources, segments, new, strict=True):
            own.append(segment)
            # What a source looks up itself, by time, it finds in segments that are not joined.
            while len(own) > (1 if hasattr(source, "tally") else MAX_SEGMENTS):
                own[:2] = [joined(own[0], own[1])]

    def read(self, name: str, pid: int, segments: Sequence[Sequence[Segment]], span: Span) -> Reading:
        """What every source says of its segments."""
        readings: list[SourceReading] = []
        warnings = [*span.problems, *self._rank_warnings]
        if span.asleep_s > ASLEEP_S:
            warnings.append(
                f"the machine was suspended for {span.asleep_s:.0f} s in this window, which are not in its duration; "
                "what it used meanwhile is in the figures only where a counter went on"
            )
        for source, own in zip(self._sources, segments, strict=True):
            reason = "the window was opened in another process" if pid != os.getpid() else fault(own)
            try:
                with self._lock:
                    if reason is None:
                        reading, found = source.reading(own)
                    else:
                        rescued = source.rescued(own, reason) if pid == os.getpid() else None
                        reading, found = rescued or (invalid(source.name, source.kind, reason), [])
            except Exception as e:
                reading, found = invalid(source.name, source.kind, f"{type(e).__name__}: {e}"), []
            readings.append(with_idle(reading, span.duration_s, self._idle))
            warnings += found
        return Reading(
            name=name,
            duration_s=span.duration_s,
            sources=tuple(readings),
            warnings=tuple(warnings),
            reporter=self.reporter,
        )

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it
        self._sampling.after_fork(self._lock)
        for source in self._sources:
            source.restart()
        # Read nothing yet: most children, such as those that load data, never ask, and NVML takes long to start.
        self._live = LivePower(None)


def _restart_meters() -> None:
    for meter in list(_meters):
        meter._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_meters)
