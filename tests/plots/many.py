"""Many made-up records in a folder, as large as real ones, to measure the report: `python -m tests.plots.many FOLDER`.

python -m tests.plots.many many --records 1000
/usr/bin/time -v greenprune report many/cifar10-cpu
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from tests.plots.records import NINE, grid, rich, with_epochs

SEEDS = 5


def write_many(folder: Path, records: int) -> Path:
    """One comparison of `records` runs: nine methods, five seeds, and as many budgets as that takes."""
    budgets = -(-records // (SEEDS * (len(NINE) - 1)))
    runs = grid(NINE, tuple(round((i + 1) / (budgets + 1), 3) for i in range(budgets)), seeds=SEEDS)
    return rich(folder, *(with_epochs(run, 60) for run in islice(runs, records)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=1000)
    asked = parser.parse_args()
    print(write_many(asked.folder, asked.records) / "cifar10-cpu")
