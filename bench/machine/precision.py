"""The number format that a device computes in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from greenprune.bench.machine.machine import cpu_name


def resolve_precision(device: torch.device, precision: str) -> str:
    """ "auto" means bfloat16 where the device computes in it, else float32.

    On a CPU that takes AMX, or an AMD processor with AVX-512's bfloat16 instructions, where a training step of ResNet-20
    takes 0.67 x the time of float32 (EPYC, batches of 64 and 128, one thread, interleaved; the script was not kept). On
    another processor that had these instructions and no AMX it took 1.13 x.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    amx, avx512 = (getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("amx_tile", "avx512_bf16"))
    return "bfloat16" if amx or (avx512 and cpu_name().startswith("AMD")) else "float32"


def autocast_for(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """A factory of autocast contexts (bf16), or of contexts that do nothing (float32)."""
    if resolve_precision(device, precision) == "bfloat16":
        return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext
