"""Where a smaller network saved no time, or no joules: said in words, since a table of ratios is easily read past."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.records.inference import Served
from greenprune.bench.text import bounded, listed, plural
from greenprune.plots.frame.comparison import (
    BATCHES,
    COUNTED,
    REFERENCE,
    batch_label,
    mean_interval,
    over_seeds,
    rows_of,
    with_bounds,
)
from greenprune.plots.frame.frame import GROUP_COLUMNS, Results
from greenprune.plots.frame.rows import inference_row

NAMED = 3
"""Networks that one sentence tells; the table has them all."""


@dataclass(frozen=True)
class Unsaved:
    """One network that took more than the dense one, beyond the 95 % interval.

    Attributes:
        name: of the method; where a table holds several comparisons, with what tells them apart.
        kept_percent: of what its budget counts.
        counted: what that is: "MACs".
        what: "time", or "joules" with their kind.
        where: the batch, and the runtime where it is not PyTorch itself.
        ratio, low, high: to the dense network; `low` is above 1.
    """

    name: str
    kept_percent: float
    counted: str
    what: str
    where: str
    ratio: float
    low: float
    high: float

    @property
    def figure(self) -> str:
        return bounded(self.ratio, self.low, self.high, lambda ratio: f"{ratio:.2f}").replace(" ", "× ", 1)


def unsaved(table: pd.DataFrame) -> list[Unsaved]:
    """Of the rows of a `comparison`, those whose budget counts a size, and that took more than dense at a batch size."""
    apart = [name for name in GROUP_COLUMNS if table[name].nunique() > 1]
    found = []
    for row in _sized(table):
        names = ", ".join(str(row[name]) for name in apart)
        named = row | {"method": f"{row['method']} ({names})"} if names else row
        for batch in BATCHES:
            at = f"at {batch_label(batch, table)}"
            found += [_found(named, f"{batch}_{ratio}", what, at) for ratio, what in _ratios()]
    return _worst_first(found)


def unsaved_where_served(part: Results, table: pd.DataFrame) -> list[Unsaved]:
    """The same in the runtimes that the suite names. `table`: the `comparison` of `part`."""
    measured = [
        {"key": record.key, "where": _where(served, at.batch_size)} | inference_row(at)
        for record in part.records
        for served in record.served
        for at in served.inference
    ]
    if not measured:
        return []
    runs = part.runs[["key", "method", "budget", "valid"]]
    rows = pd.DataFrame(measured).merge(runs[runs["valid"]], on="key")
    known = {(row["method"], row["budget"]): row for row in _sized(table)}
    found = []
    for (method, budget, where), own in rows.groupby(["method", "budget", "where"], sort=True):
        row = known.get((method, budget))
        if row is None or len(own) != row["runs"]:
            continue
        for ratio, what in _ratios():
            figures = over_seeds("x", own[ratio].astype(float)) | with_bounds("x", ratio, own.astype({ratio: float}))
            found.append(_found(row | figures, "x", what, str(where)))
    return _worst_first(found)


def in_words(found: list[Unsaved], write: Callable[[str], str] = str) -> Iterator[str]:
    """A sentence for each place and what was not saved there, with at most `NAMED` networks.

    Args:
        write: how names are to be written.
    """
    groups: dict[tuple[str, str, str], list[Unsaved]] = {}
    for each in found:
        groups.setdefault((each.counted, each.what, each.where), []).append(each)
    for (counted, what, where), own in groups.items():
        told = [
            f"{write(o.name)} keeps {o.kept_percent:.0f} % of them but takes {o.figure} the {what} of dense"
            for o in own[:NAMED]
        ]
        more = [plural(len(own) - NAMED, "more network")] if len(own) > NAMED else []
        yield f"Fewer {counted} did not save {what} {where}: {listed([*told, *more])}."


def _sized(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Valid pruned rows whose budget is no time and no energy: of those it is known that they keep it."""
    return [
        row
        for row in rows_of(table[table["valid"] & (table["method_name"] != REFERENCE)])
        if row["budget_cost"] not in ("latency", "energy")
    ]


def _ratios() -> list[tuple[str, str]]:
    """The columns of ratios, and what they are of."""
    return [("latency_ratio", "time"), *((f"energy_ratio_{kind}", f"joules ({kind})") for kind in KINDS)]


def _where(served: Served, batch_size: int) -> str:
    precision = "" if served.precision == "float32" else f" {served.precision}"
    return f"in {served.runtime}{precision} at batch {batch_size}"


def _found(row: dict[str, Any], name: str, what: str, where: str) -> Unsaved:
    ratio, low, high = mean_interval(row, name)
    kept, counted = row["kept_percent_mean"], COUNTED[str(row["budget_cost"])]
    return Unsaved(str(row["method"]), kept, counted, what, where, ratio, low, high)


def _worst_first(found: list[Unsaved]) -> list[Unsaved]:
    """Those of which the whole interval lies above 1; what is unknown is no finding."""
    return sorted((each for each in found if each.low > 1), key=lambda each: (each.where, each.what, -each.ratio))
