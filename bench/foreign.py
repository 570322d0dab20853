"""Text that others wrote (labels, names of suites and machines, commands), made harmless for where it is shown.

Records come from anybody. What is in them is shown as it is written, and means nothing to a terminal, a spreadsheet or a
browser. HTML is escaped by its template, LaTeX by `greenprune.plots.tables.latex`.
"""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, escape sequences begin with one of them
    "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # no width, other directions of writing
    "\ud800-\udfff]"  # halves of a character, which no file takes
)
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: of full width
_MARKDOWN = re.compile(r"[\\`*|~]|(?<!\w)_|_(?!\w)|\[|\]|^(?=[#>+-])")


def visible(text: str) -> str:
    r"""`text` with whatever a terminal would obey, or nobody would see, written out: an escape sequence as `\x1b[31m`."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """The same without line breaks and tabs, for a cell or a heading."""
    return visible(" ".join(text.split()) if any(c in text for c in "\n\t\r\v\f") else text)


def shortened(text: str, longest: int = 80) -> str:
    """`text` within a sentence: in one line, and no longer than that."""
    text = one_line(text[: 4 * longest])
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def csv_cell(value: object) -> object:
    """With an apostrophe before text that a spreadsheet would take for a formula; numbers as they are."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) and not _is_number(text) else text


def markdown_cell(text: str) -> str:
    """As a cell of a Markdown table shows it literally: no HTML, no links, no marks, no further column."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
