"""The results folders of this repository: a clone holds those of its user's own runs beside them."""

from __future__ import annotations

from pathlib import Path

RESULTS = Path(__file__).parents[2] / "results"


def folders() -> list[Path]:
    """Those that results/README.md links to."""
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    return sorted(path for path in RESULTS.iterdir() if path.is_dir() and f"({path.name})" in text)
