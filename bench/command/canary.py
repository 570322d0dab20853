"""Tells a signal that was sent to the whole process group from one that was sent to this process alone.

The command is in the same group, as it would be without the meter: what a terminal, a shell or `kill -- -GROUP` sends, it
gets by itself, and handing it on would be a second one. What was sent to the meter alone it must get from the meter. The
kernel does not tell the receiver which it was. So a third member of the group holds all signals back, and is asked
whether it has got one too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import time

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_SETTLE_S = 0.002  # the members of a group get a signal one after the other
_ANSWER_S = 1.0  # longest wait for it; a canary that is gone or stopped says nothing


class Canary:
    """Make it before there are threads, with all signals blocked."""

    def __init__(self) -> None:
        asked, self._ask = os.pipe()
        self._answer, answers = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _sit(asked, answers, parent)
            finally:
                os._exit(0)
        os.close(asked)
        os.close(answers)
        self._got: set[int] = set()

    def got_too(self, number: int) -> bool:
        """Whether this signal, which has just arrived here, went to the whole group."""
        if number not in self._got:
            time.sleep(_SETTLE_S)
            self._got |= self._signals()
        if number in self._got:
            self._got.discard(number)
            return True
        return False

    def forget(self) -> None:
        """What has arrived so far is of no interest."""
        self._signals()
        self._got.clear()

    def close(self) -> None:
        """Ends it. Whoever waits for children must not have taken it before."""
        os.close(self._ask)
        os.close(self._answer)
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _signals(self) -> set[int]:
        try:
            os.write(self._ask, b"?")
            ready, _, _ = select.select([self._answer], [], [], _ANSWER_S)
            return {number for number in os.read(self._answer, 256) if number} if ready else set()
        except OSError:
            return set()


def _sit(asked: int, answers: int, parent: int) -> None:
    """Answer each question with the signals that have come since the last one, and a 0. Ends with the parent."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    close_all_but({asked, answers})  # an open end of somebody's pipe would keep that one waiting
    everything = signal.valid_signals()
    while os.getppid() == parent and os.read(asked, 1):
        found = []
        while (one := signal.sigtimedwait(everything, 0)) is not None:
            found.append(one.si_signo)
        os.write(answers, bytes([*found, 0]))


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor of this process but those."""
    for file in open_files():
        if file not in kept:
            with contextlib.suppress(OSError):
                os.close(file)


def open_files() -> list[int]:
    """Descriptors of this process; one of them is of the look itself and closed by now."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return [int(name) for name in os.listdir(folder)]
    return list(range(256))
