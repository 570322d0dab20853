"""What a report of many records takes: `python -m tests.plots.many FOLDER --records 200 1000 --out results/report/many.json`.

The records are made up, as large as those of a run of 60 epochs: one comparison of nine methods with five seeds, at as many
budgets as it takes. `greenprune report` runs as a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from greenprune.bench.machine.machine import describe_machine

from tests.plots.records import NINE, grid, rich, with_epochs

SEEDS, EPOCHS = 5, 60

LAUNCH = """
import json, resource, subprocess, sys, time
began_s = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([time.perf_counter() - began_s, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
"""Run by a small process: the peak of a child begins at the memory of its parent."""


def write_many(folder: Path, records: int) -> Path:
    """`records` runs of one suite in `folder`; returns the folder of the suite."""
    budgets = -(-records // (SEEDS * (len(NINE) - 1)))
    runs = grid(NINE, tuple(round((i + 1) / (budgets + 1), 3) for i in range(budgets)), seeds=SEEDS)
    return next(rich(folder, *(with_epochs(run, EPOCHS) for run in islice(runs, records))).iterdir())


def measured(folder: Path, records: int) -> dict[str, Any]:
    """Time and memory of `greenprune report`, the whole command, and the size of its page."""
    suite = write_many(folder / f"{records}", records)
    command = [sys.executable, "-c", LAUNCH, str(Path(sys.executable).with_name("greenprune")), "report", str(suite)]
    seconds, processor_seconds, peak = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {
        "records": records,
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor_seconds, 1),
        "peak_memory_mib": round(peak / 1024),  # KiB on Linux
        "page_mb": round((suite / "report.html").stat().st_size / 1e6, 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new one, for the records and their reports")
    parser.add_argument("--records", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    told = {
        "command": "python -m tests.plots.many FOLDER --records " + " ".join(map(str, asked.records)),
        "machine": describe_machine(torch.device("cpu")),
        "reports": [measured(asked.folder, records) for records in asked.records],
    }
    text = json.dumps(told, indent=1) + "\n"
    print(text, end="")
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(text, encoding="utf-8")
