"""The table of the runtimes in docs/how-to/runtimes.md is what the records say."""

from __future__ import annotations

from tests.docs import served


def test_the_table_is_that_of_the_records() -> None:
    assert served.split()[1] == served.table(), "python -m tests.docs.served writes it"
