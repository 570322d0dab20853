"""Tables that a command writes into a page, between two comments."""

from __future__ import annotations

from pathlib import Path

END = "<!-- end of table -->"


def split(page: Path, command: str) -> tuple[str, str, str]:
    """The page before the table that `command` writes, the table, and what follows. Raises ValueError: it has none."""
    begin = f"<!-- table: {command} -->\n"
    before, begin, rest = page.read_text(encoding="utf-8").partition(begin)
    inside, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page}: lacks <!-- table: {command} --> or {END}")
    return before + begin, inside, end + after


def write(page: Path, command: str, table: str) -> None:
    """Put `table` there."""
    before, _, after = split(page, command)
    page.write_text(before + table + after, encoding="utf-8")
