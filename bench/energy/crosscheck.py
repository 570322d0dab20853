"""Other meters run beside a window, as a second opinion. Optional: they cost CPU time of their own.

Their joules are shown beside ours and go into no sum. CodeCarbon estimates the machine (by its load), ours the process
tree; of what it reports only the energy fields are used, its power and rate fields are wrong means in version 3.3.2.
Zeus reads the same counters of GPU and CPU as we do. Both run in this process, so what they burn is in our CPU figure;
`overhead_s` says how much of it at start and end. They write no file, use no network, and keep no lock file.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from greenprune.bench.energy.carbon.intensity import J_PER_KWH
from greenprune.bench.energy.meter import EnergyMeter
from greenprune.bench.energy.reading import Kind

INTERVAL_S = 15.0  # CodeCarbon's own default


@dataclass
class CrossCheck:
    """Another meter's figures; filled in when the block ends, `problem` when it failed."""

    tool: str = "codecarbon"
    version: str | None = None
    duration_s: float | None = None
    cpu_j: float | None = None  # None: it has no such figure
    gpu_j: float | None = None
    ram_j: float | None = None
    ours_j: dict[Kind, float] = field(default_factory=dict)  # our joules over the same time, by kind
    overhead_s: float | None = None  # CPU time of this process while the tool was made, started and stopped
    problem: str | None = None


@contextlib.contextmanager
def crosschecked(
    tools: Sequence[str], meter: EnergyMeter, *, country: str | None = None, gpus: bool = True
) -> Iterator[list[CrossCheck]]:
    """Run all of `tools` (keys of `BESIDE`) around the block, and inside of them a window of `meter`, for `ours_j`.

    Args:
        country: ISO 3166 alpha-3, for CodeCarbon.
        gpus: whether GPUs are to be counted; CodeCarbon always counts those that it finds.

    Never raises on account of a tool. What the block raises passes through.
    """
    if not tools:
        yield []
        return
    with contextlib.ExitStack() as others:
        checks = [others.enter_context(BESIDE[tool](country, gpus)) for tool in tools]
        with meter.window("cross-checked") as window:
            yield checks
    for check in checks:
        joules = {kind: window.reading.energy_j(kind) for kind in get_args(Kind)}
        check.ours_j = {kind: energy_j for kind, energy_j in joules.items() if energy_j is not None}


@contextlib.contextmanager
def codecarbon_beside(country: str | None = None, interval_s: float = INTERVAL_S) -> Iterator[CrossCheck]:
    """Run CodeCarbon's offline tracker around the block; open our windows inside it, so that its start is not in them.

    Never raises on account of the tracker. What the block raises passes through.
    """
    found = CrossCheck("codecarbon")

    def start() -> Any:
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # it warns while it is imported, before its level can be set
        try:
            import codecarbon
        finally:
            logging.disable(before)

        found.version = codecarbon.__version__
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        tracker = codecarbon.OfflineEmissionsTracker(
            country_iso_code=country or "USA",  # only its joules are used, but it insists on a country
            measure_power_secs=interval_s,
            save_to_file=False,
            save_to_api=False,
            save_to_logger=False,
            allow_multiple_runs=True,  # no lock file
            log_level="critical",
        )
        tracker.start()
        return tracker

    def stop(tracker: Any) -> None:
        tracker.stop()
        data = tracker.final_emissions_data
        found.cpu_j, found.gpu_j, found.ram_j = (
            float(kwh) * J_PER_KWH for kwh in (data.cpu_energy, data.gpu_energy, data.ram_energy)
        )

    with _beside(found, "CodeCarbon", start, stop):
        yield found


@contextlib.contextmanager
def zeus_beside(gpus: bool = True) -> Iterator[CrossCheck]:
    """Run a window of Zeus's `ZeusMonitor` around the block.

    Never raises on account of Zeus. What the block raises passes through.
    """
    found = CrossCheck("zeus")

    def start() -> Any:
        try:
            found.version = importlib.metadata.version("zeus")
        except importlib.metadata.PackageNotFoundError:
            raise ImportError("is not installed: pip install zeus") from None
        logging.getLogger("zeus").setLevel(logging.CRITICAL)
        from zeus.monitor import ZeusMonitor

        monitor = ZeusMonitor(gpu_indices=None if gpus else [])
        monitor.begin_window("greenprune", sync_execution=gpus)
        return monitor

    def stop(monitor: Any) -> None:
        measured = monitor.end_window("greenprune", sync_execution=gpus)
        parts = (measured.cpu_energy, measured.gpu_energy, measured.dram_energy)
        found.cpu_j, found.gpu_j, found.ram_j = (float(sum(part.values())) if part else None for part in parts)
        if not any(parts):
            found.problem = "Zeus: it found neither a GPU nor a RAPL that it may read"

    with _beside(found, "Zeus", start, stop):
        yield found


BESIDE: dict[str, Callable[[str | None, bool], contextlib.AbstractContextManager[CrossCheck]]] = {
    "codecarbon": lambda country, gpus: codecarbon_beside(country),
    "zeus": lambda country, gpus: zeus_beside(gpus),
}
"""By name: what runs a tool around a block."""


@contextlib.contextmanager
def _beside(found: CrossCheck, name: str, start: Callable[[], Any], stop: Callable[[Any], None]) -> Iterator[None]:
    """Start a tool, run the block, stop the tool; note what it cost, and what it had to complain of."""
    tool = None
    begun_s = time.process_time()
    try:
        tool = start()
    except Exception as e:
        found.problem = f"{name}: {type(e).__name__}: {e}"
    overhead_s = time.process_time() - begun_s
    entered_s = time.perf_counter()
    try:
        yield
    finally:
        found.duration_s = time.perf_counter() - entered_s
        begun_s = time.process_time()
        if tool is not None:
            try:
                stop(tool)
            except Exception as e:
                found.problem = f"{name}: {type(e).__name__}: {e}"
        found.overhead_s = overhead_s + time.process_time() - begun_s
