"""What every integration shares: phases of a program, the energy of each, and of each logging interval within."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.node.ranks import local_rank
from greenprune.bench.energy.node.usage import NodeRanks
from greenprune.bench.energy.window import Window
from greenprune.integrations.account import Account

MIN_INTERVAL_S = 1.0
"""A shorter logging interval is joined with the next: opening and closing its window would cost a part of it that counts,
and its bounds would be wider than its figure."""

_joining = threading.Lock()  # several recorders may add to one account
_logger = logging.getLogger("greenprune.integrations")


class MissingFrameworkError(ImportError):
    """A framework that an integration is for is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"greenprune.integrations.{name} needs {name}, which is not installed: pip install 'greenprune[{name}]'"
        )


class _Open:
    """A phase that is going on, with what this visit to it and the interval within used so far."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.visit = Account()
        self.interval = Account()
        self.interval_began_s = time.perf_counter()
        self.windows: tuple[Window, Window] | None = None  # of the visit and of the interval; None while suspended
        self.pauses = 0  # that are going on


class Recorder:
    """Phases may lie within one another: the outer one rests meanwhile, its energy is without the inner one's."""

    def __init__(self, meter: EnergyMeter, totals: dict[str, Account], min_interval_s: float) -> None:
        """`totals`: by phase, of all visits that have ended; filled here."""
        self.meter = meter
        self.totals = totals
        self._min_interval_s = min_interval_s
        self._stack: list[_Open] = []

    @property
    def phase(self) -> str | None:
        """The phase that is going on, None between phases."""
        return self._stack[-1].phase if self._stack else None

    def is_open(self, phase: str) -> bool:
        return any(phase == opened.phase for opened in self._stack)

    def enter(self, phase: str) -> None:
        if self._stack:
            self._suspend(self._stack[-1])
        self._stack.append(_Open(phase))
        self._resume(self._stack[-1])

    def leave(self) -> tuple[str, Account]:
        """End the innermost phase: its name, and what this visit to it used."""
        inner = self._stack.pop()
        self._suspend(inner)
        with _joining:
            self.totals.setdefault(inner.phase, Account()).join(inner.visit)
        if self._stack:
            self._resume(self._stack[-1])
        return inner.phase, inner.visit

    def count(self, samples: float) -> None:
        """Add to what the innermost phase has done."""
        if self._stack:
            self._stack[-1].visit.samples += samples
            self._stack[-1].interval.samples += samples

    def interval(self) -> Account | None:
        """What was used since the last interval of the innermost phase ended.

        None where that is too short ago, and within a pause: then the interval is joined with the next.
        """
        if not self._stack:
            return None
        inner = self._stack[-1]
        now_s = time.perf_counter()
        if not inner.interval.samples or now_s - inner.interval_began_s < self._min_interval_s:
            return None
        if inner.windows is None:
            return None
        visit, window = inner.windows
        done, inner.interval = inner.interval, Account()
        done.add(window.end())
        inner.interval_began_s = now_s
        inner.windows = (visit, self.meter.begin(f"{inner.phase} interval"))
        return done

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time and energy inside belong to no phase. Pauses may overlap, and outlast the phase."""
        inner = self._stack[-1]
        inner.pauses += 1
        self._suspend(inner)
        try:
            yield
        finally:
            inner.pauses -= 1
            if self._stack and self._stack[-1] is inner:
                self._resume(inner)

    def state(self) -> dict[str, Any]:
        """All phases so far, the open ones included, as plain data for a checkpoint."""
        if self._stack:
            self._suspend(self._stack[-1])
            self._resume(self._stack[-1])
        accounts = {phase: Account.from_state(account.state()) for phase, account in self.totals.items()}
        for phase in self._stack:
            accounts.setdefault(phase.phase, Account()).join(phase.visit)
        return {phase: account.state() for phase, account in accounts.items()}

    def _suspend(self, phase: _Open) -> None:
        if phase.windows is None:
            return
        visit, interval = phase.windows
        phase.interval.add(interval.end())
        phase.visit.add(visit.end())
        phase.windows = None

    def _resume(self, phase: _Open) -> None:
        if phase.pauses:
            return
        phase.windows = (self.meter.begin(phase.phase), self.meter.begin(f"{phase.phase} interval"))


class PhaseLog:
    """A recorder that tells a framework's logger. Does nothing until `start`, and on ranks that do not report."""

    def __init__(
        self,
        meter: EnergyMeter | None,
        *,
        totals: dict[str, Account] | None = None,
        prefix: str = "energy",
        gco2e_per_kwh: float | None = None,
        min_interval_s: float = MIN_INTERVAL_S,
    ) -> None:
        """`meter`: the user's; None: `start` makes one. `totals`: to be added to."""
        self.totals: dict[str, Account] = {} if totals is None else totals
        self._meter = meter
        self._prefix = prefix
        self._gco2e_per_kwh = gco2e_per_kwh
        self._min_interval_s = min_interval_s
        self._recorder: Recorder | None = None
        self._log: Callable[[dict[str, float]], object] | None = None

    def start(self, log: Callable[[dict[str, float]], object] | None, new_meter: Callable[[], EnergyMeter]) -> None:
        """From here on `log` is told. Makes the meter where there is none: a second, so do it before the phases."""
        self._log = log
        if self._recorder is None:
            self._meter = self._meter or new_meter()
            self._recorder = Recorder(self._meter, self.totals, self._min_interval_s)

    def enter(self, phase: str) -> None:
        if self._recorder is not None:
            self._recorder.enter(phase)

    def leave(self, phase: str) -> None:
        """End `phase` and whatever an exception left open within it, and log them. Does nothing where it is not open."""
        while self._recorder is not None and self._recorder.is_open(phase):
            self._tell(*self._recorder.leave())

    def finish(self) -> None:
        """End everything that an exception left open, the innermost first, and log it."""
        while self._recorder is not None and self._recorder.phase is not None:
            self._tell(*self._recorder.leave())

    def count(self, samples: float) -> None:
        if self._recorder is not None:
            self._recorder.count(samples)

    def interval(self) -> None:
        """A logging interval of the innermost phase has ended."""
        used = self._recorder.interval() if self._recorder is not None else None
        if used is not None and self._recorder is not None and self._log is not None:
            self._log(used.metrics(f"{self._prefix}/{self._recorder.phase}", "interval_"))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.enter(name)
        try:
            yield
        finally:
            self.leave(name)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time and energy inside belong to no phase."""
        if self._recorder is None or self._recorder.phase is None:
            yield
        else:
            with self._recorder.paused():
                yield

    def state(self) -> dict[str, Any]:
        """All phases so far as plain data; empty on ranks that do not report."""
        return {} if self._recorder is None else self._recorder.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what an earlier run had used when it stored `state`. Does nothing on ranks that do not report."""
        if self._recorder is None:
            return
        self.totals.clear()
        self.totals |= {phase: Account.from_state(account) for phase, account in state.items()}

    def _tell(self, name: str, visit: Account) -> None:
        prefix = f"{self._prefix}/{name}"
        metrics = visit.metrics(prefix, gco2e_per_kwh=self._gco2e_per_kwh)
        metrics |= self.totals[name].metrics(prefix, "total_", gco2e_per_kwh=self._gco2e_per_kwh)
        for kind, reason in visit.lost.items():
            _logger.warning("%s energy of %s is not known: %s", kind, name, reason)
        _logger.info("energy of %s: %s", name, metrics)
        if self._log is not None and metrics:
            self._log(metrics)


def meter_of(device_type: str, gpus: Sequence[int]) -> EnergyMeter:
    """The meter of a training: of its GPUs on this node, by CUDA's numbers, and of the CPU.

    Where a launcher started several processes on the node, of the CPU time of all of them; and where they are more than
    `gpus`, as each is shown its own alone, of all GPUs that the job has here.
    """
    here = local_rank(os.environ)
    usage = None if here is None else NodeRanks()
    if device_type != "cuda":
        return EnergyMeter("cpu", ranks="one_per_node", usage=usage)
    import torch

    known = here is None or (0 < len(gpus) <= torch.cuda.device_count() and (here.size or 1) <= len(gpus))
    uuids = [str(torch.cuda.get_device_properties(index).uuid) for index in gpus] if known else None
    return EnergyMeter(gpu_uuids=uuids, ranks="one_per_node", synchronise=synchronise_cuda, usage=usage)


@functools.cache
def meter_of_process() -> EnergyMeter:
    """The meter of all GPUs that this process sees, made once."""
    return EnergyMeter(ranks="one_per_node", synchronise=synchronise_cuda, usage=NodeRanks())


def synchronise_cuda() -> None:
    """Wait for the GPU, where torch uses one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def reports_here() -> bool:
    """Whether this process is the one of its node that reports, by the launcher's variables."""
    here = local_rank(os.environ)
    return here is None or here.rank == 0


def first_dimension(batch: Any) -> int:
    """Samples in a batch: length of the first tensor in it, 1 where there is none."""
    shape = getattr(batch, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else 1
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, list | tuple):
        if batch and all(isinstance(item, str | int | float) for item in batch):
            return len(batch)
        for item in batch:
            if getattr(item, "shape", None) is not None or isinstance(item, list | tuple | Mapping):
                return first_dimension(item)
    return 1
