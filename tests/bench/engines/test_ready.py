"""Which run begins next where several go on at a time."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from greenprune.bench.engines import local
from greenprune.bench.engines.engine import Place
from greenprune.bench.engines.local import Local
from greenprune.bench.engines.ready import Ready
from greenprune.bench.errors import UserError
from greenprune.bench.run.shares import Share

SHARES = (Share(cores=(0,)), Share(cores=(1,)))


def task(key: str, *after: str) -> Any:
    return SimpleNamespace(key=key, after=after)


def submit(tasks: list[Any], monkeypatch: pytest.MonkeyPatch, perform: Any, shares: tuple[Share, ...] = SHARES) -> None:
    monkeypatch.setattr(local, "perform", perform)
    Local(Place(shares=shares)).submit(tasks, lambda event: None)


def never() -> bool:
    return False


def test_who_waits_for_nobody_comes_first_and_who_is_held_last() -> None:
    ready = Ready([task("b-again", "b", "dense"), task("a"), task("b"), task("c-again", "complete before")])
    order = []
    while (found := ready.next(never)) is not None:
        one, held = found
        order.append((one.key, held))
        if one.key == "a" and not held:
            ready.held(one)
        else:
            ready.ended(one)
    assert order == [("a", False), ("b", False), ("b-again", False), ("c-again", False), ("a", True)]


def test_none_is_begun_while_what_it_waits_for_goes_on() -> None:
    ready = Ready([task("a"), task("a-again", "a")])
    assert ready.next(never) is not None
    assert ready.next(lambda: True) is None  # would wait, and is told to stop


def test_a_run_begins_as_soon_as_its_pilot_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process goes on with a long run of equal images meanwhile."""
    begun = threading.Event()

    def perform(one: Any, *_: Any, **more: Any) -> bool:
        if one.key == "a-again":
            begun.set()
        elif one.key == "long":
            assert begun.wait(20)
        return True

    submit([task("long"), task("a"), task("a-again", "a")], monkeypatch, perform)
    assert begun.is_set()


@pytest.mark.parametrize("shares", [SHARES[:1], SHARES])
def test_a_run_that_somebody_else_does_is_waited_for_in_the_end(
    monkeypatch: pytest.MonkeyPatch, shares: tuple[Share, ...]
) -> None:
    """And what needs it begins after it."""
    order, lock = [], threading.Lock()

    def perform(one: Any, *_: Any, wait: bool, **more: Any) -> bool:
        with lock:
            order.append((one.key, wait))
        return one.key != "a" or wait

    submit([task("a"), task("a-again", "a"), task("b")], monkeypatch, perform, shares)
    assert sorted(order) == [("a", False), ("a", True), ("a-again", False), ("b", False)]
    assert order.index(("a-again", False)) > order.index(("a", True)) > order.index(("a", False))


def test_one_that_cannot_go_on_ends_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(one: Any, *_: Any, **more: Any) -> bool:
        raise UserError("no space")

    before = set(threading.enumerate())
    with pytest.raises(UserError, match="no space"):
        submit([task("a"), task("a-again", "a")], monkeypatch, perform)
    assert [thread for thread in threading.enumerate() if thread not in before and not _ends(thread)] == []


def _ends(thread: threading.Thread) -> bool:
    thread.join(20)
    return not thread.is_alive()
