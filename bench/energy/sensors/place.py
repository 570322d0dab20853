"""Where sources of energy are looked for, and what a look finds."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from platform import machine as processor
from typing import Any

from greenprune.bench.energy.reading import Kind
from greenprune.bench.energy.source import Source

SYSFS_VARIABLE = "GREENPRUNE_SYSFS"
"""In a container: where the host's /sys is mounted. Docker masks /sys/devices/virtual/powercap at its own place."""

CONTAINER_VARIABLES = (
    "container",  # LXC, systemd-nspawn, Podman
    "KUBERNETES_SERVICE_HOST",  # a pod, whose runtime need not leave a mark
    "APPTAINER_CONTAINER",
    "SINGULARITY_CONTAINER",
)

IN_CONTAINER = (
    f"in a container, show it the host's sensors: docker run -v /sys:/host/sys:ro -e {SYSFS_VARIABLE}=/host/sys ..."
)


@dataclass(frozen=True)
class Place:
    """A machine: its files, its platform, and whose GPUs count. Tests give a stand-in for each."""

    device: str | None = None  # "cpu", "cuda", "cuda:1", None for all GPUs
    gpu_uuids: Sequence[str] | None = None
    job_gpus: Sequence[int] = ()  # of all processes of the job here, as the node numbers them; empty: of this one alone
    shared: str | None = None  # why the machine is not this process's alone; None: it is
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    sysfs: Path = Path("/sys")
    powercap: Path = Path("/sys/class/powercap")
    root: Path = Path("/")  # of /proc, /dev and the marks of a container
    platform: str = sys.platform
    machine: str = field(default_factory=processor)

    @classmethod
    def here(cls, sysfs: Path | None = None, powercap: Path | None = None, **rest: Any) -> Place:
        """This machine. `sysfs` None: what the environment says, else /sys. `powercap` None: the one in `sysfs`."""
        environ: Mapping[str, str] = rest.get("environ", os.environ)
        sysfs = sysfs or Path(environ.get(SYSFS_VARIABLE) or "/sys")
        return cls(sysfs=sysfs, powercap=powercap or sysfs / "class" / "powercap", **rest)

    @property
    def in_container(self) -> bool:
        """Whether this is the inside of a container: Docker, Podman and systemd leave a mark, others in the environment."""
        if any(name in self.environ for name in CONTAINER_VARIABLES):
            return True
        return any((self.root / mark).exists() for mark in (".dockerenv", "run/.containerenv", "run/systemd/container"))


@dataclass(frozen=True)
class Found:
    """What a look for one kind of source found."""

    sources: Sequence[Source] = ()
    unusable: Sequence[dict[str, Any]] = ()  # rows of `EnergyMeter.describe`: it is there and cannot be used
    absent: Sequence[dict[str, Any]] = ()  # rows of `greenprune doctor` alone: this machine has none
    whole_sockets: Sequence[str] = ()  # names of the sources that contain the socket's cores and memory


def row(source: str, kind: Kind, reason: str, remedy: str | None = None, *, found: bool = True) -> dict[str, Any]:
    """Why a source is not used, as `EnergyMeter.describe` tells it. `found`: whether the sensor is there at all."""
    return {
        "source": source,
        "kind": kind,
        "available": False,
        "found": found,
        "reason": reason,
        "remedy": remedy,
    }


def absent(source: str, kind: Kind, reason: str, remedy: str | None = None) -> Found:
    """Nothing of this kind on this machine."""
    return Found(absent=[row(source, kind, reason, remedy, found=False)])
