"""How far a run is, whatever its file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.engines.progress import PROGRESS_FILE
from greenprune.bench.engines.standing import _progress

TOLD = {"event": "progress", "epoch": 1, "epochs": 2, "step": 5, "steps": 10, "seconds_left": 30.0}


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({}, "epoch 1/2, 50%, 30 s left"),
        ({"steps": 0}, ""),
        ({"seconds_left": float("inf")}, ""),
        ({"seconds_left": float("nan")}, ""),
        ({"step": "five"}, ""),
    ],
)
def test_a_progress_that_cannot_be_is_not_shown(tmp_path: Path, changed: dict[str, Any], shown: str) -> None:
    (tmp_path / PROGRESS_FILE).write_text(json.dumps(TOLD | changed))
    assert _progress(tmp_path) == shown
