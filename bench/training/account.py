"""A training of several ranks as one: what each of them read of its energy, added up."""

from __future__ import annotations

import json
from dataclasses import replace

import torch
from greenprune.bench.distributed.measuring import added_up
from greenprune.bench.distributed.rank import Rank
from greenprune.bench.distributed.team import collected
from greenprune.bench.energy import Reading
from greenprune.bench.records.record import RankPart
from greenprune.bench.training.loop import Trained


def of_all_ranks(rank: Rank | None, trained: Trained, device: torch.device) -> tuple[Trained, tuple[RankPart, ...]]:
    """The training with the energy of all ranks, and the part of each; as it is where there is one alone.

    Samples and multiply-accumulates are those of all ranks already, time is that of the first.
    """
    if rank is None:
        return trained, ()
    energy, parts = added_up(rank, trained.energy)
    redone, _ = added_up(rank, trained.redone or Reading(name="redone", duration_s=0.0))
    told = {"node": rank.node, "leads": rank.local_rank == 0, "device": _name(device), "ledger": trained.ledger.state()}
    ranks = [json.loads(each) for each in collected(json.dumps(told).encode())]
    trained.ledger.add_energy(
        [(each["ledger"], each["leads"]) for number, each in enumerate(ranks) if number != rank.rank]
    )
    whole = replace(trained, energy=energy, redone=None if trained.redone is None else redone)
    return whole, tuple(
        RankPart(rank=number, node=each["node"], device=each["device"], energy=part)
        for number, (each, part) in enumerate(zip(ranks, parts, strict=True))
    )


def _name(device: torch.device) -> str:
    if device.type != "cuda":
        return f"{torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name(device)} ({torch.cuda.get_device_properties(device).uuid})"
