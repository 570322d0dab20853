"""Measure all final networks of a suite in a process, side by side with dense. Started by `greenprune.bench.run.side_by_side`.

    run folders -> load_model -> for each runtime and batch size: rounds of one block of every network -> inference.json

Figures of different runs were measured at different times, on a machine that may have been differently busy; these were
measured at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from greenprune.bench.data.batches import evaluation_batches
from greenprune.bench.data.load import load_again
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import visible
from greenprune.bench.inference.asked import JointSettings
from greenprune.bench.inference.candidates import Candidate, dense_of, finished, network_of, of_seeds, placed
from greenprune.bench.inference.job import JointJob
from greenprune.bench.inference.rounds import entered, in_eager, in_runtime, measured_at, now, refused
from greenprune.bench.machine.machine import describe_machine, describe_versions
from greenprune.bench.records.folder import locked
from greenprune.bench.records.joint import Joint, LeftOut, MeasuredNetwork, joint_file, readable_joints, write_joint
from greenprune.bench.records.record import Record
from greenprune.bench.records.store import as_trained
from greenprune.bench.runtimes.catalogue import find
from greenprune.bench.runtimes.names import EAGER
from greenprune.bench.terminal import complain
from greenprune.bench.text import plural

IMAGES = 256  # of the test set, as in a run


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

    What was measured before an interruption is stored too. A batch size at which networks do not run costs its own figures
    alone, in every runtime.

    Raises:
        UserError: there is nothing to measure or nothing to compare with, no network runs at any batch size, a runtime that
            was asked for is not here, or the folder is in use or not writable.
    """
    folder = Path(job.folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such results folder; allowed: a suite's, such as results/quickstart")
    for name in job.runtimes or ():
        find(name)
    try:
        with locked(folder):
            return _measure(job, folder, say)
    except OSError as e:
        raise UserError(f"{folder}: cannot be written ({e.strerror})") from None


def _measure(job: JointJob, folder: Path, say: Callable[[str], None]) -> list[Joint]:
    there, left_out = finished(folder)
    records = of_seeds(there, job.seeds, folder)
    pairs = {record.pair for record in there if record.method_name == "dense"}  # whatever is measured this time
    references, problems = {}, []
    for pair in dict.fromkeys(record.pair for record in records):
        own = [record for record in records if record.pair == pair]
        try:
            references[pair] = dense_of(own, folder, job.trust)
        except UserError as e:
            problems.append(str(e))
            of = f"its data set is {pair[0]} and its model is {pair[1]}, of which there is no dense network to compare with"
            left_out += [LeftOut(key=record.key, reason=of) for record in own]
    if not references:
        raise UserError(problems[0])
    joints: list[tuple[Joint, str]] = []
    for pair, dense in references.items():
        own = [record for record in records if record.pair == pair]
        if len(references) > 1:
            say(f"{pair[0]} on {pair[1]}: {plural(len(own), 'network')}")
        file = joint_file(*pair, alone=len(pairs) == 1)
        joints.append((_measure_pair(job, folder, own, dense, left_out, file, say), file))
        left_out = []  # told once
    if not any(_has_figures(joint) for joint, _ in joints):
        raise UserError(f"{folder}: {joints[0][0].failed[0].reason}")
    for joint, file in joints:
        if not _has_figures(joint):
            _keep(joint, folder, file)  # it says why; the others are not due again for its sake
    return [joint for joint, _ in joints]


def _measure_pair(
    job: JointJob,
    folder: Path,
    records: Sequence[Record],
    dense: Candidate,
    left_out: Sequence[LeftOut],
    file: str,
    say: Callable[[str], None],
) -> Joint:
    """Measure the networks of one data set and dense network, and store what has figures as `file`."""
    started_at, left_out = now(), list(left_out)
    settings = JointSettings.of(dense.record, job, folder)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{folder}: its runs were on a GPU, and there is none here; allowed: --device cpu")
    device = torch.device(settings.device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(min(settings.threads or torch.get_num_threads(), cores))
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "default")  # as in a run
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
            model = network_of(record, folder, job.trust)
            candidates.append(Candidate(record, placed(model, device, channels_last)))
        except UserError as e:
            left_out.append(LeftOut(key=record.key, reason=str(e)))
    for entry in left_out:
        say(f"left out: {entry.key}: {entry.reason}")
    if not candidates:
        raise UserError(f"{folder}: no network of a finished run can be loaded; run the suite again to make them")
    reference = placed(dense.model, device, channels_last)
    found = Joint(
        suite=dense.record.suite,
        complete=False,
        reference=dense.record.key,
        networks=tuple(_unmeasured(candidate.record) for candidate in candidates),
        left_out=tuple(left_out),
        batch_sizes=settings.batch_sizes,
        runtimes=settings.runtimes,
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
        for runtime in (EAGER, *found.runtimes):
            try:
                _check_trust(runtime, job)
                if runtime == EAGER:
                    line_up = in_eager(candidates, reference, found.precision)
                else:
                    line_up = in_runtime(runtime, candidates, reference, images)
                found = entered(found, line_up)
            except UserError as e:
                say(str(e))
                found = refused(found, runtime, str(e))  # the other runtimes are measured all the same
                continue
            for size in found.batch_sizes:
                try:
                    found = measured_at(size, found, line_up, images, meter, say)
                except UserError as e:
                    say(str(e))
                    found = refused(found, runtime, str(e))  # so are the other batch sizes
                if _has_figures(found):
                    _keep(found, folder, file)
        found = found.model_copy(update={"complete": True, "finished_at": now()})
        if _has_figures(found):
            _keep(found, folder, file)
    return found


def _check_trust(runtime: str, job: JointJob) -> None:
    """Raises UserError: the module of a runtime that the folder names, and nobody who typed the command."""
    trusted = job.trust if isinstance(job.trust, bool) else runtime in job.trust
    if ":" in runtime and not trusted and runtime not in (job.runtimes or ()):
        raise UserError(f"runtime {runtime}: the records name this module; allow that it is imported with --trust")


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


def _has_figures(joint: Joint) -> bool:
    return any(n.inference or any(served.inference for served in n.served) for n in joint.networks)


def _keep(joint: Joint, folder: Path, name: str) -> None:
    """Store it, but never a part in the place of a whole: what was measured once is not lost to an interruption.

    A whole of the same networks may have another name, from when the folder held others than now.
    """
    pair = joint.dataset, joint.model
    before = {file: other for file, other in readable_joints(folder).items() if (other.dataset, other.model) == pair}
    is_part = not joint.complete or not _has_figures(joint)
    if is_part and any(other.complete for other in before.values()):
        return
    write_joint(joint, folder, name)
    for file in before:
        if file != name:
            (folder / file).unlink()
