"""Tells a signal that was sent to the whole process group from one that was sent to this process alone.

The command is in the same group, as it would be without the meter: what a terminal, a shell or `kill -- -GROUP` sends, it
gets by itself, and handing it on would be a second one. What was sent to the meter alone it must get from the meter. The
kernel does not tell the receiver which it was. So a third member of the group holds all signals back, and is asked
whether it has got one too.

The same process, which is awake while the meter is stopped, wakes it when the command goes on: whoever stopped the command
by its process id continues it by that, and knows of no meter.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import struct
import time

_QUESTION, _TOLD_BYTES = b"?0000", 5  # a letter, and the process id that "w" watches
_STOPPED = "Tt"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_SETTLE_S = 0.002  # the members of a group get a signal one after the other
_WATCH_S = 0.05  # between two looks at a command that is stopped
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

    def wake_me_with(self, pid: int) -> None:
        """Before this process stops: to be continued as soon as the process `pid` is, or has ended. 0: no longer."""
        with contextlib.suppress(OSError):
            os.write(self._ask, b"w" + struct.pack("=i", pid))

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
            os.write(self._ask, _QUESTION)
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
    watched: int | None = None
    woken = False
    while os.getppid() == parent:
        if not select.select([asked], [], [], None if watched is None else _WATCH_S)[0]:
            if watched is not None and state_of(watched) not in _STOPPED and state_of(parent) in _STOPPED:
                woken = True
                os.kill(parent, signal.SIGCONT)
                watched = None
            continue
        told = os.read(asked, _TOLD_BYTES)
        if not told:
            return
        if told[:1] == b"w":
            watched = struct.unpack("=i", told[1:])[0] or None
            continue
        found: set[int] = {signal.SIGCONT} if woken else set()
        woken = False
        while (one := signal.sigtimedwait(everything, 0)) is not None:
            found.add(one.si_signo)
        os.write(answers, bytes([*found, 0]))


def state_of(pid: int) -> str:
    """One letter as in /proc/PID/stat, "X" for a process that is gone; "T" where there is no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return "T" if not os.path.exists("/proc/self/stat") else "X"


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
