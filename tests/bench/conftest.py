"""What the tests of the harness have in common: their reports are without pictures, which tests/plots draws."""

import pytest


@pytest.fixture(autouse=True)
def without_pictures(no_figures: None) -> None:
    """To draw them takes longer than a small suite."""
