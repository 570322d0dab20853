"""Rounds of one block of every network: in eager PyTorch, and in each of the runtimes that serve."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import torch
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.errors import UserError
from greenprune.bench.export.program import quiet
from greenprune.bench.foreign import shortened
from greenprune.bench.inference.candidates import Candidate
from greenprune.bench.inference.pair import (
    LONGER,
    RATIO_CI,
    Subject,
    batch_of,
    beside,
    fewest_blocks,
    ready,
    warmed,
)
from greenprune.bench.inference.repeat import repeat_rounds
from greenprune.bench.inference.served import agreed
from greenprune.bench.machine.contention import contention, usage
from greenprune.bench.records.inference import Inference, Served
from greenprune.bench.records.joint import Joint, LeftOut, MeasuredNetwork
from greenprune.bench.runtimes.catalogue import described, find
from greenprune.bench.runtimes.names import EAGER
from greenprune.bench.runtimes.runtime import Session
from greenprune.bench.text import plural
from torch import Tensor, nn

Warm = Callable[[Tensor], Subject]
"""Makes one network ready on a batch; raises what the network or the runtime raises."""


@dataclass(frozen=True)
class LineUp:
    """Networks that one runtime has taken over.

    Attributes:
        runtime: its name.
        networks: by key.
        dense: the network that all are compared with.
        entries: what is noted of each network before it is measured; empty in eager PyTorch.
    """

    runtime: str
    networks: Mapping[str, Warm]
    dense: Warm
    entries: Mapping[str, Served] = field(default_factory=dict)


def in_eager(candidates: Sequence[Candidate], dense: nn.Module, precision: str) -> LineUp:
    """All of them in PyTorch as it is."""

    def warm(model: nn.Module, name: str) -> Warm:
        return lambda batch: ready(model, batch, name=name, precision=precision)

    networks = {c.record.key: warm(c.model, "inference") for c in candidates}
    return LineUp(EAGER, networks, warm(dense, "inference, dense"))


def in_runtime(name: str, candidates: Sequence[Candidate], dense: nn.Module, images: Tensor) -> LineUp:
    """Those that the runtime takes, in float32; what was wrong with the others is noted in their entries.

    Args:
        images: (N, C, H, W), on which they are compared with eager PyTorch.

    Raises:
        UserError: it does not run here, or does not take the dense network.
    """
    runtime, threads = find(name), torch.get_num_threads()
    if images.device.type not in runtime.devices:
        raise UserError(
            f"runtime {name}: runs on {', '.join(runtime.devices)} alone, and the networks are on {images.device.type}"
        )
    images = images.float().contiguous()

    def taken(model: nn.Module) -> tuple[Session, float]:
        try:
            session = runtime.prepare(model, images[:2], threads=threads)
            return session, agreed(session, model, images)
        except UserError:
            raise
        except Exception as e:  # of a runtime that is not ours; the others are measured all the same
            raise UserError(f"{type(e).__name__}: {shortened(str(e))}") from None

    def warm(session: Session, name: str) -> Warm:
        def subject(batch: Tensor) -> Subject:
            batch = batch.float().contiguous()
            with quiet():  # it may compile
                return warmed(partial(session.run, batch), batch, name=name)

        return subject

    try:
        reference, _ = taken(dense)
    except UserError as e:
        raise UserError(f"runtime {name}: the dense network: {e}") from None
    entry = Served(runtime=name, precision="float32", versions=described(name, runtime), threads=threads)
    networks, entries = {}, {}
    for candidate in candidates:
        key = candidate.record.key
        try:
            session, difference = taken(candidate.model)
        except UserError as e:
            entries[key] = entry.model_copy(update={"problem": str(e)})
            continue
        entries[key] = entry.model_copy(update={"difference": difference})
        networks[key] = warm(session, f"inference, {name}")
    return LineUp(name, networks, warm(reference, f"inference, dense, {name}"), entries)


def entered(found: Joint, line_up: LineUp) -> Joint:
    """`found` with an entry for each network in this runtime, before it is measured there."""
    networks = (
        n.model_copy(update={"served": (*n.served, line_up.entries[n.key])}) if n.key in line_up.entries else n
        for n in found.networks
    )
    return found.model_copy(update={"networks": tuple(networks)})


def refused(found: Joint, runtime: str, problem: str) -> Joint:
    """`found` where the entry of each network says why figures of this runtime are missing. Those that it has stay.

    Networks have no entry of eager PyTorch: `failed` says it.
    """
    if runtime == EAGER:
        why = LeftOut(key=found.reference, reason=f"nothing was measured: {problem}")
        return found.model_copy(update={"failed": (*found.failed, why)})
    networks = []
    for n in found.networks:
        entry = next((s for s in n.served if s.runtime == runtime), Served(runtime=runtime, precision="float32"))
        problems = dict.fromkeys(filter(None, (entry.problem, problem)))
        entry = entry.model_copy(update={"problem": "; ".join(problems)})
        networks.append(n.model_copy(update={"served": (*(s for s in n.served if s.runtime != runtime), entry)}))
    return found.model_copy(update={"networks": tuple(networks)})


def measured_at(
    size: int, found: Joint, line_up: LineUp, images: Tensor, meter: EnergyMeter, say: Callable[[str], None]
) -> Joint:
    """`found` with what is measured at one more batch size.

    Raises:
        UserError: the dense network or no other runs, or one of them ends the measuring.
    """
    where = "" if line_up.runtime == EAGER else f"{line_up.runtime}, "
    before = usage()
    with _told(f"{where}there is no batch of {plural(size, 'image')}"):
        batch = batch_of(images, size)
    subjects, failed = _subjects(line_up, batch)
    for entry in failed:
        say(f"left out: {entry.key}: {entry.reason}")
    if not subjects:
        why = f"; the first: {failed[0].key}: {failed[0].reason}" if failed else ""
        raise UserError(f"{where}no network runs at batch size {size}{why}")
    with _told(f"{where}the dense network does not run at batch size {size}"):
        dense = line_up.dense(batch)
    rounds = fewest_blocks(found.seconds, batch.device)
    networks = plural(len(subjects), "network")
    say(f"{where}batch {size}: {networks} and dense, {rounds} to {plural(LONGER * rounds, 'round')}")
    with _told(f"{where}a network that ran no longer does at batch size {size}"):
        measured = repeat_rounds(
            [partial(subject.block, meter) for subject in (*subjects.values(), dense)],
            lambda block: block.median_ms,
            ci=RATIO_CI,
            min_rounds=rounds,
            max_rounds=LONGER * rounds,
            seed=found.order_seed,
        )
    *sides, dense_side = measured.sides
    new = {
        key: beside(subject, side, dense, dense_side, interval)
        for (key, subject), side, interval in zip(subjects.items(), sides, measured.ratios, strict=True)
    }
    shared = contention(before, usage(), f"inference at {where}batch {size}") if batch.device.type == "cpu" else []
    narrow = (size,) if measured.reached and line_up.runtime == EAGER else ()
    return found.model_copy(
        update={
            "networks": _with(found, line_up.runtime, new),
            "failed": (*found.failed, *failed),
            "narrow": (*found.narrow, *narrow),
            "energy_sources": tuple(meter.describe()),
            "warnings": (*found.warnings, *shared),
            "finished_at": now(),
        }
    )


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever is raised inside, of a network or for lack of memory, as a UserError that begins with `what`."""
    try:
        yield
    except Exception as e:
        raise UserError(f"{what} ({type(e).__name__}: {shortened(str(e))})") from None


def _with(found: Joint, runtime: str, new: Mapping[str, Inference]) -> tuple[MeasuredNetwork, ...]:
    """The networks of `found` with what is new of them."""
    networks = []
    for network in found.networks:
        measured = new.get(network.key)
        if measured is not None and runtime == EAGER:
            network = network.model_copy(update={"inference": (*network.inference, measured)})
        elif measured is not None:
            served = (
                s.model_copy(update={"inference": (*s.inference, measured)}) if s.runtime == runtime else s
                for s in network.served
            )
            network = network.model_copy(update={"served": tuple(served)})
        networks.append(network)
    return tuple(networks)


def _subjects(line_up: LineUp, batch: Tensor) -> tuple[dict[str, Subject], list[LeftOut]]:
    """By key, the networks that are warm and ready, and those that do not run."""
    subjects, failed = {}, []
    where = "" if line_up.runtime == EAGER else f" in {line_up.runtime}"
    for key, warm in line_up.networks.items():
        try:
            subjects[key] = warm(batch)
        except Exception as e:  # whatever a user's network raises; the others are measured all the same
            why = f"does not run{where} at batch size {len(batch)} ({type(e).__name__}: {shortened(str(e))})"
            failed.append(LeftOut(key=key, reason=why))
    return subjects, failed


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
