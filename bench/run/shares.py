"""What each of several runs at a time has to itself: cores of the processor, and a GPU with the cores next to it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from greenprune.bench.energy.sensors.place import Place
from greenprune.bench.errors import UserError
from greenprune.bench.machine.cards import Cards, Usable, cards_of
from greenprune.bench.machine.cores import SYSFS, own_cores, split
from greenprune.bench.text import listed

Jobs = int | Literal["auto"]

EVEN = (
    "which cores are next to which GPU is not known here, or too few of those may be used: each run has an even share of the "
    "cores"
)
OTHERS = "other runs go on beside this one (--jobs), and it counts all of them"
"""Why, of runs on GPUs of their own, what counts a whole machine is left out."""

NOT_SHARED = "each run may use all cores: they cannot be shared out here, or are fewer than the runs at a time"


@dataclass(frozen=True)
class Share:
    """Of one of the runs that go on at the same time.

    Attributes:
        cores: to stay on; empty: any.
        gpu_uuids: of its own GPUs, "GPU-..."; empty: what CUDA shows.
        gpus: what they are called in readings, "nvml:3".
        near: whether its cores are those next to its GPUs.
    """

    cores: tuple[int, ...] = ()
    gpu_uuids: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    near: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """By which a process sees its own GPUs alone. A UUID means the same card whatever the numbering."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.gpu_uuids)} if self.gpu_uuids else {}

    @property
    def text(self) -> str:
        """In words, "on GPU nvml:3 and 16 cores next to it"."""
        cores = f"{len(self.cores)} of the cores" if self.cores else "any of the cores"
        if not self.gpus:
            return f"on {cores}"
        several = len(self.gpus) > 1
        near = f"{len(self.cores)} cores next to {'them' if several else 'it'}" if self.near else cores
        named = listed([f"{gpu} ({uuid})" for gpu, uuid in zip(self.gpus, self.gpu_uuids, strict=True)])
        return f"on GPU{'s' if several else ''} {named} and {near}"


ALONE = Share()
"""Of a run that takes what there is."""


@dataclass(frozen=True)
class Shares:
    """One share for each run at a time, and what a reader has to know of how they were made, a sentence each."""

    each: tuple[Share, ...] = (ALONE,)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.each)


def shares_of(
    jobs: Jobs, device: str, environ: Mapping[str, str] = os.environ, kind: str | None = None, gpus: int = 1
) -> Shares:
    """What each of `jobs` runs at a time has to itself; one alone takes what there is.

    On CUDA each has a GPU of its own, of those that CUDA_VISIBLE_DEVICES shows; "auto" means as many runs as there are
    such GPUs, or as they are enough for. On the CPU "auto" means one run: several disturb each other's joules.

    Args:
        device: "cpu" or "cuda".
        kind: name of the GPU that CUDA puts first; None: the first that NVML shows.
        gpus: of each run.

    Raises:
        UserError: more runs than GPUs or cores, or GPUs that cannot be told apart.
    """
    if jobs == 1 or (jobs == "auto" and device == "cpu"):
        return Shares()
    if isinstance(jobs, int) and jobs < 1:
        raise UserError(f"--jobs {jobs}: allowed is auto, or an integer at least 1")
    cores, sysfs = own_cores(), Place.here(environ=environ).sysfs
    if device != "cpu":
        return of_cards(jobs, cards_of(environ, sysfs), cores or (), sysfs, kind, gpus)
    if cores is None:
        raise UserError(f"--jobs {jobs}: this system cannot keep processes to cores of their own; allowed here: 1")
    if int(jobs) > len(cores):
        raise UserError(f"--jobs {jobs}: allowed is 1 to {len(cores)}, the number of cores")
    return Shares(tuple(Share(cores=own) for own in split(cores, int(jobs), sysfs)))


def of_cards(
    jobs: Jobs, found: Cards, cores: Sequence[int], sysfs: Path = SYSFS, kind: str | None = None, gpus: int = 1
) -> Shares:
    """`gpus` cards for each of `jobs` runs, the first of those that can be used. Arguments and errors as of `shares_of`.

    All are of one kind: which run gets which card is chance, and must not decide what it takes.
    """
    own = "a GPU" if gpus == 1 else f"{gpus} GPUs"
    if found.problem is not None:
        if jobs == "auto":
            return Shares(notes=(f"one run at a time: {found.problem}",))
        raise UserError(f"--jobs {jobs}: each run needs {own} of its own, and {found.problem}; allowed: 1")
    usable, left_out = of_one_kind(found, kind)
    if jobs == "auto":
        if len(usable) < gpus or (len(usable) < 2 * gpus and not left_out):
            return Shares(notes=left_out)
        if len(usable) < 2 * gpus:
            return Shares((_of(usable[:gpus]),), left_out)
        jobs = len(usable) // gpus
    most = len(usable) // gpus
    if jobs > most:
        shown = "" if found.value is None else f' (CUDA_VISIBLE_DEVICES is "{found.value}")'
        count = len(usable)
        there = {0: "is no GPU", 1: "is 1 GPU"}.get(count, f"are {count} GPUs")
        raise UserError(
            f"--jobs {jobs}: each run needs {own} of its own, and there {there} to share out{shown}"
            f"{''.join(f'; {sentence}' for sentence in left_out)}; allowed: "
            f"{f'1 to {most}, or auto' if most > 1 else '1'}"
        )
    starts = range(0, jobs * gpus, gpus)
    each = [_of(usable[at : at + gpus]) for at in starts]
    near = near_cards(usable[: jobs * gpus], cores, sysfs)
    if near is not None:
        of_each = [tuple(sorted(core for part in near[at : at + gpus] for core in part)) for at in starts]
        return Shares(_with(each, of_each, near=True), left_out)
    if len(cores) < jobs:
        return Shares(tuple(each), (*left_out, NOT_SHARED))
    return Shares(_with(each, split(cores, jobs, sysfs), near=False), (*left_out, EVEN))


def of_one_kind(found: Cards, kind: str | None) -> tuple[list[Usable], tuple[str, ...]]:
    """The cards called like the first one, and why the others are left out, a sentence each."""
    names = [card.gpu.name for card in found.usable]
    first = kind if kind in names else next(iter(names), "")
    others = tuple(
        f"{card.label} is left out: it is a {card.gpu.name}, and the runs of a suite go on one kind, {first}"
        for card in found.usable
        if card.gpu.name != first
    )
    left_out = tuple(f"{label} is left out: {problem}" for label, problem in found.unusable)
    return [card for card in found.usable if card.gpu.name == first], (*left_out, *others)


def _of(cards: Sequence[Usable]) -> Share:
    return Share(gpu_uuids=tuple(card.gpu.uuid for card in cards), gpus=tuple(card.label for card in cards))


def _with(shares: Sequence[Share], cores: Sequence[tuple[int, ...]], *, near: bool) -> tuple[Share, ...]:
    return tuple(replace(share, cores=own, near=near) for share, own in zip(shares, cores, strict=True))


def near_cards(cards: Sequence[Usable], cores: Sequence[int], sysfs: Path = SYSFS) -> list[tuple[int, ...]] | None:
    """For each card, its part of the cores next to it, which it shares with the other cards there.

    None where they are not known for every card, overlap only in part, or are fewer than the cards there.

    Args:
        cores: that may be used.
    """
    allowed = set(cores)
    groups: dict[frozenset[int], list[int]] = defaultdict(list)
    for at, card in enumerate(cards):
        groups[frozenset(allowed & set(card.cores))].append(at)
    if sum(map(len, groups)) != len(frozenset().union(*groups)):
        return None
    if any(len(near) < len(members) for near, members in groups.items()):
        return None
    found: dict[int, tuple[int, ...]] = {}
    for near, members in groups.items():
        found |= dict(zip(members, split(sorted(near), len(members), sysfs), strict=True))
    return [found[at] for at in range(len(cards))]
