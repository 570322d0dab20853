"""The page itself: one file that needs nothing from anywhere, of a template, a style, scripts and data.

report.html is the template, report.css its style, js/ the scripts, in the order of `SCRIPTS`, vendor/ what others wrote.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.problems import Problem, by_weight, counted
from greenprune.plots.report.commands import HEADINGS, cells
from greenprune.plots.report.explorer import explored
from greenprune.plots.report.names import file_name
from greenprune.plots.report.run_page import packed
from greenprune.plots.report.sections import tables_of
from markupsafe import Markup

HERE = Path(__file__).parent
SCRIPTS = ("text", "pareto", "address", "sort", "chart", "table", "gates", "run", "explorer", "main")
"""Of js/, each after those that it uses; all of them are one script in the page."""

Named = Sequence[tuple[str, Results]]
"""Comparisons, each with what links call it."""


def render_page(
    results: Results,
    named: Named,
    sections: Sequence[dict[str, Any]],
    problems: Sequence[Problem],
    *,
    commands: Sequence[dict[str, Any]] = (),
    records: str = "",
) -> Iterator[str]:
    """The HTML page, part by part; everything in it is escaped unless the template says otherwise.

    The page of each run is read and packed when its part is asked for, so that they are never all in memory.

    Args:
        sections: what the template needs of each comparison, see `greenprune.plots.report.sections`.
        problems: all that the reader has to know.
        commands: rows of the energy report for single commands.
        records: where the records lie beside the page, as "records/"; empty where they do not.
    """
    numbers, first = [], 0
    for _, part in named:
        numbers.append(first)
        first += len(part.runs)
    data = [explored(part, name, number) for (name, part), number in zip(named, numbers, strict=True)]
    runs = (packed(r, place) for _, part in named for r, place in zip(part.records, part.places, strict=True))
    scripts = [_vendored(), _own()] if data else [_own()]
    return _templates().get_template("report.html").generate(
        sections=sections,
        problems=grouped(problems),
        count=len(problems),
        counts=counted(problems),
        together=tables_of(comparison(results)) if len(named) > 1 else [],
        measured={"headings": HEADINGS, "rows": [cells(row) for row in commands]},
        data=as_json({"comparisons": data, "records": records}),
        runs=runs,
        scripts=[Markup(text) for text in scripts],
        hashes=" ".join(f"'sha256-{_sha256(text)}'" for text in scripts),
    )  # fmt: skip


def render_index(rows: Sequence[dict[str, Any]]) -> str:
    """The first page of a site: a table for each data set and network; `rows` as of `greenprune.plots.report.publish`."""
    tables: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        tables.setdefault((row["dataset"], row["network"], row["score"]), []).append(row)
    script = _sorting()
    return (
        _templates()
        .get_template("site.html")
        .render(
            tables=[(file_name("-".join(names)), *names, own) for names, own in tables.items()],
            script=Markup(script),
            hashes=f"'sha256-{_sha256(script)}'",
        )
    )


def as_json(data: Any) -> Markup:
    """JSON that is safe within a script element: no text in it can end the element or begin another one."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def grouped(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems that say the same, together: kind, what, remedy, and the places where they occur with the details."""
    places: dict[tuple[str, str, str], dict[str, dict[str, None]]] = {}
    for problem in by_weight(problems):
        found = places.setdefault((problem.kind, problem.what, problem.remedy), {}).setdefault(problem.where, {})
        if problem.detail:
            found[problem.detail] = None
    return [
        {"kind": kind, "what": what, "remedy": remedy, "where": [(place, "; ".join(d)) for place, d in where.items()]}
        for (kind, what, remedy), where in places.items()
    ]


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _own() -> str:
    """Our scripts as one, in a scope of their own."""
    parts = [(HERE / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


@cache
def _sorting() -> str:
    text = (HERE / "js" / "sort.js").read_text(encoding="utf-8")
    return (
        f'"use strict";\n{text}for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);\n'
    )


@cache
def _vendored() -> str:
    return (HERE / "vendor" / "plotly-basic.min.js").read_text(encoding="utf-8")


@cache
def _sha256(text: str) -> str:
    """As a Content-Security-Policy names a script that may run."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
