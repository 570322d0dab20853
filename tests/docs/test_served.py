"""The tables in docs/how-to/runtimes.md are what the records say."""

from __future__ import annotations

import pytest

from tests.docs import served
from tests.docs.between import split


@pytest.mark.parametrize("name", served.TABLES)
def test_the_table_is_that_of_the_records(name: str) -> None:
    assert split(served.PAGE, served.COMMAND, name)[1] == served.TABLES[name](), f"{served.COMMAND} writes it"
