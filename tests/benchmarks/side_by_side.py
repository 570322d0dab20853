"""One benchmark: a subject measured side by side with its reference, and compared with the last saved run."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest
from greenprune.bench.energy import EnergyMeter

from tests.benchmarks.blocks import Pairs
from tests.benchmarks.ratios import Change, change
from tests.benchmarks.saved import KEY, Figures

if TYPE_CHECKING:
    from tests.benchmarks.plugin import Gate

WARM_UP_CALLS = 2
FIXED = (
    "references.py",
    "blocks.py",
    "side_by_side.py",
)  # beside the benchmark's own file: they decide what is measured


@dataclass(frozen=True)
class Outcome:
    """A benchmark against its saved run. `changes`: by what was compared, "CPU time" or "modelled joules"."""

    name: str
    baseline: str | None  # name of the saved file
    changes: dict[str, Change]
    note: str = ""  # why something was not compared
    lost: str = ""  # what the saved run had and this one has not

    def longer(self, tolerance: float) -> int:
        """How many times the rounds it takes: what is unclear goes on, and what regressed has to be confirmed."""
        unclear, regressed = (
            any(says(change, tolerance) for change in self.changes.values())
            for says in (Change.unclear, Change.regressed)
        )
        return 3 if unclear else 2 if regressed else 1

    def failure(self, tolerance: float) -> str | None:
        """Why the benchmark fails, in one line; None when it passes."""
        rose = [f"{what} to {c} ×" for what, c in self.changes.items() if c.regressed(tolerance)]
        parts = [self.lost] if self.lost else []
        if rose:
            parts.append(
                f"{' and '.join(rose)} that of {self.baseline}; tolerated is {1 + tolerance:g} × "
                "(relative to the reference workload of each session; 95 % interval)"
            )
        return f"{self.name}: {'; '.join(parts)}" if parts else None

    def sentence(self, tolerance: float) -> str:
        """What happened, in one line."""
        changes = ", ".join(f"{what} × {c}" for what, c in self.changes.items())
        against = f"{changes} since {self.baseline}" if changes else ""
        wide = any(c.unclear(tolerance) for c in self.changes.values()) and not self.failure(tolerance)
        unclear = "too noisy to rule a regression out" if wide else ""
        return "; ".join(part for part in (against, unclear, self.note, self.lost) if part)


class SideBySide:
    """Runs one benchmark. What is attached to the JSON as `extra_info` is per round, that is per call of the subject."""

    def __init__(self, benchmark: Any, gate: Gate | None, meter: EnergyMeter, source: Path) -> None:
        self._benchmark, self._gate, self._meter = benchmark, gate, meter
        files = [source, *(Path(__file__).with_name(name) for name in FIXED)]
        self._fingerprint = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]

    def __call__(
        self,
        subject: Callable[[], object],
        reference: Callable[[], object],
        *,
        images: int | None = None,
        macs: int | None = None,
    ) -> None:
        """Measure, attach, compare; the test fails where CPU time or joules rose by more than is tolerated.

        Args:
            subject: what is measured; does the same work at each call, some tens of milliseconds.
            reference: from `references`, about as long.
            images: how many go through one call of the subject; None where there are none.
            macs: forward multiply-accumulates of one call; None where there are none.
        """
        gate = self._gate
        if gate is None or self._benchmark.disabled:
            self._benchmark.pedantic(subject)
            return
        for _ in range(WARM_UP_CALLS):
            reference()
            subject()
        pairs = Pairs(subject, reference, self._meter)
        gc.collect()
        gc.disable()  # a collection takes as long as a round, and hits one of them
        try:
            self._benchmark.pedantic(pairs.run_subject, setup=pairs.run_reference, rounds=gate.rounds)
            del pairs.subjects[gate.rounds :], pairs.references[gate.rounds :]  # of --benchmark-cprofile
            pairs.run_reference()
            outcome = self._compare(pairs)
            while len(pairs.subjects) < outcome.longer(gate.tolerance) * gate.rounds:
                for _ in range(gate.rounds // 3):
                    pairs.run_subject()
                    pairs.run_reference()
                outcome = self._compare(pairs)
        finally:
            gc.enable()
        self._attach(pairs, images, macs)
        gate.outcomes.append(outcome)
        if failure := outcome.failure(gate.tolerance):
            pytest.fail(failure, pytrace=False)

    def _figures(self, pairs: Pairs) -> Figures:
        energy_ratios = pairs.energy_ratios()
        return Figures(
            fingerprint=self._fingerprint,
            cpu_ratios=tuple(pairs.cpu_ratios()),
            energy_ratios=None if energy_ratios is None else tuple(energy_ratios),
            energy_kind=pairs.energy_kind(),
        )

    def _compare(self, pairs: Pairs) -> Outcome:
        assert self._gate is not None
        name = self._benchmark.fullname
        new = self._figures(pairs)
        found = self._gate.saved().find(name, self._fingerprint)
        if found is None:
            return Outcome(name, None, {}, "no saved run of this benchmark as it is now; this one is saved")
        file, old = found
        changes = {"CPU time": change(new.cpu_ratios, old.cpu_ratios)}
        if new.energy_kind != old.energy_kind:
            note = f"joules not compared, they are {new.energy_kind} and in {file} {old.energy_kind}"
            return Outcome(name, file, changes, note)
        if old.energy_ratios is None:
            return Outcome(name, file, changes, f"joules not compared, there are none in {file}")
        if new.energy_ratios is None:
            return Outcome(name, file, changes, lost=f"no joules, which {file} has: {pairs.energy_problem()}")
        return Outcome(
            name, file, changes | {f"{new.energy_kind} joules": change(new.energy_ratios, old.energy_ratios)}
        )

    def _attach(self, pairs: Pairs, images: int | None, macs: int | None) -> None:
        energies_j = pairs.energies_j(pairs.subjects)
        self._benchmark.extra_info.update(
            {
                "images": images,
                "macs": macs,
                "images_per_s": None if images is None else images / median(b.wall_s for b in pairs.subjects),
                "cpu_s": median(b.cpu_s for b in pairs.subjects),
                "energy_j": None if energies_j is None else median(energies_j),
                "energy_kind": pairs.energy_kind(),
                KEY: self._figures(pairs).model_dump(mode="json"),
            }
        )
