"""The ledger: what a run may spend on training, and what each phase of its method spent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from greenprune.bench.distributed.measuring import spent_everywhere
from greenprune.bench.energy import Reading
from greenprune.bench.energy.reading import KINDS, Kind, kinds_of_gpu, to_decide_by
from greenprune.bench.errors import UserError
from greenprune.bench.records import record
from greenprune.bench.suite.suite import Suite
from greenprune.bench.text import plural
from greenprune.bench.training.schedule import phase_ends
from greenprune.methods import find
from greenprune.methods.budget.limits import lowest


class OverdrawnError(RuntimeError):
    """A run spent more than the allowance that all methods share; the message says what and in which phase."""


@dataclass
class _Account:
    samples: int = 0
    forward_macs: int = 0
    duration_s: float = 0.0
    energy_j: dict[Kind, float] = field(default_factory=dict)
    unknown: set[Kind] = field(default_factory=set)  # kinds of which a part could not be read
    of_gpu: set[Kind] = field(default_factory=set)  # kinds that a GPU is a source of

    def add(self, reading: Reading) -> None:
        """The joules of `reading`."""
        self.of_gpu |= kinds_of_gpu([reading])
        for kind in KINDS:
            joules = reading.energy_j(kind)
            if joules is None:
                self.unknown.add(kind)
            else:
                self.energy_j[kind] = self.energy_j.get(kind, 0.0) + joules

    def add_rank(self, other: _Account, *, leads: bool) -> None:
        """The joules of another rank; `leads`: see `Ledger.add_energy`."""
        for kind in KINDS:
            if kind in other.energy_j and kind not in other.unknown:
                self.energy_j[kind] = self.energy_j.get(kind, 0.0) + other.energy_j[kind]
            elif leads or kind == "modelled":
                self.unknown.add(kind)

    def stored(self, phase: str) -> record.LedgerEntry:
        return record.LedgerEntry(
            phase=phase,
            samples=self.samples,
            forward_macs=self.forward_macs,
            duration_s=round(self.duration_s, 3),
            energy_j={kind: joules for kind, joules in self.energy_j.items() if kind not in self.unknown},
        )

    def state(self) -> dict[str, Any]:
        return {**vars(self), "unknown": sorted(self.unknown), "of_gpu": sorted(self.of_gpu)}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> _Account:
        sets = {name: set(state[name]) for name in ("unknown", "of_gpu")}
        return cls(**{**state, **sets, "energy_j": dict(state["energy_j"])})


class Ledger:
    """Charges every optimizer step of every phase to one allowance.

    Args:
        allowance_samples: training samples (images seen, repeats counted) that the whole run may use.
        allowance_forward_macs: multiply-accumulates that the training may execute, backward passes apart; None: any.
        allowance_j: joules that the training may take; None: any.
    """

    def __init__(
        self, allowance_samples: int, allowance_forward_macs: int | None = None, allowance_j: float | None = None
    ) -> None:
        self.allowance_samples = allowance_samples
        self.allowance_forward_macs = allowance_forward_macs
        self.allowance_j = allowance_j
        self._accounts: dict[str, _Account] = {}
        self._redone: _Account | None = None
        self._last_s = time.perf_counter()

    def resume_clock(self) -> None:
        """Time until now belongs to no phase (validation, for example)."""
        self._last_s = time.perf_counter()

    def charge(self, phase: str, *, samples: int, forward_macs: int) -> None:
        """Book one step: its samples, the multiply-accumulates it executed forward, and the time since the last.

        Raises:
            OverdrawnError: the allowance does not cover it.
        """
        if self.samples + samples > self.allowance_samples:
            raise OverdrawnError(
                f"phase {phase!r} asks for {plural(samples, 'sample')} after {self.samples} of {self.allowance_samples}: "
                "every method must stay within the same allowance"
            )
        account = self._accounts.setdefault(phase, _Account())
        now_s = time.perf_counter()
        account.samples += samples
        account.forward_macs += forward_macs
        account.duration_s += now_s - self._last_s
        self._last_s = now_s
        if self.allowance_forward_macs is not None and self.forward_macs > self.allowance_forward_macs:
            raise OverdrawnError(
                f"phase {phase!r} has overdrawn the allowance of {self.allowance_forward_macs:.4g} forward "
                f"multiply-accumulates after {plural(self.samples, 'sample')}; allow more, or train for fewer epochs"
            )

    def charge_again(self, *, samples: int, forward_macs: int, duration_s: float, reading: Reading) -> None:
        """Book what was, or is, done twice because the run was interrupted. It is no part of the allowance."""
        account = self._redone = self._redone or _Account()
        account.samples += samples
        account.forward_macs += forward_macs
        account.duration_s += duration_s
        account.add(reading)

    def charge_energy(self, phase: str, reading: Reading) -> None:
        """Book the joules of a stretch of training that lies within one phase.

        Raises:
            OverdrawnError: the allowance does not cover them, or they cannot be read although it is stated in joules.
        """
        self._accounts.setdefault(phase, _Account()).add(reading)
        if self.allowance_j is None:
            return
        spent_j = spent_everywhere(self._spent())
        if spent_j is None:
            raise OverdrawnError(
                f"the allowance is {self.allowance_j:g} J, but the energy of phase {phase!r} is unknown: no source could "
                "be read; state the allowance in samples or MACs on this machine"
            )
        if spent_j > self.allowance_j:
            raise OverdrawnError(
                f"phase {phase!r} has overdrawn the allowance of {self.allowance_j:g} J: {spent_j:.4g} J after "
                f"{plural(self.samples, 'sample')}; allow more, or train for fewer epochs"
            )

    @property
    def samples(self) -> int:
        return sum(a.samples for a in self._accounts.values())

    @property
    def forward_macs(self) -> int:
        return sum(a.forward_macs for a in self._accounts.values())

    def spent_j(self) -> float | None:
        """Joules of all phases, of the best kind known for all of them: measured, else sampled, else modelled; where a GPU took
        part, of the best that it is in."""
        return next(iter(self._spent().values()), None)

    def _spent(self) -> dict[Kind, float]:
        """Joules by kind, of those known for all phases, the one to decide by first."""
        found: dict[Kind, float] = {}
        for kind in to_decide_by({kind for a in self._accounts.values() for kind in a.of_gpu}):
            parts = [a.energy_j.get(kind) for a in self._accounts.values() if kind not in a.unknown]
            known = [j for j in parts if j is not None]
            if known and len(known) == len(self._accounts):
                found[kind] = sum(known)
        return found

    def add_energy(self, others: Sequence[tuple[dict[str, Any], bool]]) -> None:
        """Add the joules that other ranks of a training charged to the same phases.

        Args:
            others: the `state` of each, and whether it reads the sensors of its node, which the others of the node leave to it.
        """
        for state, leads in others:
            stored = {phase: _Account.restored(a) for phase, a in state["accounts"].items()}
            for phase, account in self._accounts.items():
                account.add_rank(stored[phase], leads=leads)
            if self._redone is not None and state["redone"] is not None:
                self._redone.add_rank(_Account.restored(state["redone"]), leads=leads)

    def stored(self) -> record.Ledger:
        return record.Ledger(
            allowance_samples=self.allowance_samples,
            allowance_forward_macs=self.allowance_forward_macs,
            allowance_j=self.allowance_j,
            entries=tuple(account.stored(phase) for phase, account in self._accounts.items()),
            redone=None if self._redone is None else self._redone.stored("redone"),
        )

    def totals(self) -> tuple[int, int, float]:
        """Samples, forward multiply-accumulates and seconds of all phases."""
        return self.samples, self.forward_macs, sum(a.duration_s for a in self._accounts.values())

    def state(self) -> dict[str, Any]:
        """What was charged, as plain data."""
        redone = None if self._redone is None else self._redone.state()
        return {"accounts": {phase: a.state() for phase, a in self._accounts.items()}, "redone": redone}

    def restore(self, state: dict[str, Any]) -> None:
        """Take on what `state` gave."""
        self._accounts = {phase: _Account.restored(a) for phase, a in state["accounts"].items()}
        self._redone = None if state["redone"] is None else _Account.restored(state["redone"])


def refuse_small_allowances(suite: Suite, steps_per_epoch: int) -> None:
    """Raise UserError where it is certain beforehand that the allowance does not suffice for a method of the suite.

    Energy cannot be known beforehand, nor how much a method saves while it trains; those overdraw while they run.
    """
    recipe, allowance = suite.training, suite.allowance
    steps = recipe.epochs * steps_per_epoch
    samples = steps * recipe.batch_size
    if allowance is not None and allowance.samples is not None and allowance.samples < samples:
        raise UserError(
            f"allowance.samples = {allowance.samples}: too small for training.epochs = {recipe.epochs}, which take "
            f"{plural(samples, 'image')}; allowed: at least {samples}, or fewer epochs"
        )
    for entry in suite.methods:
        method = find(entry.name)
        try:
            phases = method.phases(entry.options)
        except ValueError as e:
            raise UserError(f"methods: {entry.label}: {e}") from None
        start = 0
        for phase, end in zip(phases, phase_ends(phases, steps), strict=True):
            if end <= start and steps > 0:
                raise UserError(
                    f"methods: {entry.label}: its phase {phase.name!r} gets none of the {steps} optimizer steps of "
                    f"{plural(recipe.epochs, 'epoch')}; allowed: more epochs, a smaller batch_size, or other shares in its "
                    "options"
                )
            start = end
        least = None
        if not method.prunes or method.budget_unit == "connections":
            least = 1.0
        elif method.budget_unit == "macs" and suite.cost == "macs":
            least = lowest(max(suite.budgets), suite.tolerance, coarse=suite.round_to > 1)
        if allowance is not None and allowance.macs is not None and least is not None and allowance.macs < least:
            raise UserError(
                f"allowance.macs = {allowance.macs:g}: too small for {entry.label}, which takes at least {least:g} of the "
                f"dense network's for {plural(recipe.epochs, 'epoch')}; allowed: at least {least:g}, or fewer epochs"
            )
