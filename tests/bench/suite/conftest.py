from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.suite.good import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a suite file."""

    def written(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written
