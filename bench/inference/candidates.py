"""The networks of a suite's finished runs, loaded and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from greenprune.bench.data.reference import brief
from greenprune.bench.errors import UserError
from greenprune.bench.records.joint import LeftOut
from greenprune.bench.records.load import changed_files, read_record
from greenprune.bench.records.record import RECORD_FILE, Record
from greenprune.bench.records.store import about_stored, load_model
from greenprune.methods import count_macs
from torch import nn


@dataclass(frozen=True)
class Candidate:
    """A finished run with its network, on the device."""

    record: Record
    model: nn.Module


def finished(folder: Path) -> tuple[list[Record], list[LeftOut]]:
    """The records of a suite's finished runs in the order of their keys, and those that cannot be read.

    Raises:
        UserError: there is none.
    """
    paths = sorted(folder.glob(f"*/{RECORD_FILE}"))
    records, left_out = [], []
    for path in paths:
        try:
            record = read_record(path)
        except UserError as e:
            left_out.append(LeftOut(key=path.parent.name, reason=str(e)))
            continue
        if record.status == "done":
            records.append(record.model_copy(update={"key": path.parent.name}))
    if not records:
        raise UserError(
            f"{folder}: holds no finished run; allowed: the folder of one suite, such as results/quickstart"
        )
    return records, left_out


def of_seeds(records: Sequence[Record], seeds: Sequence[int] | None, folder: Path) -> list[Record]:
    """Those of these seeds; None: all. Raises UserError where one of the seeds has no run."""
    there = sorted({record.seed for record in records})
    missing = [seed for seed in seeds or () if seed not in there]
    if missing:
        raise UserError(f"--seeds {missing[0]}: {folder} has no run of it; allowed: {', '.join(map(str, there))}")
    return [record for record in records if seeds is None or record.seed in seeds]


def dense_of(records: Sequence[Record], folder: Path, trust: bool | tuple[str, ...]) -> Candidate:
    """The dense run of the lowest seed whose network is what its record says. Raises UserError."""
    problems = []
    for record in sorted((r for r in records if r.method_name == "dense"), key=lambda r: (r.seed, r.key)):
        try:
            return Candidate(record, network_of(record, folder, trust))
        except UserError as e:
            problems.append(str(e))
    why = problems[0] if problems else "no dense run is finished; run the suite with its dense method"
    raise UserError(f"{folder}: there is no dense network to compare with: {why}")


def network_of(record: Record, folder: Path, trust: bool | tuple[str, ...]) -> nn.Module:
    """The network of a run, if it is what its record says. Raises UserError."""
    if wrong := changed_files(record, folder / record.key):
        raise UserError(f"{folder / record.key}: {wrong[0]}; restore it, or run it again")
    assert record.cost is not None  # it is done
    try:
        model = load_model(folder / record.key, trust=trust)
        macs = count_macs(model, torch.zeros(2, *about_stored(folder / record.key).input_shape))
    except UserError:
        raise
    except Exception as e:  # whatever a user's network raises; the others are measured all the same
        raise UserError(f"{folder / record.key}: its stored network does not run ({brief(e)})") from None
    if record.cost.sample_macs is None and macs != record.cost.macs:
        raise UserError(
            f"{folder / record.key}: its stored network has {macs} MACs and its record says {record.cost.macs}; "
            "run it again"
        )
    return model


def placed(model: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """`model` where, and in the memory format in which, it is measured."""
    model = model.to(device)
    return model.to(memory_format=torch.channels_last) if channels_last else model  # type: ignore[call-overload]
