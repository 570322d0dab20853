"""The tables in docs/how-to/runtimes.md are what the records say."""

from __future__ import annotations

import pytest

from tests.docs import served


@pytest.mark.parametrize("name", served.TABLES)
def test_the_table_is_that_of_the_records(name: str) -> None:
    assert served.split(name)[1] == served.TABLES[name](), "python -m tests.docs.served writes it"
