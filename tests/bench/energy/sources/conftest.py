"""The stand-in for amdsmi where the package would be."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.bench.energy.sources.amdsmi import AmdSmi


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch):
    def install(*cards: dict[str, Any]) -> AmdSmi:
        made = AmdSmi(*cards)
        monkeypatch.setitem(sys.modules, "amdsmi", made)
        return made

    return install
