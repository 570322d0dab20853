"""Our meter, Zeus and CodeCarbon on the same scripted NVML traces, whose true joules are known.

    python -m tests.bench.energy.comparison --out results/energy-meter

writes table.md and table.csv. Every tool measures every case in a process of its own against the stand-in of the NVML
library; nothing but the tool differs. Zeus and CodeCarbon are used as their documentation says; of CodeCarbon the energy
fields of a task, sampled every second instead of every 15.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import importlib.util
import platform
from collections.abc import Sequence
from pathlib import Path

from tests.bench.energy.comparison.measure import compare
from tests.bench.energy.comparison.outcome import TOOLS, Outcome, available, markdown


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("results/energy-meter"))
    arguments = parser.parse_args(argv)
    tools = [tool for tool in TOOLS if available(tool)]
    outcomes = compare(tools=tools)
    packages = ("greenprune", "zeus", "codecarbon", "nvidia-ml-py")
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    about = (
        "# Error of three energy meters on scripted traces\n\n"
        "Mean absolute error in joules over the windows of a row, against the true joules of a stand-in for the NVML "
        "library (`tests/nvml_standin/nvml.c`). No GPU took part: this is about the arithmetic of the tools, not about "
        "a card's sensor. “True J” is the mean over the tools; each is held against the joules of its own window (ours "
        "are edge-aligned and so up to two counter periods longer).\n\n"
        f"`python -m tests.bench.energy.comparison`: {versions}, Python {platform.python_version()}."
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.md").write_text(markdown(outcomes, about), encoding="utf-8")
    with (arguments.out / "table.csv").open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        names = list(Outcome.__dataclass_fields__)
        writer.writerow(names)
        writer.writerows([getattr(o, name) for name in names] for o in outcomes)
    print(markdown(outcomes, about))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    main()
