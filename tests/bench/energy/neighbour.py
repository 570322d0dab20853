"""Does the energy of the same work depend on what else the machine does? Ours, and CodeCarbon's, modelled CPU.

    python -m tests.bench.energy.neighbour --out results/energy-meter

writes neighbour.json. A fixed amount of work is measured alone and beside a process of another tree that keeps a second
core busy, in interleaved blocks. Needs two cores; "alone" is as alone as the machine lets it be.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.inference.repeat import Repeated, repeat_until

LOOPS = 8_000_000
BUSY = "import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"


def work() -> None:
    total = 0
    for i in range(LOOPS):
        total += i


@contextlib.contextmanager
def busy_stranger(core: int) -> Iterator[None]:
    """A process of another tree (its shell is gone) that keeps `core` busy."""
    code = BUSY.format(core=core)
    shell = ["/bin/sh", "-c", '"$0" -S -c "$1" >/dev/null 2>&1 & echo $!', sys.executable, code]
    pid = int(subprocess.run(shell, capture_output=True, text=True, check=True).stdout)
    try:
        time.sleep(0.2)
        yield
    finally:
        os.kill(pid, 9)


def compare(joules: Callable[[Callable[[], None]], float], cores: Sequence[int], pairs: int) -> Repeated[float]:
    """Beside / alone, of what `joules` measures for `work` on the first core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores[0]})
    try:

        def beside() -> float:
            with busy_stranger(cores[1]):
                return joules(work)

        return repeat_until(beside, lambda: joules(work), float, ci=0.0, min_pairs=2, max_pairs=pairs)
    finally:
        os.sched_setaffinity(0, before)


def ours(powercap: Path = Path("/nonexistent")) -> Callable[[Callable[[], None]], float]:
    """Our modelled CPU, also where there is RAPL: a counter of the package follows the neighbour, as it should."""
    meter = EnergyMeter("cpu", powercap=powercap)

    def joules(task: Callable[[], None]) -> float:
        with meter.window("x") as w:
            task()
        return w.reading.sources[0].energy_j or 0.0

    return joules


def codecarbons() -> Callable[[Callable[[], None]], float]:
    """CodeCarbon's CPU energy of a task, sampled every second."""
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code="FRA", measure_power_secs=1, save_to_file=False, allow_multiple_runs=True, log_level="critical"
    )

    def joules(task: Callable[[], None]) -> float:
        tracker.start_task("x")
        task()
        return tracker.stop_task("x").cpu_energy * 3.6e6

    return joules


def summary(found: Repeated[float]) -> dict[str, Any]:
    return {
        "beside_by_alone": [found.ratio, found.low, found.high],
        "smallest_j": min(*found.a, *found.b),
        "largest_j": max(*found.a, *found.b),
        "pairs": found.pairs,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("results/energy-meter"))
    arguments = parser.parse_args(argv)
    cores = sorted(os.sched_getaffinity(0))[-2:]
    load = psutil.cpu_percent(1.0)
    found: dict[str, Any] = {
        "greenprune": summary(compare(ours(), cores, 10)),
        "CodeCarbon": summary(compare(codecarbons(), cores, 10)),
        "load_of_the_machine_before_percent": load,
        "command": "python -m tests.bench.energy.neighbour",
        "versions": {name: importlib.metadata.version(name) for name in ("greenprune", "codecarbon")},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "neighbour.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
