"""What the tools made of the cases, and the table of it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.energy.comparison.cases import Case

TOOLS = {"greenprune": None, "Zeus": "zeus", "CodeCarbon": "codecarbon"}
"""Name, and the package that it needs."""


@dataclass(frozen=True)
class Outcome:
    """What one tool made of one case."""

    case: str
    tool: str
    windows: int
    true_j: float | None  # means over the windows that have a figure
    energy_j: float | None
    error_j: float | None  # mean absolute error
    worst_j: float | None
    note: str


def true_j(case: Case, start_s: float, end_s: float) -> float:
    """Joules of the cards that should be counted between two times of the stand-in's clock."""

    def until(time_s: float) -> float:
        whole, rest_s = divmod(time_s, case.period_s)
        half_s = case.period_s / 2
        part_j = case.low_w * min(rest_s, half_s) + case.high_w * max(0.0, rest_s - half_s)
        return whole * (case.low_w + case.high_w) * half_s + part_j

    return until(end_s) - until(start_s)


def outcome(case: Case, tool: str, answer: dict) -> Outcome:
    """Errors of what the script printed."""
    figures = [(j, true_j(case, start_s, end_s)) for j, start_s, end_s, _ in answer["windows"] if j is not None]
    notes = [note for *_, note in answer["windows"] if note]
    if answer["problem"]:
        notes.append(answer["problem"])
    zeros = sum(j == 0 and truth > 0 for j, truth in figures)
    if zeros:
        notes.append(f"{zeros} of {len(figures)} read 0 J")
    note = "; ".join(dict.fromkeys(notes))
    if not figures:
        return Outcome(case.name, tool, case.windows, None, None, None, None, note or "no figure")
    errors = [abs(j - truth) for j, truth in figures]
    return Outcome(
        case.name,
        tool,
        case.windows,
        statistics.mean(truth for _, truth in figures),
        statistics.mean(j for j, _ in figures),
        statistics.mean(errors),
        max(errors),
        note,
    )


def available(tool: str) -> bool:
    """Whether the package of `tool` is installed."""
    package = TOOLS[tool]
    return package is None or importlib.util.find_spec(package) is not None


def smallest(outcomes: Sequence[Outcome]) -> str:
    """The tools with the smallest mean absolute error among the outcomes of one case."""
    known = {o.tool: o.error_j for o in outcomes if o.error_j is not None}
    return ", ".join(tool for tool, error_j in known.items() if error_j == min(known.values())) or "none"


def markdown(outcomes: Sequence[Outcome], about: str) -> str:
    """A row for each case, with the mean absolute error of each tool in J."""
    lines = [about, "", f"| case | true J | {' | '.join(TOOLS)} | smallest |", "| --- " * (len(TOOLS) + 3) + "|"]
    notes: list[str] = []
    for case in dict.fromkeys(o.case for o in outcomes):
        row = {o.tool: o for o in outcomes if o.case == case}
        cells = []
        for tool in TOOLS:
            o = row.get(tool)
            cell = "not run" if o is None else "no figure" if o.error_j is None else f"{o.error_j:.3g}"
            if o is not None and o.note:
                notes.append(f"{case}, {tool}: {o.note}")
                cell += f" [{len(notes)}]"
            cells.append(cell)
        truths = [o.true_j for o in row.values() if o.true_j is not None]
        true = f"{statistics.mean(truths):.4g}" if truths else "–"
        lines.append(f"| {case} | {true} | {' | '.join(cells)} | {smallest(list(row.values()))} |")
    return "\n".join([*lines, "", *(f"[{i}] {note}  " for i, note in enumerate(notes, start=1)), ""])
