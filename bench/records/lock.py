"""A lock that is a file, held by one process at a time, on a file system that several machines may share.

NFS keeps no promise about `flock`; that a file is created by one alone (`O_EXCL`), and so a folder, it does promise. Who
holds a lock touches its file now and then. A lock is over when its process is gone, which is known on the same machine, or
when it was not touched for long. How long that is, the file server's own clock says: the file's time is compared with that
of a file made beside it just then, so that clocks of machines may differ.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import psutil
from greenprune.bench.errors import UserError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

BEAT_S = 15.0
STALE_S = 180.0
"""A lock of another machine that was not touched for so long is over; twelve beats."""

POLL_S = 0.5
LONGEST = 4096  # bytes of a lock's file that are read


class Holder(BaseModel):
    """Who holds a lock; what its file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(max_length=255)
    machine: str = Field(max_length=255)  # of this start of this machine, and this container of it
    pid: int
    began: str = Field(max_length=40)  # when the process did, as its system counts; tells processes of one number apart
    token: str = Field(max_length=64)  # of this holding

    @property
    def here(self) -> bool:
        """Whether it is on this machine, so that its process can be looked at."""
        return self.machine == machine()

    def __str__(self) -> str:
        return f"process {self.pid}" + ("" if self.here else f" on {self.host}")


class Lock:
    """A lock that this process holds. To be had from `take`."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self.path, self.holder = path, holder

    @property
    def lost(self) -> bool:
        """Whether somebody took it over: this process gave no sign for too long."""
        found = _seen(self.path)
        return found is None or found.holder != self.holder

    def release(self) -> None:
        _beating.discard(self)
        found = _seen(self.path)
        if found is not None and found.holder == self.holder:
            _take_away(self.path, found)


class _Seen:
    """What was found in a lock's file. `holder` is None while it is being written, or where a stranger wrote it."""

    def __init__(self, text: bytes, status: os.stat_result) -> None:
        self.text, self.written_s = text, status.st_mtime
        self.identity = hashlib.sha256(text or repr((status.st_ino, status.st_mtime_ns)).encode()).hexdigest()[:16]
        try:
            self.holder: Holder | None = Holder.model_validate_json(text)
        except ValidationError:
            self.holder = None


def take(path: Path) -> Lock | Holder | None:
    """Take the lock `path`, or find who holds it (None: who does cannot be read).

    Raises:
        UserError: its file cannot be made or read.
    """
    for _ in range(100):
        mine = Holder(host=socket.gethostname(), machine=machine(), pid=os.getpid(), began=_began(os.getpid()) or "",
                      token=secrets.token_hex(8))  # fmt: skip
        try:
            number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            found = _seen(path)
            if found is None:
                continue
            if not _is_over(path, found):
                return found.holder
            _take_away(path, found)
            continue
        except OSError as e:
            raise UserError(f"{path}: cannot be written ({e.strerror}); delete it") from None
        with os.fdopen(number, "wb") as file:
            file.write(mine.model_dump_json().encode())
        lock = Lock(path, mine)
        _beating.add(lock)
        return lock
    raise UserError(f"{path}: cannot be taken: it comes and goes; is a clean-up running there?")


@contextlib.contextmanager
def holding(path: Path, waiting: Callable[[Holder | None], None] | None = None) -> Iterator[Lock]:
    """Hold the lock `path` inside, after waiting for who holds it, which `waiting` is told once.

    Raises:
        UserError: as of `take`.
    """
    told = False
    while not isinstance(found := take(path), Lock):
        if not told and waiting is not None:
            waiting(found)
        told = True
        time.sleep(POLL_S)
    try:
        yield found
    finally:
        found.release()


def holder_of(path: Path) -> Holder | None:
    """Who holds the lock `path`; None: nobody who is alive, or who can be named."""
    found = _seen(path)
    return None if found is None or _is_over(path, found) else found.holder


def is_held(path: Path) -> bool:
    """Whether somebody who is alive holds the lock `path`."""
    found = _seen(path)
    return found is not None and not _is_over(path, found)


def _seen(path: Path) -> _Seen | None:
    """What the file of a lock holds; None: there is none. Raises UserError: it is no file, or a link."""
    try:  # no link is followed: it could lead out of the folder, to a file of the user's own
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(number, "rb") as file:
            return _Seen(file.read(LONGEST) or b"", os.fstat(number))
    except FileNotFoundError:
        return None
    except OSError as e:
        raise UserError(f"{path}: is no lock that can be read ({e.strerror}); delete it") from None


def _is_over(path: Path, found: _Seen) -> bool:
    holder = found.holder
    if holder is not None and holder.here:
        return _began(holder.pid) != holder.began
    try:
        now_s = _server_s(path.parent)
    except OSError:  # nothing can be written there: this machine's clock has to do
        now_s = time.time()
    return now_s - found.written_s > STALE_S


def _take_away(path: Path, found: _Seen) -> None:
    """Delete the lock's file if it still is the one that was `found`. Of several who want to, one does.

    Who does so first makes a folder that is named after it; nobody else deletes this very file.
    """
    guard = path.with_name(f"{path.name}.{found.identity}.over")
    try:
        guard.mkdir()
    except FileExistsError:
        with contextlib.suppress(OSError):
            if _server_s(path.parent) - guard.stat().st_mtime > STALE_S:  # whoever made it is gone, too
                guard.rmdir()
        time.sleep(0.02)
        return
    except OSError as e:
        raise UserError(f"{path}: cannot be taken over ({e.strerror})") from None
    try:
        again = _seen(path)
        if again is not None and again.identity == found.identity:
            path.unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):
            guard.rmdir()


def _server_s(folder: Path) -> float:
    """The time in `folder` now, by the clock of whoever keeps its files."""
    probe = folder / f".clock.{secrets.token_hex(6)}.tmp"
    try:
        with probe.open("xb"):
            os.utime(probe)
            return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


@cache
def machine() -> str:
    """This machine since it was started, and within it the container: process numbers mean the same in it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return " ".join(parts)


def _began(pid: int) -> str | None:
    """When a process began, in a form that only compares equal for the same one; None: there is none that lives."""
    try:
        if sys.platform == "linux":  # unlike psutil's figure this one does not move when the clock is set
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return None if fields[0] in "ZX" else fields[19]
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except (OSError, psutil.Error):
        return None


class _Beating:
    """Touches the files of the locks that this process holds."""

    def __init__(self) -> None:
        self._locks: dict[str, Lock] = {}
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, lock: Lock) -> None:
        with self._guard:
            self._locks[lock.holder.token] = lock
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="locks", daemon=True)
                self._thread.start()

    def discard(self, lock: Lock) -> None:
        with self._guard:
            self._locks.pop(lock.holder.token, None)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            with self._guard:
                locks = list(self._locks.values())
            for lock in locks:
                with contextlib.suppress(OSError, UserError):
                    if not lock.lost:
                        os.utime(lock.path)

    def end(self) -> None:
        for lock in list(self._locks.values()):
            with contextlib.suppress(OSError, UserError):
                lock.release()


_beating = _Beating()
atexit.register(_beating.end)
