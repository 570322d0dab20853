"""One finished run: whether its record, its network and the data give what it says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import torch
from greenprune.bench import models
from greenprune.bench.data.batches import evaluation_batches
from greenprune.bench.errors import UserError
from greenprune.bench.inference.cost import SAMPLED_IMAGES, count_connections, sample_macs
from greenprune.bench.models.kinds.kind import SMALL as IMAGE
from greenprune.bench.records.check import impossible
from greenprune.bench.records.cost import Cost
from greenprune.bench.records.load import changed_files
from greenprune.bench.records.record import MODEL_FILE, RECORD_FILE, SCHEMA_VERSION, Record
from greenprune.bench.records.score import Score
from greenprune.bench.records.store import as_trained, load_model
from greenprune.bench.records.stored import read_unbelieved
from greenprune.bench.records.validity import broken_rule
from greenprune.bench.text import plural
from greenprune.bench.training.evaluation import Outputs, outputs_on
from greenprune.bench.verify.identity import identity_of
from greenprune.bench.verify.means import Form, Means, form_of
from greenprune.bench.verify.reload import outputs_from
from greenprune.bench.verify.row import Cell, Row
from greenprune.methods import count_macs, count_params
from torch import Tensor, nn

CPU = torch.device("cpu")
NO_NETWORK = "no network is stored"
NOT_LOADED = "no network to look at"

SCORE_TOLERANCE = 5e-4
"""Share of a score by which another processor may compute it otherwise; of a share itself, and one image in any case."""


def check_run(folder: Path, name: str, means: Means) -> tuple[Row, Record | None]:
    """Check what lies in a run's folder.

    Returns:
        What was found, and the record where it is a finished run's.
    """
    row = Row(name)
    try:
        record, altered = read_unbelieved(folder / RECORD_FILE, Record, SCHEMA_VERSION, "a record")
    except UserError as e:
        row.put("record", [str(e).removeprefix(f"{folder / RECORD_FILE}: ")], Cell("ok"))
        return row, None
    row.put("checksum", [altered] if altered else [], Cell("ok"))
    if record.status != "done":
        reason = record.failure.reason if record.failure else "no reason was recorded"
        row.put("record", [], Cell("absent", f"has no result: {reason}"))
        return row, None
    _record(row, record)
    _files(row, record, folder)
    form = form_of(record, folder, means)
    network = _network(row, record, folder, form, means)
    _counts(row, record, network, form, folder, means)
    _score(row, record, network, folder, means)
    identity_of(row, record, folder, form, means)
    return row, record


def _record(row: Row, record: Record) -> None:
    wrong = impossible(record)
    broken = None if wrong else broken_rule(record)
    if broken and record.valid:
        wrong = [f"says that it is valid, and {broken}"]
    row.put("record", wrong, Cell("ok", "" if record.valid else f"invalid: {record.invalid_reason}"))


def _files(row: Row, record: Record, folder: Path) -> None:
    missing = [name for name in record.files if not (folder / name).is_file()]
    row.put(
        "checksum", changed_files(record, folder), Cell("ok", f"{', '.join(missing)}: not there" if missing else "")
    )


def _network(row: Row, record: Record, folder: Path, form: Form | None, means: Means) -> nn.Module | None:
    if not (folder / MODEL_FILE).is_file():
        row.put("weights", [], Cell("absent", NO_NETWORK))
        return None
    if why := means.refuses(record.pair[1]):
        row.put("weights", [], Cell("absent", why))
        return None
    try:
        model = load_model(folder, trust=means.trust)
        shape = IMAGE if form is None else form.shape
        outputs = outputs_from(model, torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)))
    except Exception as e:  # a stranger's network may raise anything
        row.put("weights", [_told(e).removeprefix(f"{folder / MODEL_FILE}: ")], Cell("ok"))
        return None
    wrong = []
    if not all(tensor.isfinite().all() for tensor in (*model.state_dict().values(), *outputs)):
        wrong.append("its weights or its outputs are not finite")
    if form is not None and (not outputs or tuple(outputs[0].shape[:2]) != (4, form.classes)):
        found = tuple(outputs[0].shape) if outputs else ()
        wrong.append(f"its outputs are of the shape {found} for 4 images of {form.classes} classes")
    row.put("weights", wrong, Cell("ok"))
    return model


def _counts(row: Row, record: Record, network: nn.Module | None, form: Form | None, folder: Path, means: Means) -> None:
    cost = _cost(record)
    absent = Cell("absent", NOT_LOADED)
    example = torch.zeros(2, *(IMAGE if form is None else form.shape))
    wrong_macs, wrong_params, dense = [], [], None
    with contextlib.suppress(UserError):  # an unknown name: said of the identity
        if form is not None and not means.refuses(record.pair[1]):
            dense = models.build(record.pair[1], form.classes, seed=record.seed, shape=form.shape)
    if dense is not None:
        wrong_macs += _counted(lambda: _unequal("the dense network has", count_macs(dense, example), cost.macs_dense))
        wrong_params += _unequal("the dense network has", count_params(dense), cost.params_dense)
    if network is not None:
        wrong_macs += _counted(lambda: _macs(record, network, example, folder, means))
        wrong_params += _unequal("the network has", count_params(network), cost.params)
        if cost.connections is not None:
            wrong_params += _unequal("its nonzero weights are", count_connections(network), cost.connections)
    row.put("MACs", wrong_macs, absent if network is None else _how_counted(record, means))
    row.put("parameters", wrong_params, absent if network is None else Cell("ok"))


def _counted(count: Callable[[], list[str]]) -> list[str]:
    """What `count` finds wrong, or what a stranger's network raises meanwhile."""
    try:
        return count()
    except Exception as e:
        return [f"they cannot be counted ({_told(e)})"]


def _how_counted(record: Record, means: Means) -> Cell:
    if _cost(record).sample_macs is not None and isinstance(why := means.data_of(record), str):
        return Cell("absent", f"they depend on the images: {why}")
    return Cell("ok")


def _macs(record: Record, network: nn.Module, example: Tensor, folder: Path, means: Means) -> list[str]:
    cost = _cost(record)
    if cost.sample_macs is None:
        return _unequal("the network has", count_macs(network, example), cost.macs)
    data = means.data_of(record)
    if isinstance(data, str):
        return []
    data = as_trained(data, record, folder)
    batches = evaluation_batches(data.test, batch_size=1, mean=data.mean, std=data.std, device=CPU)
    images = (image for (image, _), _ in zip(batches, range(SAMPLED_IMAGES), strict=False))
    mean = sample_macs(network, images, cost.macs_dense).mean
    return [] if abs(mean - cost.sample_macs.mean) < 1e-3 else [f"images take {mean:.4f} of dense's on average"]


def _unequal(what: str, found: int, stated: int) -> list[str]:
    return [] if found == stated else [f"{what} {found:,}, and the record says {stated:,}"]


def _score(row: Row, record: Record, network: nn.Module | None, folder: Path, means: Means) -> None:
    if network is None:
        row.put("score", [], Cell("absent", NOT_LOADED))
        return
    task = means.task_of(record)
    data = means.data_of(record)
    for absent in (data, task):
        if isinstance(absent, str):
            row.put("score", [], Cell("absent", absent))
            return
    assert not isinstance(data, str)
    assert not isinstance(task, str)
    try:
        found = outputs_on(network, data.test, as_trained(data, record, folder), CPU, task)
    except Exception as e:  # a stranger's network may raise anything
        row.put("score", [_told(e)], Cell("ok"))
        return
    row.put("score", _differing(record, found, task.score, len(data.test)), Cell("ok", _said(found, len(data.test))))


def _told(error: Exception) -> str:
    """In one line; with its type where that is not for a user, as the text alone may be a name."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _differing(record: Record, found: Outputs, score: Score, count: int) -> list[str]:
    """What is wrong with the record's score on `count` test images, of which `found` is what they give here."""
    if record.score != score:
        return [f"its task is judged by {score.label}, and the record says {record.score and record.score.label}"]
    stated = record.test_score
    if found.score is None or stated is None:
        agree = found.score is None and stated is None and not record.valid
        return [] if agree else [found.problem or "it has a score, and the record has none"]
    allowed = max(1.0 / count, SCORE_TOLERANCE) if score.share else SCORE_TOLERANCE * max(abs(stated), abs(found.score))
    if abs(found.score - stated) > allowed + 1e-6 / count:
        return [f"on the test images it has {found.score:.4f}, and the record says {stated:.4f}"]
    return []


def _said(found: Outputs, count: int) -> str:
    return "no score" if found.score is None else f"{found.score:.4f} on {plural(count, 'image')}"


def _cost(record: Record) -> Cost:
    assert record.cost is not None  # it is done
    return record.cost
