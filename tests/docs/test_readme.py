"""The README: its table is what the records say, and it stays a first screen."""

from __future__ import annotations

import re

from tests.docs import readme


def test_the_table_is_that_of_the_records() -> None:
    assert readme.split()[1] == readme.table(), "python -m tests.docs.readme writes it"


def test_it_stays_short() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert len(text.split()) <= 1000
    rows = readme.split()[1].splitlines()
    assert len(rows) - 2 <= 11
    assert rows[0].count("|") - 1 <= 8
    uses = text[text.index("## Compare pruners") : text.index("## Read on")]
    assert all(block.count("\n") <= 10 for block in re.findall(r"```\w+\n(.*?)```", uses, re.DOTALL))


def test_what_it_links_to_is_there() -> None:
    text = readme.README.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert len(links) > 8
    assert [link for link in links if not (readme.ROOT / link).exists()] == []
