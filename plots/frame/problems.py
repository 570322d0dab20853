"""What the reader of a result has to know, and what each single record has to confess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from greenprune.bench.energy.parts import adds_up
from greenprune.bench.energy.reading import Reading
from greenprune.bench.records.record import Record
from greenprune.bench.records.validity import AGREED, uncertain_budget

SHORTEST_S = {"nvml": 5.0}
"""Windows of a source whose name begins so should last so many seconds: 50 periods of a counter of 100 ms."""

SHORTEST_OTHERWISE_S = 1.0
"""Other counters and the kernel's CPU times move at least a hundred times in a second."""


@dataclass(frozen=True)
class Problem:
    """Something the reader of a result has to know.

    Attributes:
        kind: "unreadable", "failed", "invalid", "repeated", "energy", "warning" or the kind of a `Family` for one run;
            `greenprune.plots.frame.checks` adds others for a set of runs.
        where: the file, or the run as suite/key.
        what: one sentence without its full stop.
        remedy: what to do about it, one sentence without its full stop.
        detail: what is special about this run, where many have the same problem; may be empty.
    """

    kind: str
    where: str
    what: str
    remedy: str
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.kind}: {self.where}: {self.what}{detail}; {self.remedy}"


@dataclass(frozen=True)
class Family:
    """Warnings that mean the same, whatever figures are in them.

    Attributes:
        sign: text by which they are known.
        kind, what, remedy: as of a `Problem`; the warning itself becomes its detail.
    """

    sign: str
    kind: str
    what: str
    remedy: str


SHORT = Family(
    "expect an error of up to",
    "short window",
    "energy was read over a time that is short for its source",
    "raise inference_seconds in the suite, or train for longer, and run it again",
)

FAMILIES = (
    SHORT,
    Family(
        "slowed down by",
        "throttling",
        "the GPU slowed itself down, so that its times and joules are not those of a card at full speed",
        "see to its cooling and its power supply, and run it again",
    ),
    Family(
        "is not of this process tree",
        "shared GPU",
        "other processes were on the GPU, and its joules contain theirs",
        "run it again on a GPU that nobody else uses",
    ),
    Family(
        "the machine was shared",
        "shared machine",
        "others used the processor meanwhile: seconds and joules are too high",
        "run it again on a quiet machine; until then compare training by MACs, and inference by its ratios, which are "
        "measured side by side",
    ),
    Family(
        "counts the whole module",
        "whole module",
        "the joules of the GPU are those of the module that it is part of, with its CPU and memory",
        "compare it with runs on the same kind of module alone; `other_j` in the record is the GPU's own figure",
    ),
    Family(
        "every rank of this node",
        "several ranks",
        "several processes of one node read the same devices, so that their joules must not be added up",
        'let one report: EnergyMeter(ranks="one_per_node")',
    ),
    Family(
        "may have gone round unseen",
        "unseen energy",
        "nobody looked at an energy counter for so long that it may have gone round; the bounds hold that",
        "run it again without stopping it",
    ),
    Family(
        "the machine was suspended",
        "suspended",
        "the machine slept while energy was read",
        "run it again with the machine awake",
    ),
    Family(
        "integrated power",
        "sensors disagree",
        "the energy counter of the GPU and its power readings disagree",
        "run it again; where it happens again, `greenprune doctor` tells how this card is read",
    ),
)

KINDS_BY_WEIGHT = (
    "unreadable", "failed", "invalid", "repeated", "no reference", "unpaired", "mixed", "mixed machines", "few seeds",
    "no inference", "calibration", "uncertain budget", "energy", "throttling", "shared GPU", "shared machine",
    "sensors disagree", "short window",
)  # fmt: skip
"""The heaviest first; others come after these."""


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
    calibration = record.cost.calibration if record.cost else None
    if calibration is not None and (off := calibration.disagreement or 0.0) > AGREED:
        yield Problem(
            "calibration",
            where,
            f"the costs of layers and of whole networks disagree by {100 * off:.0f} % of the dense network's: the machine was "
            "busy while they were measured",
            f"remove results/{record.suite}/calibrations, and run it again on a quiet machine",
        )
    if record.valid and (said := uncertain_budget(record)):
        remedy = "run it again on a quiet machine, or with longer measurement.inference_seconds"
        yield Problem("uncertain budget", where, said, remedy)
    for name, reading in _readings(record):
        yield from _of_reading(where, name, reading)
    for check in record.crosscheck:
        if check.problem:
            yield Problem("cross-check", where, check.problem, "our own figures are not affected")
    for warning in record.warnings:
        yield _of_warning(where, warning, "treat the run's figures with care")


def _readings(record: Record) -> Iterator[tuple[str, Reading]]:
    """Every reading with its name. That of all inference together says nothing that its parts do not."""
    measured_at = {f"inference energy at batch {m.batch_size}": m for m in record.inference}
    for phase, reading in record.energy.items():
        if phase != "inference" or not measured_at:
            yield f"{phase} energy", reading
    for name, measured in measured_at.items():
        yield name, measured.energy
        yield f"{name}, dense", measured.dense_energy


def _of_reading(where: str, name: str, reading: Reading) -> Iterator[Problem]:
    for source in reading.sources:
        if not source.valid:
            what = f"{name}: {source.name} is invalid ({source.reason or 'no reason was recorded'})"
            lost = (
                f"no {source.kind} joules are shown for it; run it again" if adds_up(source.name) else "no sum needs it"
            )
            yield Problem("energy", where, what, lost)
    for warning in reading.warnings:
        yield _of_warning(where, f"{name}: {warning}", "treat the figure with care")
    if reading.name in ("evaluation", "redone"):  # no comparison rests on them
        return
    for source in reading.sources:
        shortest_s = next((s for name, s in SHORTEST_S.items() if source.name.startswith(name)), SHORTEST_OTHERWISE_S)
        said = any(w.startswith(f"{source.name}: ") and SHORT.sign in w for w in reading.warnings)
        if source.valid and reading.duration_s < shortest_s and not said:
            detail = f"{name}: {source.name} was read over {reading.duration_s:.2f} s, less than {shortest_s:g} s"
            yield Problem(SHORT.kind, where, SHORT.what, SHORT.remedy, detail)


def _of_warning(where: str, warning: str, remedy: str) -> Problem:
    for family in FAMILIES:
        if family.sign in warning:
            return Problem(family.kind, where, family.what, family.remedy, warning)
    return Problem("warning", where, warning, remedy)


def counted(problems: Iterable[Problem]) -> str:
    """ "failed (1), few seeds (2)", the heaviest first; empty without problems."""
    counts = Counter(problem.kind for problem in by_weight(problems))
    return ", ".join(f"{kind} ({count})" for kind, count in counts.items())


def unreadable(problems: Iterable[Problem]) -> list[str]:
    """A sentence for each file that could not be read: bad input, whatever else there is."""
    return [f"{problem.where}: {problem.what}" for problem in problems if problem.kind == "unreadable"]


def by_weight(problems: Iterable[Problem]) -> list[Problem]:
    """The heaviest first, otherwise in their order."""
    place = {kind: i for i, kind in enumerate(KINDS_BY_WEIGHT)}
    return sorted(problems, key=lambda problem: place.get(problem.kind, len(place)))
