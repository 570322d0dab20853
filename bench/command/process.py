"""Run a command so that it and whoever looks at it see no difference to running it alone.

It inherits everything: descriptors, terminal, process group, limits, signals that are ignored. Signals that reach this
process alone are handed on, those of the whole group are not (`canary`). When the command stops, this process stops;
when it is continued, so is the command. Descendants whose parent has ended become children of this process and are
waited for as they end.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence

from greenprune.bench.command.canary import Canary, open_files, state_of

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # <linux/prctl.h>
_OWN_BUSINESS = ("SIGKILL", "SIGSTOP", "SIGCHLD", "SIGTTIN", "SIGTTOU", "SIGPIPE", "SIGXFSZ")  # no handler for these
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")  # a handler in Python would loop
_RESET_BY_PYTHON = ("SIGPIPE", "SIGXFSZ")  # the interpreter ignores them, a program expects them as they were
_STOPS = {getattr(signal, name) for name in ("SIGTSTP", "SIGTTIN", "SIGTTOU") if hasattr(signal, name)}


def keep_standard_numbers_free() -> None:
    """Where standard input, output or error is closed, take its number, so that no other file gets it.

    Files of this process would be taken for the stream. The command does not inherit what is put there: it finds the
    stream closed, as it would alone.
    """
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(file)


class EndedEarlyError(Exception):
    """A signal has ended the command before it was started; `code` is as of `WrappedCommand.wait`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"ended before it was started: {code}")
        self.code = code


class WrappedCommand:
    """Made in the main thread and before there are others: it forks. Use as a context; then `start` and `wait`."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._reaped_s = 0.0
        self._status: int | None = None

    def __enter__(self) -> WrappedCommand:
        keep_standard_numbers_free()
        self._kept = contextlib.ExitStack()
        try:
            self._kept.enter_context(_orphans_adopted())
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                self._kept.enter_context(self._handlers())
                self._canary = Canary()
                self._kept.callback(self._canary.close)
                self._fork(blocked)
                self._kept.callback(self._put_down)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        except BaseException:
            self._kept.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    @property
    def canary_pid(self) -> int:
        return self._canary.pid

    def reaped_s(self) -> float:
        """CPU time of all that was waited for here, with what they had waited for themselves."""
        return self._reaped_s

    def start(self) -> None:
        """Let it go. Raises OSError when it cannot be executed."""
        self._canary.forget()
        with contextlib.suppress(BrokenPipeError):  # a signal has ended it already
            os.write(self._go, b"!")
        with os.fdopen(self._failed, "rb") as failed:
            problem = failed.read()  # ends when the command takes the place of the child
        if problem:
            number = int(problem)
            raise OSError(number, os.strerror(number), self._command[0])

    def release(self) -> None:
        """Let go of all descriptors that the command has inherited, standard error excepted: whoever reads from the
        command or writes to it sees it end as if it were alone. For a process that is there for the command only."""
        nothing = os.open(os.devnull, os.O_RDWR)
        for file in open_files():
            with contextlib.suppress(OSError):
                if file in (0, 1):
                    os.dup2(nothing, file)
                elif file > 2 and os.get_inheritable(file):
                    os.close(file)
        os.close(nothing)

    def rest(self, seconds: float) -> None:
        """Sleep while there is no command yet. Raises EndedEarlyError when a signal says that there shall be none."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            select.select([self._woken], [], [], left_s)
            self._hand_on()
            self._reap()
            if self._status is not None:
                raise EndedEarlyError(os.waitstatus_to_exitcode(self._status))

    def wait(self, look: Callable[[], float | None] = lambda: None) -> int:
        """Until it has ended; returns its status as `os.waitstatus_to_exitcode` does: -n for signal n.

        `look` is called at once and whenever the seconds that it returned have passed; None: not again.
        """
        next_s = time.monotonic()
        due: float | None = next_s
        while True:
            self._reap()
            if self._status is not None:
                return os.waitstatus_to_exitcode(self._status)
            if due is not None and time.monotonic() >= due:
                pause_s = look()
                due = None if pause_s is None else time.monotonic() + pause_s
            timeout_s = None if due is None else max(0.0, due - time.monotonic())
            with contextlib.suppress(InterruptedError):
                select.select([self._woken], [], [], timeout_s)
            self._hand_on()

    @contextlib.contextmanager
    def _handlers(self) -> Iterator[None]:
        """Handlers that do nothing: which signals came is read from the pipe that Python writes their numbers to.

        They are no SIG_IGN, which the command would inherit; and a command that does not ignore what this process was
        told to ignore gets it.
        """
        left = {getattr(signal, name) for name in (*_OWN_BUSINESS, *_FAULTS) if hasattr(signal, name)}
        handled = [number for number in signal.valid_signals() if number not in left]
        self._woken, tell = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(tell, False)
        self._before = {number: signal.signal(number, _nothing) for number in [*handled, signal.SIGCHLD]}
        wakeup = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in self._before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            os.close(tell)
            os.close(self._woken)

    def _fork(self, blocked: set[signal.Signals | int]) -> None:
        going, self._go = os.pipe()
        self._failed, failing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._go)
                os.close(self._failed)
                self._become(going, failing, blocked)
            finally:
                os._exit(127)
        os.close(going)
        os.close(failing)

    def _become(self, going: int, failing: int, blocked: set[signal.Signals | int]) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if handler == signal.SIG_IGN else signal.SIG_DFL)
        for name in _RESET_BY_PYTHON:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if os.read(going, 1):
            os.close(going)
            os.write(failing, str(execute(self._command)).encode())

    def _reap(self) -> None:
        """Wait for whatever has ended; stop with the command."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                if pid == self.pid:
                    self._stop(os.WSTOPSIG(status))
                continue
            self._reaped_s += used.ru_utime + used.ru_stime
            if pid == self.pid:
                self._status = status

    def _stop(self, number: int) -> None:
        """Stop as the command has, so that the shell sees it, and go on with it: the shell's SIGCONT goes to the group, or
        is handed on; where somebody continues or ends the command alone, the canary wakes this process."""
        self._hand_on()  # it may have been continued since
        if state_of(self.pid) not in "Tt":
            return
        self._canary.wake_me_with(self.pid)
        if number in _STOPS:
            before = signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            signal.signal(number, before)
        else:
            os.kill(os.getpid(), signal.SIGSTOP)
        self._canary.wake_me_with(0)

    def _hand_on(self) -> None:
        try:
            numbers = os.read(self._woken, 4096)
        except BlockingIOError:
            return
        for number in dict.fromkeys(numbers):
            if number != signal.SIGCHLD and self._status is None and not self._canary.got_too(number):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def _put_down(self) -> None:
        """A child that never started has nothing to do; a command that runs on (an error here) is left alone."""
        os.close(self._go)
        self._reap()


def execute(command: Sequence[str]) -> int:
    """Become `command`, looked for as a shell does; returns the error number when that is impossible."""
    name, found = command[0], errno.ENOENT
    if not name:
        return found
    folders = [""] if "/" in name else [os.fsdecode(folder) or "." for folder in os.get_exec_path()]
    for folder in folders:
        path = os.path.join(folder, name)
        try:
            os.execv(path, list(command))
        except OSError as e:
            if e.errno == errno.ENOEXEC and not _is_binary(path):  # a script that names no interpreter
                with contextlib.suppress(OSError):
                    os.execv("/bin/sh", ["/bin/sh", path, *command[1:]])
            if e.errno not in (errno.ENOENT, errno.ENOTDIR):
                found = e.errno or found
                if e.errno != errno.EACCES:
                    break
            elif "/" not in name and os.path.exists(path):  # its interpreter is not there
                found = e.errno or found
                break
    return found


def die_as(number: int) -> None:
    """End this process by signal `number`, without another core dump, so that whoever waits sees how the command ended.

    Returns only if the signal does not end a process.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: where cores go to a program, the limit does not count
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)  # not for SIGKILL
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


def _nothing(*_: object) -> None:
    pass


def _is_binary(path: str) -> bool:
    with open(path, "rb") as file:
        return b"\0" in file.read(256).partition(b"\n")[0]


@contextlib.contextmanager
def _orphans_adopted() -> Iterator[None]:
    """On Linux, descendants whose parent has ended become children of this process, and so stay in its tree."""
    before = ctypes.c_int()
    try:
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):  # no Linux: there they leave the tree
        yield
        return
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)
