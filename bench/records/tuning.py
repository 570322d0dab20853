"""What `greenprune tune` stores: every trial of a method's options, and what the search has cost.

Plain data: importable without torch, so that `plots/` can read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from greenprune.bench.energy.parts import adds_up, part_of
from greenprune.bench.energy.reading import Kind, Reading, kinds_of_gpu, to_decide_by
from greenprune.bench.errors import UserError
from greenprune.bench.records.identity import Identity
from greenprune.bench.records.record import Ledger
from greenprune.bench.records.score import Score
from greenprune.bench.records.stored import Stored, read_json, why_broken, write_atomically
from pydantic import ValidationError

TUNE_FILE = "tune.json"
TUNE_SCHEMA_VERSION = 1


class Spent(Stored):
    """What a training took."""

    ledger: Ledger
    energy: Reading


class Trial(Stored):
    """One training with one choice of options."""

    number: int  # from 0, in the order of the search; 0 are the suite's own options
    options: dict[str, Any]  # those that the search chooses
    status: Literal["done", "failed"]
    reason: str | None = None  # why it failed, or why its result is invalid
    holdout_score: float | None = None  # of the finished network on the held-out images
    kept: float | None = (
        None  # achieved fraction of what the budget counts, on held-out images where it depends on them
    )
    spent: Spent | None = None  # None: failed, so that its ledger is lost
    ended_outside: bool = False  # by a signal: that says nothing about the options, and the trial is repeated
    duration_s: float  # of the whole process
    warnings: tuple[str, ...] = ()
    machine: dict[str, Any] | None = None  # where it is another than the search began on

    @property
    def eligible(self) -> bool:
        """Whether it may win: it has a result, and kept its budget."""
        return self.status == "done" and self.reason is None

    def energy_j(self, kind: Kind) -> float | None:
        """Joules of its training; None where it has none of this kind, or a sensor of them failed."""
        return None if self.spent is None else self.spent.energy.energy_j(kind)

    def parts(self, kind: Kind) -> list[str]:
        """The parts of the machine that its joules of this kind are of, each as often as it has a source."""
        sources = () if self.spent is None else self.spent.energy.sources
        return sorted(part_of(source.name) for source in sources if source.kind == kind and adds_up(source.name))


class Tuning(Stored):
    """The search for one method's options at one budget and seed; the test set has no part in it."""

    schema_version: int = TUNE_SCHEMA_VERSION
    suite: str
    method: str  # label within the suite
    method_name: str
    budget: float
    seed: int
    settings: dict[str, Any]  # of the trials, as in a record; options: the suite's own, kept by all trials
    score: Score  # that decides
    holdout_images: int
    space: dict[str, tuple[Any, ...]]  # the values that options were chosen from
    machine: dict[str, Any]  # that it began on
    identity: Identity | None = None  # what its trials are made of, the data without test images; None: not recorded
    command: str
    trials: tuple[Trial, ...] = ()

    @property
    def pair(self) -> tuple[str, str]:
        """The data set and the network."""
        return str(self.settings.get("dataset", "")), str(self.settings.get("model", ""))

    @property
    def best(self) -> Trial | None:
        """The eligible trial of the best score on the held-out images, the earlier one of equals."""
        return next((trial for trial in self.ranked if trial.eligible and trial.holdout_score is not None), None)

    @property
    def standard_error(self) -> float:
        """Of the best accuracy on so many held-out images; 0 of other scores, whose error the score does not tell."""
        best = self.best
        if best is None or best.holdout_score is None or self.score.name != "accuracy" or not self.score.share:
            return 0.0
        return math.sqrt(best.holdout_score * (1 - best.holdout_score) / self.holdout_images)

    @property
    def level(self) -> list[Trial]:
        """The eligible trials within one standard error of the best, the best of them first."""
        best = self.best
        if best is None or best.holdout_score is None:
            return []
        return [
            trial
            for trial in self.ranked
            if trial.eligible
            and trial.holdout_score is not None
            and abs(trial.holdout_score - best.holdout_score) <= self.standard_error
        ]

    @property
    def comparable_kind(self) -> Kind | None:
        """The best kind of joules that all trials of `level` have, of the same parts of one machine; with a GPU the best that
        it is in. None: there is none, and which of them took the least is not known."""
        level = self.level
        if not level or any(trial.machine != level[0].machine for trial in level):
            return None
        readings = [trial.spent.energy for trial in level if trial.spent is not None]
        return next((kind for kind in to_decide_by(kinds_of_gpu(readings)) if _alike(level, kind)), None)

    @property
    def chosen(self) -> Trial | None:
        """Of the trials of `level` the one whose training took the fewest joules; the best where they cannot be compared."""
        kind = self.comparable_kind
        if kind is None:
            return self.best

        def joules(trial: Trial) -> float:
            energy_j = trial.energy_j(kind)
            return math.inf if energy_j is None else energy_j

        return min(self.level, key=joules)

    @property
    def ranked(self) -> list[Trial]:
        """The eligible trials first, the best of them first; the earlier one of equals."""
        sign = -1.0 if self.score.higher_is_better else 1.0

        def place(trial: Trial) -> tuple[bool, float, int]:
            score = math.inf if trial.holdout_score is None else sign * trial.holdout_score
            return not trial.eligible, score, trial.number

        return sorted(self.trials, key=place)

    @property
    def ledgers(self) -> list[Ledger]:
        return [trial.spent.ledger for trial in self.trials if trial.spent is not None]

    @property
    def samples(self) -> int:
        return sum(ledger.samples for ledger in self.ledgers)

    @property
    def forward_macs(self) -> int:
        return sum(ledger.forward_macs for ledger in self.ledgers)

    @property
    def duration_s(self) -> float:
        """Seconds of training, failed trials with all their seconds."""
        failed = sum(trial.duration_s for trial in self.trials if trial.spent is None)
        return failed + sum(entry.duration_s for ledger in self.ledgers for entry in ledger.entries)

    def energy_j(self, kind: Kind) -> float | None:
        """Joules of all trials that have a ledger; None where one of them lacks this kind."""
        parts = [trial.spent.energy.energy_j(kind) for trial in self.trials if trial.spent is not None]
        known = [joules for joules in parts if joules is not None]
        return sum(known) if known and len(known) == len(parts) else None


def _alike(trials: list[Trial], kind: Kind) -> bool:
    """Whether all have joules of this kind, of the same parts of the machine."""
    return all(trial.energy_j(kind) is not None and trial.parts(kind) == trials[0].parts(kind) for trial in trials)


def write_tuning(tuning: Tuning, folder: Path) -> Path:
    """Write `folder/tune.json` atomically."""
    return write_atomically(folder / TUNE_FILE, tuning.model_dump_json(indent=1) + "\n")


def read_tuning(path: Path) -> Tuning:
    """Read one search.

    Raises:
        UserError: unreadable, of another schema, or not a search; the sentence names the file.
    """
    try:
        data = read_json(path)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror or e})") from None
    except (ValueError, RecursionError) as e:
        raise UserError(
            f"{path}: not a search of `greenprune tune`, its JSON is broken ({why_broken(e)}); delete it"
        ) from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != TUNE_SCHEMA_VERSION:
        raise UserError(f"{path}: schema_version = {version}; allowed: {TUNE_SCHEMA_VERSION}; tune again elsewhere")
    try:
        return Tuning.model_validate(data)
    except ValidationError as e:
        where = ".".join(str(part) for part in e.errors()[0]["loc"])
        raise UserError(f"{path}: {where}: {e.errors()[0]['msg']}; not a search of `greenprune tune`") from None


def tuning_files(folder: Path) -> Iterable[Path]:
    """The searches in a results folder, a suite's folder or a search's own, sorted."""
    return sorted(path for pattern in ("", "*/", "*/*/") for path in folder.glob(f"{pattern}{TUNE_FILE}"))
