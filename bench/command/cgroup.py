"""A control group (cgroup version 2) of a command's own: the kernel then counts the CPU time of everything in it.

It counts what ended and was waited for by nobody, what ended between two looks, and what left the process tree.
Needs no controller: `cpu.stat` is there without one. Making a group needs write access to the own one, which root has,
and users have below their systemd user manager (`systemd-run --user --scope COMMAND`).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path, PurePosixPath

from greenprune.bench.energy.usage.processes import content

PREFIX = "greenprune-"


class Group:
    """A group below the one that this process is in. Use `make`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, pid: int) -> None:
        """Move a process into the group; its later children are born there. Raises OSError."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def cpu_s(self) -> float:
        """User + system of all that were ever in the group, while they were. Raises OSError."""
        for line in content(f"{self.folder}/cpu.stat").splitlines():
            name, _, value = line.partition(b" ")
            if name == b"usage_usec":
                return int(value) / 1e6
        raise OSError(f"{self.folder}/cpu.stat: has no usage_usec")

    def pids(self) -> set[int]:
        """Of the living members, those of groups inside it included."""
        found: set[int] = set()
        for folder, _, _ in os.walk(self.folder):
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in content(f"{folder}/cgroup.procs").split()}
        return found

    def close(self) -> None:
        """Hand what still lives back to the parent group and remove this one; never raises."""
        for _ in range(3):
            for pid in self.pids():
                with contextlib.suppress(OSError):
                    (self.folder.parent / "cgroup.procs").write_text(str(pid))
            if remove(self.folder):
                return
            time.sleep(0.002)  # an ended member stays for a moment


def make(root: Path | None = None) -> Group | None:
    """A new group below that of this process, or below `root`; None where it may not be made."""
    parent = root or own_folder()
    if parent is None:
        return None
    for stale in parent.glob(f"{PREFIX}*"):  # of a meter that was killed
        if not os.path.exists(f"/proc/{stale.name.removeprefix(PREFIX)}"):
            remove(stale)
    folder = parent / f"{PREFIX}{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        group = Group(folder)
        group.cpu_s()
    except OSError:
        remove(folder)
        return None
    return group


def own_folder(mountinfo: str | None = None, membership: str | None = None) -> Path | None:
    """Where the version 2 group of this process is mounted; None where it is not.

    `mountinfo`, `membership`: what /proc/self/mountinfo and /proc/self/cgroup hold, for tests.
    """
    try:
        mounts = os.fsdecode(content("/proc/self/mountinfo")) if mountinfo is None else mountinfo
        groups = os.fsdecode(content("/proc/self/cgroup")) if membership is None else membership
    except OSError:
        return None
    path = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
    if path is None or "/.." in path:  # of another namespace
        return None
    for line in mounts.splitlines():
        fields, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            root, point = fields.split(" ")[3:5]
            with contextlib.suppress(ValueError):
                return Path(point.replace("\\040", " ")) / PurePosixPath(path).relative_to(root)
    return None


def remove(folder: Path) -> bool:
    """Remove a group and the empty ones in it; False while something lives in them."""
    for inner, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(inner)
    return not folder.exists()
