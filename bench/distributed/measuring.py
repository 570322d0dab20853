"""Who reads what of the energy of a run on several devices, and its energy as a whole.

Counters of a machine count for all of its ranks: the first rank of each node reads them, and all GPUs of the run there. What
is modelled is modelled from a process's own tree, by each rank for itself.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from greenprune.bench.distributed.rank import Rank
from greenprune.bench.distributed.team import collected, leave
from greenprune.bench.energy import EnergyMeter, Reading
from greenprune.bench.energy.beside import beside
from greenprune.bench.energy.node.ranks import LAUNCHERS
from greenprune.bench.energy.reading import Kind


def meter_of(
    rank: Rank | None,
    device: str,
    synchronise: Callable[[], None] | None,
    gpu_uuids: Sequence[str] = (),
    shared: str = "",
) -> EnergyMeter:
    """Of this process while its run trains. `gpu_uuids`, `shared`: as of `greenprune.bench.training.setup.metered`."""
    others: dict[str, Any] = {"synchronise": synchronise, "shared": shared or None}
    if rank is None:
        return EnergyMeter(device=device, gpu_uuids=gpu_uuids or None, **others)
    if rank.local_rank:
        return EnergyMeter(device="cpu", ranks="one_per_node", **others)
    environ = _without_ranks(os.environ)
    if not rank.shared.gpus:
        return EnergyMeter(device="cpu", environ=environ, **others)
    environ["CUDA_VISIBLE_DEVICES"] = ",".join(rank.shared.gpus)
    return EnergyMeter(device=None, gpu_uuids=gpu_uuids or None, environ=environ, **others)


@contextmanager
def alone(
    rank: Rank | None, meter: EnergyMeter, device: str, synchronise: Callable[[], None] | None, shared: str = ""
) -> Iterator[EnergyMeter]:
    """Inside, the rank that leads is alone with its own device: what it measures for the rest of the run.

    Args:
        meter: of the training; its power log is gone on with.
        shared: as of `meter_of`.
    """
    if rank is None:
        yield meter
        return
    leave(rank)
    environ = _without_ranks(os.environ)
    with EnergyMeter(device=device, synchronise=synchronise, environ=environ, shared=shared or None) as own:
        own.power_log.go_on(meter.power_log.columns(), meter.power_log.started_at_s)
        yield own


def added_up(rank: Rank | None, reading: Reading) -> tuple[Reading, tuple[Reading, ...]]:
    """The readings of all ranks of one stretch of time as one; and each of them, with none where there is one rank alone.

    All ranks have to ask.
    """
    if rank is None:
        return reading, ()
    node = socket.gethostname() if rank.nodes > 1 else ""
    told = json.dumps({"node": node, "reading": reading.model_dump(mode="json")}).encode()
    found = [json.loads(each) for each in collected(told)]
    parts = [(each["node"], Reading.model_validate(each["reading"])) for each in found]
    return beside(parts), tuple(part for _, part in parts)


def spent_everywhere(joules: Mapping[Kind, float]) -> float | None:
    """Joules that all ranks have spent, of the kind to decide by that the first of them knows.

    Args:
        joules: of this rank, by kind, the one to decide by first.
    """
    found = [json.loads(each) for each in collected(json.dumps(joules).encode())]
    return next((sum(each.get(kind, 0.0) for each in found) for kind in found[0]), None)


def _without_ranks(environ: Mapping[str, str]) -> dict[str, Any]:
    """As if torchrun had started nobody."""
    return {name: value for name, value in environ.items() if name not in (LAUNCHERS[0][0], *LAUNCHERS[0][1], "RANK")}
