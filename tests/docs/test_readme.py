"""The README: its table is what the records say, and it stays a first screen."""

from __future__ import annotations

import re

from tests.docs import paired, readme, settings, versions
from tests.docs.between import split


def test_the_table_is_that_of_the_records() -> None:
    assert table_of_the_readme() == readme.table(), f"{readme.COMMAND} writes it"


def table_of_the_readme() -> str:
    return split(readme.README, readme.COMMAND)[1]


def test_the_differences_are_those_of_the_records() -> None:
    tables = {
        "seeds": paired.table(paired.FOLDERS),
        "seeds of CIFAR-100": paired.table(paired.C100),
        "others": paired.others(paired.FOLDERS[0]),
        "others of CIFAR-100": paired.others(paired.C100[0]),
    }
    for of, table in tables.items():
        assert split(paired.PAGE, paired.COMMAND, of)[1] == table, f"{paired.COMMAND} writes it"
    assert split(paired.PAGE, settings.COMMAND, "settings")[1] == settings.table(), f"{settings.COMMAND} writes it"
    assert split(paired.PAGE, versions.COMMAND, "versions")[1] == versions.table(), f"{versions.COMMAND} writes it"


def test_it_stays_short() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert len(text.split()) <= 1000
    rows = table_of_the_readme().splitlines()
    assert len(rows) - 2 <= 11
    assert rows[0].count("|") - 1 <= 8
    uses = text[text.index("## Compare pruners") : text.index("## Read on")]
    assert all(block.count("\n") <= 10 for block in re.findall(r"```\w+\n(.*?)```", uses, re.DOTALL))


def test_what_it_links_to_is_there() -> None:
    text = readme.README.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert len(links) > 8
    assert [link for link in links if not (readme.ROOT / link).exists()] == []
