from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest

from tests.methods import traces


@pytest.fixture(scope="module", autouse=True)
def remembered_traces() -> Iterator[None]:
    """What methods trace is traced once for each network; see `tests.methods.traces`."""
    with pytest.MonkeyPatch.context() as patch:
        for user in traces.USERS:
            patch.setattr(import_module(f"greenprune.methods.{user}"), "trace", traces.trace)
        yield
