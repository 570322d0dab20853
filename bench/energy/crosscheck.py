"""CodeCarbon's own tracker run beside a window, as a second opinion. Optional: it costs CPU time of its own.

Its joules are shown beside ours and go into no sum: they estimate the machine (by its load), ours the process tree. Of
what it reports only the energy fields are used; its power and rate fields are wrong means in version 3.3.2
(docs/energy.md). It runs in this process, so what it burns is in our CPU figure; `overhead_s` says how much.
It writes no file, uses no network, and keeps no lock file.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.energy.carbon import J_PER_KWH

INTERVAL_S = 15.0  # CodeCarbon's own default


@dataclass
class CrossCheck:
    """CodeCarbon's figures; filled in when the block ends, `problem` when it failed."""

    version: str | None = None
    duration_s: float | None = None
    cpu_j: float | None = None
    gpu_j: float | None = None
    ram_j: float | None = None
    overhead_s: float | None = None  # CPU time of this process while the tracker was made, started and stopped
    problem: str | None = None


@contextlib.contextmanager
def codecarbon_beside(country: str | None = None, interval_s: float = INTERVAL_S) -> Iterator[CrossCheck]:
    """Run CodeCarbon's offline tracker around the block; open our windows inside it, so that its start is not in them.

    Never raises on account of the tracker. What the block raises passes through.
    """
    found = CrossCheck()
    begun_s = time.process_time()
    tracker = _started(found, country, interval_s)
    overhead_s = time.process_time() - begun_s
    entered_s = time.perf_counter()
    try:
        yield found
    finally:
        found.duration_s = time.perf_counter() - entered_s
        begun_s = time.process_time()
        if tracker is not None:
            _stop(tracker, found)
        found.overhead_s = overhead_s + time.process_time() - begun_s


def _started(found: CrossCheck, country: str | None, interval_s: float):  # type: ignore[no-untyped-def]
    try:
        import codecarbon

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
    except Exception as e:
        found.problem = f"CodeCarbon: {type(e).__name__}: {e}"
        return None


def _stop(tracker, found: CrossCheck) -> None:  # type: ignore[no-untyped-def]
    try:
        tracker.stop()
        data = tracker.final_emissions_data
        found.cpu_j, found.gpu_j, found.ram_j = (
            float(kwh) * J_PER_KWH for kwh in (data.cpu_energy, data.gpu_energy, data.ram_energy)
        )
    except Exception as e:
        found.problem = f"CodeCarbon: {type(e).__name__}: {e}"
