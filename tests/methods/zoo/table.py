"""The table of networks: what gating and Torch-Pruning make of each.

    python -m tests.methods.zoo.table --out results/networks
    python -m tests.methods.zoo.table --out results/networks --only timm/ oto/carn

writes a record for each network, as soon as it is measured, and table.md from all records in the folder. Each measurement
runs in a process of its own, on one thread, with a limit of time and memory. `--only` measures those whose names contain
one of the words, `--none` nothing: it makes table.md again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

SIDES = ("greenprune", "torch_pruning")
PACKAGES = ("torch", "torchvision", "timm", "transformers", "torch-pruning")
LIMIT_S, PRUNER_LIMIT_S, LIMIT_BYTES = 60.0, 20.0, 8 * 2**30


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="measure networks with such a name")
    parser.add_argument("--none", action="store_true", help="measure nothing, write the table")
    parser.add_argument("--side", choices=SIDES, nargs="+", default=SIDES, help="measure this, keep the other")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.none:
        measure(arguments.out, arguments.only, arguments.side)
    from tests.methods.zoo import page

    (arguments.out / "table.md").write_text(page.text(page.records(arguments.out)), encoding="utf-8")


def measure(out: Path, only: Sequence[str], sides: Sequence[str]) -> None:
    """Measure the networks whose names contain one of `only`, and write their records.

    Args:
        sides: of `SIDES`, what is measured; of the others a record keeps what it says.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    from tests.methods.zoo import child, depgraph, gated
    from tests.methods.zoo.catalogue import ALL, LISTED

    for package in ("timm", "transformers", "torchvision", "torch_pruning"):
        importlib.import_module(package)
    listed = {entry.name for entry in LISTED}
    about = {"machine": machine(), "versions": {name: version(name) for name in PACKAGES}}
    for entry in ALL.values():
        if not any(word in entry.name for word in only):
            continue
        place = out / f"{file_name(entry.name)}.json"
        record = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        measures = {"greenprune": (gated.measure, LIMIT_S), "torch_pruning": (depgraph.measure, PRUNER_LIMIT_S)}
        results = {side: record[side] for side in SIDES if side in record}
        for side, (of, limit_s) in measures.items():
            if side in sides or side not in results:
                results[side] = child.run(of, entry, limit_s, LIMIT_BYTES)
                print(results[side].pop("traceback", ""), end="", file=sys.stderr)
        record = {
            "network": entry.name,
            "listed": entry.name in listed,
            **results,
            "made_by": f"python -m tests.methods.zoo.table --out results/networks --only '{entry.name}'",
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **about,
        }
        place.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(entry.name, *({k: v for k, v in r.items() if k != "not_gated"} for r in results.values()), flush=True)


def file_name(network: str) -> str:
    """Of a network's record, without the extension."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", network).strip("-")


def machine() -> dict[str, Any]:
    import torch
    from greenprune.bench.machine.machine import cpu_name

    return {"cpu": cpu_name(), "threads": 1, "torch_capability": torch.backends.cpu.get_cpu_capability()}


if __name__ == "__main__":
    main()
