"""Signals that end a suite: each is answered by saving what runs, and one sentence."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator

from greenprune.bench.errors import UserError

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP")
"""Besides Ctrl-C. Batch systems send one of the first three some time before they kill."""

MARGIN_SHARE, LONGEST_MARGIN_S = 0.1, 120.0
"""How long before a time limit a suite stops, as a fraction of the limit, and at most."""

INTERRUPTED = "interrupted; what was finished is kept, start it again to go on"


class Stopped(KeyboardInterrupt):
    """The suite was asked to stop; the message says how."""


_asked: list[str] = []


def asked() -> str | None:
    """How the suite was asked to stop; None: it was not."""
    return _asked[0] if _asked else None


@contextlib.contextmanager
def stoppable(limit_s: float | None = None) -> Iterator[None]:
    """Inside, the first signal of `SIGNALS` raises `Stopped` in the main thread; so does the end of `limit_s`.

    `asked` tells of it too, wherever the exception may have gone.

    Args:
        limit_s: seconds from now after which everything must have ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        if not _asked:  # further ones change nothing: it is stopping
            _asked.append("time limit" if number == signal.SIGUSR1 and over.is_set() else signal.Signals(number).name)
            raise Stopped(_asked[0])

    over = threading.Event()
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # as under nohup
    before = {number: signal.signal(number, stop) for number in numbers}
    timer = None
    if limit_s is not None:

        def at_limit() -> None:
            over.set()
            os.kill(os.getpid(), signal.SIGUSR1)

        timer = threading.Timer(max(0.0, limit_s - min(LONGEST_MARGIN_S, MARGIN_SHARE * limit_s)), at_limit)
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        _asked.clear()
        if timer is not None:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Inside, Ctrl-C and the signals of `SIGNALS` end this process with one sentence: while nothing runs that has to be saved.

    Libraries that are being imported turn exceptions that come up meanwhile into errors of their own, or swallow them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        os.write(2, f"greenprune: {INTERRUPTED}\n".encode())
        os._exit(130)

    numbers = [getattr(signal, name) for name in ("SIGINT", *SIGNALS) if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def interruptible() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt, unless this program was started so that it ignores it."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def seconds_of(text: str) -> float:
    """A time limit as Slurm writes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]].

    Raises:
        UserError: it is none of these, or 0.
    """
    found = re.fullmatch(r"(?:(\d{1,5})-)?(\d{1,8})(?::(\d{1,2}))?(?::(\d{1,2}))?", text.strip())
    seconds = 0.0
    if found is not None:
        days, *rest = found.groups()
        parts = [int(part) for part in rest if part is not None]
        units = (3600, 60, 1) if days is not None or len(parts) == 3 else (60, 1)
        seconds = 86400 * int(days or 0) + sum(part * unit for part, unit in zip(parts, units, strict=False))
    if seconds <= 0:
        raise UserError(
            f"--time-limit {text}: is no time; allowed: minutes, minutes:seconds, hours:minutes:seconds or days-hours"
        )
    return seconds


STARTED_S = time.monotonic()
"""When this program started, about: a time limit counts from there."""
