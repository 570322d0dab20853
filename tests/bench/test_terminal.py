"""What is printed where nobody reads it: it is told as such, and changes no exit code afterwards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from greenprune.bench import terminal

Unread = Callable[[], AbstractContextManager[None]]


@pytest.mark.parametrize("stderr", [False, True])
def test_a_reader_that_went_away_is_told_and_what_is_left_goes_nowhere(unread: Unread, stderr: bool) -> None:
    with unread():
        with pytest.raises(BrokenPipeError):
            terminal.console(stderr=stderr).print("a table")
        terminal.drop_output()


def test_a_complaint_that_nobody_hears_leaves_nothing_behind(unread: Unread) -> None:
    with unread():
        terminal.complain("what is wrong")
