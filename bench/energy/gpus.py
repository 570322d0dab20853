"""Which GPUs a meter counts: CUDA's numbering matched to NVML's cards by UUID."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from greenprune.bench.energy.nvml import NvmlSource
from greenprune.bench.energy.nvml_library import Card, Nvml, NvmlError
from greenprune.bench.energy.source import Missing, SensorError, Source
from greenprune.bench.energy.visible import MIG, Gpu, Visible, by_uuid, order_is_certain, visible_gpus

ORDER_UNKNOWN = (
    "the GPUs differ and CUDA may number them otherwise than the driver: this may be the wrong one; "
    "set CUDA_DEVICE_ORDER=PCI_BUS_ID"
)

_DRIVER = "with an NVIDIA GPU: install its driver until nvidia-smi lists it; in a container, start that with --gpus all"
_REMEDIES = {4: "ask for access to /dev/nvidia*", 9: _DRIVER, 12: _DRIVER}
"""By NVML's error code."""

Found = tuple[Nvml | None, list[Source], list[dict[str, Any]]]


def find_gpus(device: str | None, uuids: Sequence[str] | None, environ: Mapping[str, str]) -> Found:
    """The library, the sources, and for `EnergyMeter.describe` why there are none. Arguments as of `EnergyMeter`.

    A GPU that was asked for and cannot be measured is a source too, one whose readings are invalid and say why.

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
        return _none(None, str(e), needed, _REMEDIES.get(e.code))
    value, order = environ.get("CUDA_VISIBLE_DEVICES"), environ.get("CUDA_DEVICE_ORDER")
    warnings: list[str] = []
    if uuids:
        chosen = [_by_uuid(uuid, gpus) for uuid in uuids]
    else:
        chosen = visible_gpus(value, gpus)
        if device is not None:
            number = int(wanted.group(1) or 0)
            chosen = chosen[number : number + 1]
        # With all cards counted their order does not matter; with some of them it decides which.
        if len(chosen) < len(gpus) and not order_is_certain(value, order, gpus):
            warnings = [ORDER_UNKNOWN]
    if not chosen:
        shown = "" if value is None else f' (CUDA_VISIBLE_DEVICES is "{value}")'
        return _none(library, f"CUDA shows no such GPU{shown}", needed)
    return library, [_open(library, entry, warnings) for entry in chosen], []


def _by_uuid(uuid: str, gpus: Sequence[Gpu]) -> Visible:
    gpu = by_uuid(uuid, gpus)
    return Visible(f"nvml:{gpu.index}", gpu) if gpu else Visible(f"nvml:{uuid}", None, "no GPU has this UUID")


def _open(library: Nvml, entry: Visible, warnings: Sequence[str]) -> Source:
    if entry.gpu is None:
        return Missing(entry.label, entry.problem or "there is no such GPU")
    try:
        card = Card(library, entry.gpu)
        if (card.optional("nvmlDeviceGetMigMode") or [0])[0]:
            return Missing(entry.label, MIG)
        return NvmlSource(card, warnings)
    except SensorError as e:
        return Missing(entry.label, str(e))


def _none(library: Nvml | None, reason: str, needed: bool, remedy: str | None = None) -> Found:
    if needed:
        return library, [Missing("nvml", reason, remedy)], []
    return library, [], [_absent(reason, remedy)]


def _absent(reason: str, remedy: str | None = None) -> dict[str, Any]:
    return {"source": "nvml", "kind": "measured", "available": False, "reason": reason, "remedy": remedy}
