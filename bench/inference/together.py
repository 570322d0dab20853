"""Measure all final networks of a suite in a process, side by side with dense. Started by `greenprune.bench.run.side_by_side`.

    run folders -> load_model -> for each batch size: rounds of one block of every network -> inference.json

Figures of different runs were measured at different times, on a machine that may have been differently busy; these were
measured at the same time.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
from greenprune.bench.data.batches import evaluation_batches
from greenprune.bench.data.load import load_again
from greenprune.bench.data.options import DataOptions
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened, visible
from greenprune.bench.inference.job import JointJob
from greenprune.bench.inference.pair import LONGER, RATIO_CI, Subject, batch_of, beside, fewest_blocks, ready
from greenprune.bench.inference.repeat import repeat_rounds
from greenprune.bench.machine.contention import contention, usage
from greenprune.bench.machine.machine import describe_machine, describe_versions
from greenprune.bench.records.folder import locked
from greenprune.bench.records.joint import (
    Joint,
    LeftOut,
    MeasuredNetwork,
    joint_file,
    joint_files,
    read_joint,
    write_joint,
)
from greenprune.bench.records.load import changed_files, read_record
from greenprune.bench.records.record import RECORD_FILE, Record
from greenprune.bench.records.store import as_trained, load_model
from greenprune.bench.terminal import complain
from greenprune.methods import count_macs
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn

IMAGES = 256  # of the test set, as in a run


class Settings(BaseModel):
    """What of the settings in a dense run's record decides how networks are measured."""

    dataset: str
    data: DataOptions | None
    model: str
    device: Literal["cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    channels_last: bool
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...]
    threads: Annotated[int, Field(ge=1)] | None

    @classmethod
    def of(cls, record: Record, job: JointJob, folder: Path) -> Settings:
        """Raises UserError: the record has none of it, or something else."""
        parts = (record.settings.get(name) for name in ("training", "measurement"))
        training, measurement = (part if isinstance(part, dict) else {} for part in parts)
        try:
            return cls.model_validate({
                "dataset": record.settings.get("dataset"),
                "data": _data_options(record),
                "model": record.settings.get("model"),
                "device": (job.device or str(record.settings.get("device"))).partition(":")[0],
                "precision": training.get("precision"),
                "channels_last": training.get("channels_last"),
                "seconds": job.seconds or measurement.get("inference_seconds"),
                "batch_sizes": job.batch_sizes or measurement.get("inference_batch_sizes"),
                "threads": job.threads or record.machine.get("threads"),
            })  # fmt: skip
        except ValidationError as e:
            first = e.errors()[0]
            raise UserError(
                f"{folder / record.key}: its settings have no usable {first['loc'][0]} ({first['msg']}); run it again"
            ) from None


def _data_options(record: Record) -> DataOptions | None:
    """Raises ValidationError."""
    stored = record.settings.get("data")
    return None if stored is None else DataOptions.model_validate_json(json.dumps(stored))


@dataclass(frozen=True)
class Candidate:
    """A finished run with its network, on the device."""

    record: Record
    model: nn.Module


def main(argv: list[str]) -> int:
    try:
        measure(JointJob.model_validate_json(argv[0]), say=lambda line: print(visible(line), flush=True))
    except UserError as e:
        complain(str(e))
        return 2
    except KeyboardInterrupt:
        return 130  # who started this one says so
    return 0


def measure(job: JointJob, say: Callable[[str], None]) -> list[Joint]:
    """Measure and store, the networks of each data set and dense network together.

    What was measured before an interruption is stored too.

    Raises:
        UserError: there is nothing to measure or nothing to compare with, or the folder is in use or not writable.
    """
    folder = Path(job.folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such results folder; allowed: a suite's, such as results/quickstart")
    try:
        with locked(folder):
            return _measure(job, folder, say)
    except OSError as e:
        raise UserError(f"{folder}: cannot be written ({e.strerror})") from None


def _measure(job: JointJob, folder: Path, say: Callable[[str], None]) -> list[Joint]:
    records, left_out = finished(folder, job.seeds)
    references, problems = {}, []
    for pair in dict.fromkeys(record.pair for record in records):
        own = [record for record in records if record.pair == pair]
        try:
            references[pair] = _reference(own, folder, job.trust)
        except UserError as e:
            problems.append(str(e))
            of = f"its data set is {pair[0]} and its model is {pair[1]}, of which there is no dense network to compare with"
            left_out += [LeftOut(key=record.key, reason=of) for record in own]
    if not references:
        raise UserError(problems[0])
    joints = []
    for pair, dense in references.items():
        own = [record for record in records if record.pair == pair]
        if len(references) > 1:
            say(f"{pair[0]} on {pair[1]}: {len(own)} networks")
        joints.append(_measure_pair(job, folder, own, dense, left_out, len(references) == 1, say))
        left_out = []  # told once
    return joints


def _measure_pair(
    job: JointJob,
    folder: Path,
    records: Sequence[Record],
    dense: Candidate,
    left_out: Sequence[LeftOut],
    alone: bool,
    say: Callable[[str], None],
) -> Joint:
    """Measure the networks of one data set and dense network. `alone`: the folder has no other."""
    started_at, left_out = _now(), list(left_out)
    settings = Settings.of(dense.record, job, folder)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{folder}: its runs were on a GPU, and there is none here; allowed: --device cpu")
    device = torch.device(settings.device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(min(settings.threads or torch.get_num_threads(), cores))
    torch.use_deterministic_algorithms(device.type == "cpu")  # as in a run
    options, trusted = settings.data, job.trust
    known = (
        options is None or not options.factory or (trusted if isinstance(trusted, bool) else options.factory in trusted)
    )
    data = load_again(settings.dataset, options, job.data_root, job.data_folders.get(settings.dataset), trust=known)
    data = as_trained(data, dense.record, folder / dense.record.key)
    channels_last = settings.channels_last
    images = next(evaluation_batches(
        data.test, batch_size=IMAGES, mean=data.mean, std=data.std, device=device, channels_last=channels_last
    ))[0]  # fmt: skip
    candidates = []
    for record in records:
        try:
            model = _network(record, folder, images[:2].cpu(), job.trust)
            candidates.append(Candidate(record, _placed(model, device, channels_last)))
        except UserError as e:
            left_out.append(LeftOut(key=record.key, reason=str(e)))
    for entry in left_out:
        say(f"left out: {entry.key}: {entry.reason}")
    if not candidates:
        raise UserError(f"{folder}: no network of a finished run can be loaded; run the suite again to make them")
    reference = _placed(dense.model, device, channels_last)
    found = Joint(
        suite=dense.record.suite,
        complete=False,
        reference=dense.record.key,
        networks=tuple(_unmeasured(candidate.record) for candidate in candidates),
        left_out=tuple(left_out),
        batch_sizes=settings.batch_sizes,
        seconds=settings.seconds,
        order_seed=job.order_seed,
        dataset=settings.dataset,
        model=settings.model,
        precision=settings.precision,
        channels_last=channels_last,
        threads=torch.get_num_threads(),
        machine=describe_machine(device),
        versions=describe_versions(),
        command=job.command,
        started_at=started_at,
        finished_at=started_at,
        warnings=data.notes,
    )
    with EnergyMeter(
        device=str(device), synchronise=torch.cuda.synchronize if device.type == "cuda" else None
    ) as meter:
        if device.type == "cuda":
            meter.measure_idle()
        for size in found.batch_sizes:
            found = _at(size, found, candidates, reference, batch_of(images, size), meter, say)
            _keep(found, folder, joint_file(*dense.record.pair, alone=alone))
    return found


def _at(
    size: int,
    found: Joint,
    candidates: Sequence[Candidate],
    reference: nn.Module,
    batch: Tensor,
    meter: EnergyMeter,
    say: Callable[[str], None],
) -> Joint:
    """`found` with what is measured at one more batch size. Raises UserError where no network runs."""
    before = usage()
    subjects, failed = _subjects(candidates, batch, found.precision)
    for entry in failed:
        say(f"left out: {entry.key}: {entry.reason}")
    if not subjects:
        raise UserError(f"no network runs at batch size {size}; the first: {failed[0].key}: {failed[0].reason}")
    dense = ready(reference, batch, name="inference, dense", precision=found.precision)
    rounds = fewest_blocks(found.seconds, batch.device)
    say(f"batch {size}: {len(subjects)} networks and dense, {rounds} to {LONGER * rounds} rounds")
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
        key: beside(subject, side, dense, dense_side, interval, found.order_seed)
        for (key, subject), side, interval in zip(subjects.items(), sides, measured.ratios, strict=True)
    }
    shared = contention(before, usage(), f"inference at batch {size}") if batch.device.type == "cpu" else []
    networks = (
        n.model_copy(update={"inference": (*n.inference, new[n.key])}) if n.key in new else n for n in found.networks
    )
    return found.model_copy(
        update={
            "complete": size == found.batch_sizes[-1],
            "networks": tuple(networks),
            "failed": (*found.failed, *failed),
            "narrow": (*found.narrow, *((size,) if measured.reached else ())),
            "energy_sources": tuple(meter.describe()),
            "warnings": (*found.warnings, *shared),
            "finished_at": _now(),
        }
    )


def _unmeasured(r: Record) -> MeasuredNetwork:
    return MeasuredNetwork(
        key=r.key,
        method=r.method,
        method_name=r.method_name,
        budget=r.budget,
        seed=r.seed,
        finished_at=r.finished_at,
        inference=(),
    )


def _placed(model: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    model = model.to(device)
    return model.to(memory_format=torch.channels_last) if channels_last else model  # type: ignore[call-overload]


def finished(folder: Path, seeds: Sequence[int] | None) -> tuple[list[Record], list[LeftOut]]:
    """The records of a suite's finished runs in the order of their keys, and those that cannot be read.

    Raises:
        UserError: there is none, or none of these seeds.
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
    there = sorted({record.seed for record in records})
    missing = [seed for seed in seeds or () if seed not in there]
    if missing:
        raise UserError(f"--seeds {missing[0]}: {folder} has no run of it; allowed: {', '.join(map(str, there))}")
    return [record for record in records if seeds is None or record.seed in seeds], left_out


def _reference(records: Sequence[Record], folder: Path, trust: bool | tuple[str, ...]) -> Candidate:
    """The dense run of the lowest seed whose network can be loaded. Raises UserError."""
    problems = []
    for record in sorted((r for r in records if r.method_name == "dense"), key=lambda r: (r.seed, r.key)):
        try:
            return Candidate(record, load_model(folder / record.key, trust=trust))
        except UserError as e:
            problems.append(str(e))
    why = problems[0] if problems else "no dense run is finished; run the suite with its dense method"
    raise UserError(f"{folder}: there is no dense network to compare with: {why}")


def _network(record: Record, folder: Path, example: Tensor, trust: bool | tuple[str, ...]) -> nn.Module:
    """The network of a run, if it is what its record says. Raises UserError."""
    if wrong := changed_files(record, folder / record.key):
        raise UserError(f"{folder / record.key}: {wrong[0]}; restore it, or run it again")
    model = load_model(folder / record.key, trust=trust)
    assert record.cost is not None  # it is done
    macs = count_macs(model, example)
    if record.cost.sample_macs is None and macs != record.cost.macs:
        raise UserError(
            f"{folder / record.key}: its stored network has {macs} MACs and its record says {record.cost.macs}; "
            "run it again"
        )
    return model


def _subjects(
    candidates: Sequence[Candidate], batch: Tensor, precision: str
) -> tuple[dict[str, Subject], list[LeftOut]]:
    """By key, the networks that are warm and ready, and those that do not run."""
    subjects, failed = {}, []
    for candidate in candidates:
        key = candidate.record.key
        try:
            subjects[key] = ready(candidate.model, batch, name="inference", precision=precision)
        except Exception as e:  # whatever a user's network raises; the others are measured all the same
            failed.append(
                LeftOut(
                    key=key, reason=f"does not run at batch size {len(batch)} ({type(e).__name__}: {shortened(str(e))})"
                )
            )
    return subjects, failed


def _keep(joint: Joint, folder: Path, name: str) -> None:
    """Store it, but never a part in the place of a whole: what was measured once is not lost to an interruption."""
    if not joint.complete:
        try:
            before = read_joint(folder, name)
        except UserError:
            before = None
        if before is not None and before.complete:
            return
    write_joint(joint, folder, name)
    for path in joint_files(folder):  # of the same networks, from when the folder held others than now
        with contextlib.suppress(UserError):
            other = read_joint(folder, path.name)
            if path.name != name and other is not None and (other.dataset, other.model) == (joint.dataset, joint.model):
                path.unlink()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
