"""Tables that a command writes into a page, between two comments."""

from __future__ import annotations

from pathlib import Path

END = "<!-- end of table -->"


def split(page: Path, command: str, of: str = "") -> tuple[str, str, str]:
    """The page before the table that `command` writes, the table, and what follows.

    Args:
        of: which one, where the command writes several.

    Raises:
        ValueError: there is no such table.
    """
    comment = f"<!-- table{of and f' of {of}'}: {command} -->"
    before, begin, rest = page.read_text(encoding="utf-8").partition(f"{comment}\n")
    inside, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page}: lacks {comment} or {END}")
    return before + begin, inside, end + after


def write(page: Path, command: str, table: str, of: str = "") -> None:
    """Put `table` there."""
    before, _, after = split(page, command, of)
    page.write_text(before + table + after, encoding="utf-8")
