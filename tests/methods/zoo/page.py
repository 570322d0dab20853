"""The table in markdown, from records. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXACT = 1e-4
"""How far masked and removed network may lie apart, relative to the size of the outputs."""

COLUMNS = (
    "network",
    "gateable",
    "heads, widths, blocks, streams",
    "floor",
    "budget",
    "kept",
    "masked against removed",
    "describe",
    "Torch-Pruning: kept",
    "seconds",
)
HEADER = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


def records(folder: Path) -> list[dict[str, Any]]:
    """All records in `folder`, in the order of their names."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(found, key=lambda record: record["network"])


def succeeds(record: dict[str, Any]) -> bool:
    """Whether the network was pruned to its budget, with masked and removed network alike."""
    ours = record["greenprune"]
    return "kept" in ours and ours["kept"] <= ours["keep"] + 1e-6 and ours["difference"] <= EXACT


def text(found: Sequence[dict[str, Any]]) -> str:
    """Two sentences and two tables: the networks of other tools' suites, then further ones."""
    listed, more = ([r for r in found if r["listed"] is which] for which in (True, False))
    both = [r for r in listed if "refused" not in r["torch_pruning"] and "failed" not in r["torch_pruning"]]
    slowest = max((r["greenprune"].get("describe_s", math.inf) for r in found), default=0.0)
    lines = [
        f"Of {len(listed)} networks gating prunes {sum(map(succeeds, listed))}, Torch-Pruning's generic recipe {len(both)}. "
        f"`describe` takes at most {slowest:.1f} s of CPU time.",
        "",
        HEADER,
        *map(row, listed),
        "",
        f"Further networks, of which gating prunes {sum(map(succeeds, more))} of {len(more)}:",
        "",
        HEADER,
        *map(row, more),
    ]
    return "\n".join(lines) + "\n"


def row(record: dict[str, Any]) -> str:
    ours, other = record["greenprune"], record["torch_pruning"]
    describe = f"{ours['describe_s']:.1f} s" if "describe_s" in ours else ""
    if "kept" in ours:
        kinds = ", ".join(str(ours[kind]) for kind in ("heads", "widths", "blocks", "streams"))
        cells = [
            f"{ours['reached_share']:.0%}",
            kinds,
            f"{ours['floor']:.2f}",
            f"{ours['keep']:.2f}",
            f"{ours['kept']:.3f}",
            f"{ours['difference']:.0e}",
            describe,
        ]
    else:
        reason = ours["refused"] if "refused" in ours else ours.get("failed", "")
        cells = ["", "", "", "", _cell(f"{'refused' if 'refused' in ours else 'fails'}: {reason}"), "", describe]
    if "refused" in other or "failed" in other:
        theirs = _cell("no: " + str(other.get("refused", other.get("failed"))), most=60)
    else:
        theirs = f"{other['kept']:.3f}"
    seconds = f"{other['seconds']:.1f}" if "seconds" in other else ""
    return "| " + " | ".join([record["network"], *cells, theirs, seconds]) + " |"


def _cell(text: str, most: int = 400) -> str:
    text = " ".join(text.split())
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("|", "\\|").replace("<", "&lt;")
