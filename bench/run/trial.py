"""One trial of `greenprune tune`."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from greenprune.bench.data.data import content_hash, limited
from greenprune.bench.data.load import load_again
from greenprune.bench.distributed.measuring import alone
from greenprune.bench.distributed.rank import this_rank
from greenprune.bench.inference.cost import measure_cost, why_invalid
from greenprune.bench.records.cost import Cost
from greenprune.bench.records.tuning import Spent
from greenprune.bench.records.validity import unequal
from greenprune.bench.run.job import Job
from greenprune.bench.run.keeping import keeper_of
from greenprune.bench.run.neighbours import beside
from greenprune.bench.training.evaluation import outputs_on
from greenprune.bench.training.identity import identity_of
from greenprune.bench.training.setup import Emit, fresh_model, images_of, metered, synchronise_of, train_once
from greenprune.bench.training.start import prepared, start_of
from greenprune.methods.base import Method
from greenprune.methods.cost.kinds import MEASURED, CostKind


def trial(job: Job, emit: Emit) -> None:
    """Train for `tune`, and emit what the held-out images say and what it took. Nobody looks at the test set here."""
    s = job.settings
    device = torch.device(s.device)
    data = limited(load_again(s.dataset, s.data, job.data_root, job.data_folder), s.images["train"])
    identity = identity_of(s, data, content_hash(data, ("train", "holdout")))
    data = prepared(data, start_of(s.model, s.weights, data.shape))
    with metered(s, job.share.gpu_uuids, job.shared) as (meter, _), ExitStack() as afterwards:
        training = train_once(s, data, meter, emit, keeper_of(job, identity))
        meter = afterwards.enter_context(alone(this_rank(), meter, s.device, synchronise_of(s), job.shared))
        method, trained = training.method, training.trained
        found = outputs_on(trained.model, data.holdout, data, device, training.task)
        example = next(images_of(data.holdout, data, s, 2))
        dense, _ = fresh_model(s, data, device)
        cost = measure_cost(s, method, trained.model, dense, example, images_of(data.holdout, data, s, 1))
    spent = Spent(ledger=trained.ledger.stored(), energy=trained.energy)
    emit(
        "trial",
        holdout_score=found.score,
        kept=method.predicted_cost if s.cost in MEASURED else cost.kept,  # a trial measures no inference
        invalid_reason=found.problem or why_out(s.cost, method, cost),
        spent=spent.model_dump(mode="json"),
        warnings=[*beside(job), *training.notes],
    )


def why_out(kind: CostKind, method: Method, cost: Cost) -> str | None:
    """The rule that a trial broke, or None. A budget of time or energy is in none: a trial measures no inference."""
    return unequal(method.masked_max_abs_diff) if kind in MEASURED else why_invalid(method, cost)
