"""Which GPUs CUDA would show this process: every form of CUDA_VISIBLE_DEVICES, without CUDA."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MIG = "MIG slices cannot be measured: NVML counts the energy of the whole card only"
MIG_REMEDY = "with nobody else on the card: sudo nvidia-smi -i <index> -mig 0"


@dataclass(frozen=True)
class Gpu:
    """A physical card as NVML numbers it, which is the order of the PCI bus."""

    index: int
    uuid: str  # "GPU-...", "" where the card does not tell
    name: str
    problem: str | None = None  # why it does not answer
    foreign: bool = False  # not this process's: it has no permission, and CUDA does not show it


@dataclass(frozen=True)
class Visible:
    """One entry of CUDA's list of devices: the card, or why it cannot be measured."""

    label: str  # "nvml:1", or the identifier that the user gave
    gpu: Gpu | None
    problem: str | None = None


def visible_gpus(value: str | None, gpus: Sequence[Gpu]) -> list[Visible]:
    """CUDA's devices 0, 1, ... for a value of CUDA_VISIBLE_DEVICES; None means that it is not set.

    As CUDA does: an empty value hides all; a list is read up to its first entry that is invalid or of another form than
    the first; a repeated entry hides all; a UUID may be cut short as long as it is unambiguous; a number is read up to
    its first character that is no digit.
    Rules: CUDA C++ Programming Guide, "CUDA Environment Variables", and the parser in torch.cuda.
    """
    gpus = [gpu for gpu in gpus if not gpu.foreign]
    if value is None:
        return [measurable(gpu) for gpu in gpus]
    entries = [entry.strip() for entry in value.split(",")]
    chosen: list[Visible] = []
    for entry in entries:
        found = _find(entry, gpus)
        if found is None or _form(entry) != _form(entries[0]):
            break
        if any(found.label == other.label for other in chosen):
            return []
        chosen.append(found)
    return chosen


def gpus_of_job(numbers: Sequence[int], value: str | None, gpus: Sequence[Gpu]) -> list[Visible] | None:
    """The cards of a batch job, all of its processes together; None: those that CUDA shows this process are all, or nobody
    can tell more.

    A device cgroup hides the cards of others, and may so give the job's own new numbers. `numbers` are the node's.
    CUDA_VISIBLE_DEVICES, the `value`, counts within the cgroup.
    """
    # A batch system that hands out slices numbers these, not cards.
    if len(numbers) <= len(visible_gpus(value, gpus)) or (value or "").startswith("MIG-"):
        return None
    own = {gpu.index: gpu for gpu in gpus if not gpu.foreign}
    if all(number in own for number in numbers):
        return [measurable(own[number]) for number in numbers]
    # Fewer than the node has: what this process may use is the job's.
    return [measurable(gpu) for gpu in own.values()] if len(own) <= max(numbers) else None


def order_is_certain(value: str | None, device_order: str | None, gpus: Sequence[Gpu]) -> bool:
    """Whether NVML's numbers are CUDA's. Unless told CUDA_DEVICE_ORDER=PCI_BUS_ID, CUDA puts the fastest card first."""
    by_number = value is None or re.match(r"\s*\d", value) is not None
    if not by_number:
        return True
    # CUDA does not count a card that does not answer, and then gives its number to the next.
    if any(gpu.problem and not gpu.foreign for gpu in gpus):
        return False
    return device_order == "PCI_BUS_ID" or len({gpu.name for gpu in gpus if not gpu.foreign}) < 2


def by_uuid(uuid: str, gpus: Sequence[Gpu]) -> Gpu | None:
    """The one card whose UUID begins with `uuid`, with or without "GPU-"; None when there is none or more than one."""
    wanted = "gpu-" + uuid.lower().removeprefix("gpu-")
    found = [gpu for gpu in gpus if gpu.uuid.lower().startswith(wanted)]
    return found[0] if len(found) == 1 else None


def _form(entry: str) -> str:
    return entry[:4] if entry.startswith(("GPU-", "MIG-")) else "number"


def _find(entry: str, gpus: Sequence[Gpu]) -> Visible | None:
    if entry.startswith("MIG-"):
        return Visible(f"nvml:{entry}", None, MIG)
    if entry.startswith("GPU-"):
        gpu = by_uuid(entry, gpus)
        return measurable(gpu) if gpu else None
    number = re.match(r"\d+", entry)
    if number is None:
        return None
    at = int(number.group())
    return measurable(gpus[at]) if at < len(gpus) else None


def measurable(gpu: Gpu) -> Visible:
    """The entry of a card, with why it cannot be measured where it does not answer."""
    if gpu.problem:
        return Visible(f"nvml:{gpu.index}", None, gpu.problem)
    return Visible(f"nvml:{gpu.index}", gpu)
