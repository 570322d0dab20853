"""Which GPUs a meter counts: CUDA's numbering matched to NVML's cards by UUID."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from greenprune.bench.energy.nvml.errors import ERRORS, NO_PERMISSION, NvmlError
from greenprune.bench.energy.nvml.library import Card, Nvml
from greenprune.bench.energy.nvml.source import NvmlSource
from greenprune.bench.energy.nvml.visible import (
    MIG,
    MIG_REMEDY,
    Gpu,
    Visible,
    by_uuid,
    gpus_of_job,
    measurable,
    order_is_certain,
    visible_gpus,
)
from greenprune.bench.energy.source import Missing, SensorError, Source

ORDER_UNKNOWN = (
    "the GPUs differ, or one does not answer, and CUDA may number them otherwise than the driver: this may be the wrong one; "
    "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the GPU by its UUID"
)

NVML = "nvml"
"""The source that stands for all cards where none can be told apart; a card's is "nvml:0"."""

NO_DRIVER = (9, 12)  # NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_LIBRARY_NOT_FOUND

Found = tuple[Nvml | None, list[Source], list[dict[str, Any]]]


def find_gpus(
    device: str | None, uuids: Sequence[str] | None, environ: Mapping[str, str], job_gpus: Sequence[int] = ()
) -> Found:
    """The library, the sources, and for `EnergyMeter.describe` why there are none. Arguments as of `Place`.

    Each card stands for itself: one that is lost, in MIG mode or not supported is a source too, whose readings are
    invalid and say why, beside those of the healthy ones. So is a GPU that was asked for and is not there. Cards that
    belong to others (no permission) are left out, as CUDA leaves them out.

    Raises:
        ValueError: `device` is neither None nor "cpu" nor "cuda" nor "cuda:<number>".
    """
    wanted = re.fullmatch(r"cpu|cuda(?::(\d+))?", "cuda" if device is None else device)
    if wanted is None:
        raise ValueError(f'device = "{device}" is neither "cpu" nor "cuda" nor "cuda:<number>"')
    if device == "cpu" and not uuids:
        return None, [], [_absent("not used: the device is the CPU")]
    needed = device is not None or bool(uuids)
    try:
        library = Nvml()
        gpus = library.gpus()
    except NvmlError as e:
        # A driver that is there and does not answer is a GPU that goes unmeasured; without one there may be none.
        return _none(None, str(e), needed or e.code not in NO_DRIVER, e.remedy)
    foreign = [_absent(gpu.problem or "", name=f"nvml:{gpu.index}") for gpu in gpus if gpu.foreign]
    value, order = environ.get("CUDA_VISIBLE_DEVICES"), environ.get("CUDA_DEVICE_ORDER")
    warnings: list[str] = []
    if uuids:
        chosen = [_by_uuid(uuid, gpus) for uuid in uuids]
    elif (of_job := gpus_of_job(job_gpus, value, gpus)) is not None:
        chosen = of_job
    else:
        chosen = visible_gpus(value, gpus)
        if device is not None:
            number = int(wanted.group(1) or 0)
            chosen = chosen[number : number + 1]
        # With all cards counted their order does not matter; with some of them it decides which.
        if len(chosen) < len(gpus) - len(foreign) and not order_is_certain(value, order, gpus):
            warnings = [ORDER_UNKNOWN]
    if not chosen and foreign and len(foreign) == len(gpus):
        return _none(library, foreign[0]["reason"], needed, ERRORS[NO_PERMISSION][1])
    if not chosen:
        shown = "" if value is None else f' (CUDA_VISIBLE_DEVICES is "{value}")'
        return _none(library, f"CUDA shows no such GPU{shown}", needed)
    return library, [_open(library, entry, warnings) for entry in chosen], foreign


def _by_uuid(uuid: str, gpus: Sequence[Gpu]) -> Visible:
    gpu = by_uuid(uuid, gpus)
    if gpu is None:
        return Visible(f"nvml:{uuid}", None, "no GPU has this UUID")
    return measurable(gpu)


def _open(library: Nvml, entry: Visible, warnings: Sequence[str]) -> Source:
    if entry.gpu is None:
        return Missing(
            entry.label, entry.problem or "there is no such GPU", MIG_REMEDY if entry.problem == MIG else None
        )
    try:
        card = Card(library, entry.gpu)
        if (card.optional("nvmlDeviceGetMigMode") or [0])[0]:
            return Missing(entry.label, MIG, MIG_REMEDY)
        return NvmlSource(card, warnings)
    except SensorError as e:
        return Missing(entry.label, str(e), e.remedy)
    except Exception as e:  # whatever one card's driver answers, the others are measured
        return Missing(entry.label, f"{type(e).__name__}: {e}")


def _none(library: Nvml | None, reason: str, needed: bool, remedy: str | None = None) -> Found:
    if needed:
        return library, [Missing(NVML, reason, remedy)], []
    return library, [], [_absent(reason, remedy)]


def _absent(reason: str, remedy: str | None = None, name: str = NVML) -> dict[str, Any]:
    return {"source": name, "kind": "measured", "available": False, "reason": reason, "remedy": remedy}
