"""What several tests of reports share."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without drawn figures: these take most of the time, and what is asked of the page is not about them."""
    monkeypatch.setattr("greenprune.plots.report.report.FIGURES", ())
