"""The NVIDIA cards that CUDA shows this process, each with the cores next to it: what several runs share out."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from greenprune.bench.energy.nvml.errors import NvmlError
from greenprune.bench.energy.nvml.gpus import ORDER_UNKNOWN
from greenprune.bench.energy.nvml.library import Nvml
from greenprune.bench.energy.nvml.visible import MIG, MIG_REMEDY, Gpu, order_is_certain, visible_gpus
from greenprune.bench.energy.source import with_remedy
from greenprune.bench.machine.cores import SYSFS, near_device

WORDS = 64  # of 64 cores each, that are asked for at most


@dataclass(frozen=True)
class Usable:
    """A whole card that CUDA can use and NVML can measure."""

    gpu: Gpu
    cores: tuple[int, ...] = ()  # next to it; empty: not known

    @property
    def label(self) -> str:
        """As in readings."""
        return f"nvml:{self.gpu.index}"


@dataclass(frozen=True)
class Cards:
    """What CUDA shows."""

    usable: tuple[Usable, ...] = ()
    unusable: tuple[tuple[str, str], ...] = ()  # "nvml:1", and why
    problem: str | None = None  # why no card can be told from another
    value: str | None = None  # of CUDA_VISIBLE_DEVICES


def cards_of(environ: Mapping[str, str], sysfs: Path = SYSFS) -> Cards:
    """The cards in the order of CUDA_VISIBLE_DEVICES in `environ`, all where it is not set.

    MIG slices are no cards: nothing tells the joules of two of them apart.
    """
    value = environ.get("CUDA_VISIBLE_DEVICES")
    library = None
    try:
        library = Nvml()
        gpus = library.gpus()
        shown = visible_gpus(value, gpus)
        own = [gpu for gpu in gpus if not gpu.foreign]
        if len(shown) < len(own) and not order_is_certain(value, environ.get("CUDA_DEVICE_ORDER"), gpus):
            return Cards(problem=ORDER_UNKNOWN, value=value)
        usable: list[Usable] = []
        unusable = []
        for entry in shown:
            if entry.gpu is None or in_mig_mode(library, entry.gpu):
                why = MIG if entry.gpu is not None else entry.problem or "there is no such GPU"
                unusable.append((entry.label, f"{why} ({MIG_REMEDY})" if why == MIG else why))
            else:
                usable.append(Usable(entry.gpu, cores_next_to(library, entry.gpu, sysfs)))
        return Cards(tuple(usable), tuple(unusable), value=value)
    except NvmlError as e:
        return Cards(problem=f"NVIDIA's driver does not tell them apart ({with_remedy(e)})", value=value)
    finally:
        if library is not None:
            library.close()


def in_mig_mode(library: Nvml, gpu: Gpu) -> bool:
    """Whether the card is divided; not where it does not know of such a mode."""
    with contextlib.suppress(Exception):
        return bool(library.call("nvmlDeviceGetMigMode", library.handle(gpu))[0])
    return False


def cores_next_to(library: Nvml, gpu: Gpu, sysfs: Path = SYSFS) -> tuple[int, ...]:
    """By the bus that the card is on, else as the driver tells; none where neither is known."""
    with contextlib.suppress(Exception):
        bus_id = library.call("nvmlDeviceGetPciInfo", library.handle(gpu)).busId
        found = near_device(bus_id.decode() if isinstance(bus_id, bytes) else bus_id, sysfs)
        if found:
            return found
    with contextlib.suppress(Exception):
        words = library.call("nvmlDeviceGetCpuAffinity", library.handle(gpu), WORDS)
        return tuple(64 * i + bit for i, word in enumerate(words) for bit in range(64) if word >> bit & 1)
    return ()
