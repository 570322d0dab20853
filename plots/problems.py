"""What the reader of a result has to know, and what each single record has to confess."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.record import Record


@dataclass(frozen=True)
class Problem:
    """Something the reader of a result has to know.

    Attributes:
        kind: "unreadable", "failed", "invalid", "repeated", "energy" or "warning" for one run; `plots.checks` adds
            others for a set of runs.
        where: the file, or the run as suite/key.
        what: one sentence without its full stop.
        remedy: what to do about it, one sentence without its full stop.
    """

    kind: str
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}; {self.remedy}"


def problems_of(record: Record) -> Iterator[Problem]:
    """What one readable record has to confess."""
    where = f"{record.suite}/{record.key}"
    if record.status == "failed":
        reason = record.failure.reason if record.failure else "no reason was recorded"
        yield Problem("failed", where, reason, "its last output is in the record; run the suite again to retry it")
        return
    if not record.valid:
        reason = record.invalid_reason or "no reason was recorded"
        yield Problem("invalid", where, reason, "it is marked, and kept out of means and of comparisons with dense")
    readings = [(f"{phase} energy", reading) for phase, reading in record.energy.items()]
    for measured in record.inference:
        at = f"inference energy at batch {measured.batch_size}"
        readings += [(at, measured.energy), (f"{at}, dense", measured.dense_energy)]
    for name, reading in readings:
        for source in reading.sources:
            if not source.valid:
                what = f"{name}: {source.name} is invalid ({source.reason or 'no reason was recorded'})"
                yield Problem("energy", where, what, f"no {source.kind} joules are shown for it; run it again")
        for warning in reading.warnings:
            yield Problem("warning", where, f"{name}: {warning}", "treat the figure with care")
    for check in record.crosscheck:
        if check.problem:
            yield Problem("cross-check", where, check.problem, "our own figures are not affected")
    for warning in record.warnings:
        yield Problem("warning", where, warning, "treat the run's figures with care")
