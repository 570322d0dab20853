"""What the tests of the harness have in common: their reports are without pictures, which tests/plots draws."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(autouse=True)
def without_pictures(no_figures: None) -> None:
    """To draw them takes longer than a small suite."""


@contextlib.contextmanager
def _unread() -> Iterator[None]:
    kept, streams = (sys.stdout, sys.stderr), []
    for _ in kept:
        read, write = os.pipe()
        os.close(read)
        streams.append(os.fdopen(write, "w", buffering=1, encoding="utf-8"))
    try:
        sys.stdout, sys.stderr = streams
        yield
    finally:
        sys.stdout, sys.stderr = kept
        for stream in streams:
            stream.close()  # fails where anything is left to write


@pytest.fixture
def unread() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Within it, standard output and standard error go to a pipe each whose reader has gone away."""
    return _unread
