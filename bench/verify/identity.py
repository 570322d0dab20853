"""Whether a run was made of what its record says."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from greenprune.bench.data.data import content_hash
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.records.identity import Identity, differing, read_begun
from greenprune.bench.records.record import Record
from greenprune.bench.training.identity import method_hash_of, network_hashes, processor_of, task_hash
from greenprune.bench.training.start import start_of
from greenprune.bench.verify.means import Form, Means
from greenprune.bench.verify.row import Cell, Row
from greenprune.methods import MethodError

CPU = torch.device("cpu")


def identity_of(row: Row, record: Record, folder: Path, form: Form | None, means: Means) -> None:
    stated, wrong, unknown = record.identity, [], []
    try:
        begun = read_begun(folder)
    except UserError as e:
        begun = None
        wrong.append(str(e))
    if begun is not None:
        wrong += [f"identity.json says {line}" for line in differing(stated, begun.identity)]
    here, reasons = _here(record, form, means)
    for name in ("data", "network", "weights", "method", "task"):
        if name == "task" and stated.task is None:
            continue  # it is greenprune's, and loads nothing
        if getattr(stated, name) is None:
            unknown.append(f"{name} was not recorded")
        elif getattr(here, name) is None:
            unknown += [f"{name}: {reasons[name]}"] if name in reasons else []
        else:
            wrong += differing(stated, here, (name,))
    row.put("identity", wrong, Cell("absent" if unknown else "ok", "; ".join(unknown)))


def _here(record: Record, form: Form | None, means: Means) -> tuple[Identity, dict[str, str]]:
    """What the run would be made of here; and, of what cannot be said, why."""
    stated, reasons = record.identity, {}
    found: dict[str, str] = {}
    data = means.data_of(record) if stated.data is not None else "was not recorded"
    if isinstance(data, str):
        reasons["data"] = data
    else:
        found["data"] = content_hash(data)
    if why := means.refuses(record.pair[1]):
        reasons["network"] = reasons["weights"] = why
    elif form is None:
        reasons["network"] = reasons["weights"] = "nobody knows for which images it is"
    elif stated.network is not None:
        try:
            found["network"], _ = network_hashes(record.pair[1], form.classes, record.seed, form.shape)
            weights = record.settings.get("weights")
            if not isinstance(weights, str | None):
                raise UserError(f"settings.weights = {shortened(str(weights))}: is neither a path nor a name")
            start = start_of(record.pair[1], weights, form.shape)
            _, weights = network_hashes(record.pair[1], form.classes, record.seed, form.shape, start)
            if (stated.torch, stated.processor) == (str(torch.__version__), processor_of(CPU)):
                found["weights"] = weights
            else:
                reasons["weights"] = "drawn with another version of torch or on another processor"
        except UserError as e:
            reasons |= {name: str(e) for name in ("network", "weights") if name not in found}
    if stated.task is not None:
        try:
            found["task"] = _task(record, form, means)
        except UserError as e:
            reasons["task"] = str(e)
    if why := means.refuses(record.method_name):
        reasons["method"] = why
    elif stated.method is not None:
        try:
            if method_hash_of(record.method_name) == stated.method:
                found["method"] = stated.method
            else:
                reasons["method"] = "its files are others in this greenprune"
        except (MethodError, OSError) as e:
            reasons["method"] = str(e)
    return Identity.model_validate(found), reasons


def _task(record: Record, form: Form | None, means: Means) -> str:
    """The hash of the task of a record, where it has one. Raises UserError: it cannot be had."""
    task = means.task_of(record)
    if isinstance(task, str):
        raise UserError(task)
    if record.task == "distillation" and not means.trust:
        raise UserError("its teacher is looked at with --trust alone")
    if form is None:
        raise UserError("nobody knows for which images it is")
    entry = json.dumps({"options": task.options.model_dump(mode="json")})
    return task_hash(record.task, entry, form.classes, form.shape) or ""
