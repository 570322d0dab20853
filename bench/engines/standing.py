"""How the runs of a results folder stand: queued, at work, ended; how far they are, and the joules so far. Without torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from greenprune.bench.energy.reading import Kind, Reading
from greenprune.bench.engines.cluster import queue
from greenprune.bench.engines.cluster.stored import read_ended, read_jobs
from greenprune.bench.engines.progress import read_progress
from greenprune.bench.errors import UserError
from greenprune.bench.records.folder import LOCK_FILE, running
from greenprune.bench.records.identity import IDENTITY_FILE
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import RECORD_FILE
from greenprune.bench.text import duration
from greenprune.bench.training.files import SPENT_FILE
from pydantic import ValidationError


@dataclass(frozen=True)
class Standing:
    """Of one run.

    Attributes:
        state: "done", "INVALID", "failed", "running", "queued", "stopped".
        detail: where it runs and how far it is, or why it is as it is.
        energy_j: of its training so far, by kind of joules.
    """

    key: str
    state: str
    detail: str = ""
    energy_j: Mapping[str, float] = field(default_factory=dict)


def standings(folder: Path) -> tuple[list[Standing], str | None]:
    """Of every run that `folder` (results/<suite>) knows of; and of the last job, which measures, where there is one.

    Raises:
        UserError: there is no such folder, or it knows of no run.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such results folder; allowed: a suite's, such as results/quickstart")
    jobs = read_jobs(folder)
    there = (queue.queued() or {}) if jobs.runs or jobs.measuring else {}
    held = running(folder)
    begun = {path.parent.name for name in (RECORD_FILE, IDENTITY_FILE, LOCK_FILE) for path in folder.glob(f"*/{name}")}
    keys = sorted({*begun, *jobs.runs})
    if not keys:
        raise UserError(f"{folder}: holds no run; allowed: the results folder of one suite, such as results/quickstart")
    found = []
    for key in keys:
        job = jobs.runs.get(key, "")
        if key in held:
            by = "" if held[key] is None else f"{held[key]}; "
            found.append(Standing(key, "running", by + _progress(folder / key), _so_far(folder / key)))
        elif job in there:
            found.append(Standing(key, "queued", f"job {job}: {there[job]}", _so_far(folder / key)))
        else:
            found.append(_at_rest(folder, key, job))
    last = None
    if jobs.measuring is not None:
        ended = read_ended(folder, jobs.measuring)
        last = f"job {jobs.measuring}: {there.get(jobs.measuring) or (ended.status if ended else 'ended')}"
    return found, last


def _at_rest(folder: Path, key: str, job: str) -> Standing:
    path = folder / key / RECORD_FILE
    if not path.exists():
        ended = read_ended(folder, job) if job else None
        return Standing(key, "stopped", ended.said if ended else "start it again to go on", _so_far(folder / key))
    try:
        record = read_record(path)
    except UserError as e:
        return Standing(key, "failed", str(e))
    if record.failure is not None:
        return Standing(key, "failed", record.failure.reason, _so_far(folder / key))
    energy = record.energy.get("training")
    score = "" if record.test_score is None or record.score is None else record.score.text(record.test_score)
    detail = score if record.valid else f"{record.invalid_reason}"
    return Standing(key, "done" if record.valid else "INVALID", detail, {} if energy is None else _joules([energy]))


def _progress(folder: Path) -> str:
    told = read_progress(folder)
    if told is None:
        return "starting"
    with contextlib.suppress(KeyError, TypeError, ValueError, ArithmeticError):  # no steps, or no end of seconds
        if told["event"] == "progress":
            return (
                f"epoch {told['epoch']}/{told['epochs']}, {told['step'] / told['steps']:.0%}, "
                f"{duration(told['seconds_left'])} left"
            )
        return str(told["event"])
    return ""


def _so_far(folder: Path) -> dict[str, float]:
    """Of a training that has not ended: what it wrote down every few seconds, what is to be done again included."""
    last: dict[tuple[Any, ...], Reading] = {}
    with contextlib.suppress(OSError):
        for text in (folder / SPENT_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError, ValidationError):
                line = json.loads(text)
                last[line["attempt"], line["after"], line["part"]] = Reading.model_validate(line["reading"])
    return _joules(list(last.values()))


def _joules(readings: list[Reading]) -> dict[str, float]:
    found: dict[str, float] = {}
    for reading in readings:
        for kind in get_args(Kind):
            energy_j = reading.energy_j(kind)
            if energy_j is not None:
                found[kind] = found.get(kind, 0.0) + energy_j
    return found
