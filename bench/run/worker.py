"""One run, in a process of its own, started by `greenprune.bench.run.process` with the name of a file that holds the `Job`.

Standard output carries events as JSON lines for the launcher; everything else goes to standard error.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import torch
from greenprune.bench.data.content import file_hash
from greenprune.bench.data.data import Dataset, limited
from greenprune.bench.data.load import load_again
from greenprune.bench.distributed.launch import start_on_nodes, start_ranks
from greenprune.bench.distributed.measuring import alone
from greenprune.bench.distributed.nodes import spread
from greenprune.bench.distributed.rank import Ended, Rank, this_rank
from greenprune.bench.distributed.team import joined, leave, stopped
from greenprune.bench.energy import Reading
from greenprune.bench.energy.carbon.intensity import gco2e
from greenprune.bench.energy.power_log import POWER_FILE
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.energy.total import add_readings
from greenprune.bench.errors import UserError, is_full
from greenprune.bench.foreign import shortened
from greenprune.bench.inference import calibration
from greenprune.bench.inference.cost import measure_cost
from greenprune.bench.inference.eager import compare_at_each_size
from greenprune.bench.inference.served import HELD_OUT_BATCHES, serve
from greenprune.bench.machine.contention import contention, usage
from greenprune.bench.machine.machine import describe_machine, describe_versions
from greenprune.bench.models.kinds.kind import Preprocessing
from greenprune.bench.records.identity import MADE_OF, Begun, Identity, differing, write_begun
from greenprune.bench.records.inference import Inference
from greenprune.bench.records.record import MODEL_FILE, CrossCheck, Emissions, Record, write_record
from greenprune.bench.records.store import save_model
from greenprune.bench.records.validity import broken_rule
from greenprune.bench.run.events import Events, told_to_nobody
from greenprune.bench.run.job import STOPPED, Job
from greenprune.bench.run.keeping import heed_stops, keeper_of, keepers
from greenprune.bench.run.neighbours import beside, neighbours
from greenprune.bench.run.trial import trial
from greenprune.bench.training.evaluation import evaluate, outputs_on
from greenprune.bench.training.files import RANKS
from greenprune.bench.training.identity import for_checkpoint, identity_of
from greenprune.bench.training.keeper import Follower, StoppedError
from greenprune.bench.training.ledger import OverdrawnError
from greenprune.bench.training.loop import DivergedError
from greenprune.bench.training.setup import Emit, fresh_model, images_of, metered, synchronise_of, train_once
from greenprune.bench.training.start import prepared, start_of
from greenprune.bench.verify.reload import refuse_changed_by_storing
from greenprune.methods import BudgetError, MethodError, Skip
from greenprune.methods.ranks.together import LostRankError

EXPECTED = (UserError, Skip, BudgetError, DivergedError, OverdrawnError, MethodError)
"""Why a run can have no result without anything being broken: the message is a sentence for the user."""


def main(argv: list[str]) -> int:
    job = Job.model_validate_json(Path(argv[0]).read_text(encoding="utf-8"))
    rank, recipe = this_rank(), job.settings.training
    if rank is None and recipe.ranks > 1:
        return with_ranks(Path(argv[0]), job)
    heed_stops()
    emit: Emit = Events() if rank is None or rank.leads else told_to_nobody
    faulthandler.enable(all_threads=False)  # a crash in native code leaves a traceback too
    if rank is None:
        return perform(job, emit)
    ended = Ended(rank.shared.ended)
    try:
        with joined(rank, torch.device(job.settings.device).type):
            code, reason = (perform(job, emit), None) if rank.leads else assist(job, rank)
            if code == STOPPED:
                stopped(rank)
    except LostRankError:
        raise  # all are started again
    except BaseException as e:
        ended.tell(1, f"{type(e).__name__}: {shortened(str(e).partition(chr(10))[0], 300)} (in rank {rank.rank})")
        raise
    if code or rank.leads:
        ended.tell(code, reason)
    return 0  # or the others were killed, and started again


def perform(job: Job, emit: Emit) -> int:
    """Do the job; the exit code."""
    try:
        trial(job, emit) if job.trial else run(job, emit)
    except LostRankError:
        raise
    except EXPECTED as e:
        emit("failed", reason=str(e))
        return 1
    except StoppedError as e:
        emit("failed", reason=str(e))
        return STOPPED
    except Exception as e:
        if not is_full(e):
            raise
        emit("full", reason=str(e))
        return 1
    except SystemExit as e:
        emit("failed", reason=f"SystemExit: {e}: a network or a method called sys.exit")
        raise
    return 0


def with_ranks(file: Path, job: Job) -> int:
    """Have the job done by ranks on several devices; the exit code."""
    recipe, device = job.settings.training, torch.device(job.settings.device).type
    if command := spread(recipe.nodes):
        return start_on_nodes(file, command)
    try:
        code, reason = start_ranks(file, Path(job.folder), device, recipe.devices, recipe.nodes, STOPPED)
    except UserError as e:
        code, reason = 1, str(e)
    if reason is not None:
        print(json.dumps({"event": "failed", "reason": reason}), flush=True)
    return code


def assist(job: Job, rank: Rank) -> tuple[int, str | None]:
    """Train together with the rank that leads, which stores what comes of it; the exit code, and a reason where that is 1."""
    s = job.settings
    data = limited(load_again(s.dataset, s.data, job.data_root, job.data_folder), s.images["train"])
    data = prepared(data, start_of(s.model, s.weights, data.shape))
    keeper = Follower(
        Path(job.folder) / RANKS / str(rank.rank),
        for_checkpoint(s, job.identity or Identity()),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        found=[],
    )
    keepers.append(keeper)
    try:
        with metered(s, job.share.gpu_uuids, job.shared) as (meter, _):
            train_once(s, data, meter, told_to_nobody, keeper)
            leave(rank)
    except EXPECTED as e:
        return 1, str(e)
    except StoppedError:
        return STOPPED, None
    return 0, None


def identity_here(job: Job, data: Dataset) -> Identity:
    """What the run is made of.

    Raises:
        UserError: not of what the launcher found when the suite was started.
    """
    found = identity_of(job.settings, data)
    other: tuple[str, ...] = ()
    if job.identity is not None:
        told = tuple(part for part in MADE_OF if part != "precision" or job.identity.precision is not None)
        other = differing(job.identity, found, told)
    if other:
        raise UserError(
            f"something was changed since the suite was started ({'; '.join(other)}), and one results folder holds one "
            "experiment; change it back, or start the suite anew with --out"
        )
    return found


def run(job: Job, emit: Emit) -> Record:
    """Train, evaluate once on the test set, measure inference, store the network and the record.

    A batch size at which inference could not be measured is among the warnings of the record.

    Raises:
        UserError, Skip, BudgetError, DivergedError, OverdrawnError, MethodError: there is no result; the message says why.
    """
    s = job.settings
    device = torch.device(s.device)
    data = limited(load_again(s.dataset, s.data, job.data_root, job.data_folder), s.images["train"])
    intensity, pue = s.measurement.grid(), s.measurement.pue
    identity = identity_here(job, data)
    if (
        job.identity is not None and job.identity != identity
    ):  # the launcher, on another machine, did not know all of it
        write_begun(Begun(key=job.key, settings=s.model_dump(mode="json"), identity=identity), Path(job.folder))
    data = prepared(data, start_of(s.model, s.weights, data.shape))
    keeper = keeper_of(job, identity)
    with metered(s, job.share.gpu_uuids, job.shared) as (meter, caught), ExitStack() as afterwards:
        training = train_once(s, data, meter, emit, keeper)
        of_training = meter.describe()
        meter = afterwards.enter_context(alone(this_rank(), meter, s.device, synchronise_of(s), job.shared))
        method, task, trained = training.method, training.task, training.trained
        emit("evaluating")
        with meter.window("evaluation") as window:
            tested = outputs_on(trained.model, data.test, data, device, task)
            train_score = evaluate(trained.model, data.train, data, device, task)
        dense, _ = fresh_model(s, data, device)
        images = next(images_of(data.test, data, s, 256))
        cost = measure_cost(s, method, trained.model, dense, images[:2], images_of(data.test, data, s, 1))
        emit("measuring")
        before = usage()
        inference, not_measured = compare_at_each_size(s, trained.model, dense, images, meter)
        served = serve(
            s, trained.model, dense, images, meter,
            held_out=lambda: [*islice(images_of(data.holdout, data, s, 64), HELD_OUT_BATCHES)],
            score=lambda model: evaluate(model, data.test, data, torch.device("cpu"), task),
        )  # fmt: skip
        # Inference is compared side by side: what others take falls on both networks.
        shared = contention(before, usage(), "inference") if device.type == "cpu" else []
        energy = {"training": trained.energy, "evaluation": window.reading}
        if inference:
            energy["inference"] = total_inference(inference)
        if trained.redone is not None:
            energy["redone"] = trained.redone
        energy_sources = {row["source"]: row for row in (*meter.describe(), *of_training)}
    summary = None if training.calibration is None else calibration.summary(training.calibration)
    cost = cost.model_copy(
        update=calibration.achieved(inference, served, summary)
        | {"predicted": method.predicted_cost, "calibration": summary}
    )
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    preprocessing = None if data.floats else Preprocessing(data.mean, data.std)
    save_model(
        trained.model, folder, name=s.model, classes=data.classes, input_shape=data.shape, preprocessing=preprocessing
    )
    refuse_changed_by_storing(trained.model, folder, images)
    meter.power_log.write(folder / POWER_FILE)
    record = Record(
        status="done",
        suite=job.suite,
        key=job.key,
        method=s.method.label,
        method_name=s.method.name,
        budget=s.budget,
        seed=s.seed,
        settings=s.model_dump(mode="json"),
        identity=identity,
        files={name: file_hash(folder / name) for name in (MODEL_FILE, POWER_FILE) if (folder / name).is_file()},
        machine=describe_machine(device),
        versions=describe_versions(),
        command=job.command,
        overrides=job.overrides,
        started_at=keeper.log.first_started_at,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        valid=tested.problem is None,  # as far as is known yet
        invalid_reason=tested.problem,
        cost=cost,
        ledger=trained.ledger.stored(),
        epochs=trained.epochs,
        score=task.score,
        train_score=train_score,
        holdout_score=trained.epochs[-1].holdout_score,
        test_score=tested.score,
        test_scores=tested.scores,
        extra_macs=task.extra_macs(images[:2]),
        masked_max_abs_diff=method.masked_max_abs_diff,
        energy=energy,
        ranks=training.ranks,
        loading=training.loading,
        interruptions=keeper.interruptions,
        checkpoints=keeper.checkpoints,
        checkpoint_s=round(keeper.checkpoint_s, 3),
        crosscheck=tuple(CrossCheck.model_validate(dataclasses.asdict(check)) for check in training.checks),
        energy_sources=tuple(energy_sources.values()),
        inference=inference,
        served=served,
        emissions=Emissions(
            country=intensity.country,
            grid_gco2e_per_kwh=intensity.gco2e_per_kwh,
            source=intensity.source,
            region=intensity.region,
            cloud=intensity.cloud,
            year=intensity.year,
            pue=pue,
            training_gco2e={
                kind: gco2e(energy_j, intensity, pue)
                for kind in KINDS
                if (energy_j := trained.energy.energy_j(kind)) is not None
            },
        ),
        history=method.history(),
        warnings=(
            *beside(job),
            *training.notes,
            *shared,
            *not_measured,
            *dict.fromkeys(str(w.message) for w in caught),
        ),
        beside=neighbours(folder) if job.noted else None,
    )
    if record.valid and (broken := broken_rule(record)):
        record = record.model_copy(update={"valid": False, "invalid_reason": broken})
    write_record(record, folder)  # last: a complete record means that everything is there
    keeper.clear()
    emit("done", test_score=tested.score, kept_macs=cost.kept_macs)
    return record


def total_inference(parts: tuple[Inference, ...]) -> Reading:
    """Energy of all inference measurements of this network together (the dense side not included)."""
    return add_readings("inference", [p.energy for p in parts])
