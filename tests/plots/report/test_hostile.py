"""Names, machines and commands of a stranger's records: shown as they are written, wherever they are shown."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.foreign import csv_cell, markdown_cell, visible
from greenprune.bench.records.stored import signed
from greenprune.plots.frame.load import load
from greenprune.plots.tables.latex import escaped
from greenprune.plots.tables.tables import terminal_table
from rich.console import Console

from tests.plots.records import agreeing, failed, record, store

HOSTILE = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)",
    "{{ 7 * 7 }}",
    "o[/b]x",
    "[red]x[/red]",
    "[link=http://x]y",
    ":skull:",
    "\x1b[31mred\x1b]0;title\x07",
    "\x9b31m",
    "a\u202eb",
    "$((1+1))",
    "$\\frac{1}{",
    "\\input{/etc/passwd}",
    "%comment",
    "[0.5] & x \\\\ y",
    "*x* _y_ `z` [a](http://b) | c",
    "line\nbreak",
    "../../x",
    "",
]


GROUPS = [HOSTILE[i::5] for i in range(5)]
"""Each begins with another character that begins a formula."""


@pytest.mark.parametrize("texts", GROUPS, ids=[str(i) for i in range(5)])
def test_hostile_text_in_every_place(
    texts: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """Records with the texts in all that is free: of the suite, the label, the machine, the command, the notes."""
    monkeypatch.setattr("greenprune.plots.report.report.FIGURES", ())  # drawn in the next test
    folder = tmp_path / "theirs"
    write(folder, texts)
    assert main(["report", str(folder)]) == 0
    assert main(["compare", str(folder), str(folder)]) == 0
    out = capfd.readouterr().out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", out)
    for name in ("table.csv", "energy.csv"):
        text_of = (folder / name).read_bytes().decode()
        for cell in (cell for row in csv.reader(text_of.splitlines()) for cell in row):
            assert not cell.startswith(tuple("=+-@\t\r")) or is_number(cell), cell
    page = (folder / "report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.names <= OWN_TAGS
    assert tags.scripts == {"application/json": 1, "text/plain": len(texts) + 1, None: 2}
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert "49" not in re.findall(r"<h2>(.*?)</h2>", page)
    markdown = (folder / "table.md").read_text()
    assert "<" not in markdown.replace("<br>", "")
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in markdown.split("\n\n")[0].splitlines()}) == 1
    latex = (folder / "table.tex").read_text()
    assert "\\input" not in latex
    assert "\x1b" not in latex
    assert json.loads((folder / "energy.json").read_text())


def write(folder: Path, texts: list[str]) -> None:
    """Each text as a label; all of them in a row for everything else."""
    text = "".join(texts)
    changes = {
        "suite": text,
        "command": text,
        "overrides": (text,),
        "warnings": (text,),
        "machine": {"cpu": text, "cores": 4, "os": text, text: text},
        "versions": {"greenprune": text, "torch": text},
    }
    for i, label in enumerate(["dense", *texts]):
        run = agreeing(record("dense" if i == 0 else "gated")).model_dump(mode="json") | changes | {"method": label}
        path = folder / f"suite/{i}/record.json"
        path.parent.mkdir(parents=True)
        path.write_text(signed(run))
    lost = failed()
    assert lost.failure is not None
    store(folder, lost.model_copy(update={"failure": lost.failure.model_copy(update={"reason": text})}))


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


OWN_TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "nav", "ul", "li", "a", "main", "section",
    "p", "strong", "details", "summary", "div", "span", "code", "table", "thead", "tr", "th", "button", "tbody", "td",
    "figure", "img", "figcaption", "dl", "dt", "dd", "pre", "script", "h4", "form", "label", "select", "option", "input",
    "output", "fieldset", "legend", "dialog",
}  # fmt: skip


class Tags(HTMLParser):
    """The tags of a page outside of its own scripts, and their attributes; `scripts` by type, None: one that may run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts: Counter[str | None] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "script":
            self.scripts[dict(attrs).get("type")] += 1


def test_figures_show_dollars_and_brackets_as_they_are(tmp_path: Path) -> None:
    for name in ("dense", "gated"):
        store(tmp_path, record(name).model_copy(update={"suite": "$x", "machine": {"cpu": "$\\frac{", "cores": 2}}))
    path = next(tmp_path.glob("$x/gated*/record.json"))
    path.write_text(signed(json.loads(path.read_text()) | {"method": "$x^{$ o[/b]"}))
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.html").read_text()
    assert "cannot be drawn" not in page
    assert len(list((tmp_path / "page" / "figures").glob("*.svg"))) > 5


@pytest.mark.parametrize(
    ("value", "written"),
    [("=1+1", "'=1+1"), ("-5", "-5"), ("-5e-3", "-5e-3"), (-5.0, -5.0), ("-x", "'-x"), (None, None), ("a=1", "a=1")],
)
def test_formulas_become_text_and_numbers_stay(value: object, written: object) -> None:
    assert csv_cell(value) == written


def test_what_is_harmless_stays_as_it_is() -> None:
    for text in ("magnitude_unstructured", "gated-0.5", "Intel(R) Xeon(R) CPU @ 2.20GHz, 4 cores", "größer ≥ 1 µJ"):
        assert visible(text) == text
        assert html.unescape(markdown_cell(text)) == text
    assert escaped("a_b") == r"a\_b"
    assert escaped("[x] 0.5 [0.4, 0.6]") == "{[}x] 0.5 [0.4, 0.6]"


def test_a_terminal_of_40_columns_keeps_names_whole(tmp_path: Path) -> None:
    names = ("dense", "magnitude_unstructured", "gated")
    results = load(store(tmp_path, *(record(name) for name in names)))
    console = Console(width=40, file=io.StringIO())
    console.print(terminal_table(results))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 40
    for name in names:
        assert any(line.startswith(f"{name} ") for line in lines)
