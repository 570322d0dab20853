"""Blocks of a subject and of its reference in turn, with their CPU time and joules."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from greenprune.bench.energy import EnergyMeter, Reading
from greenprune.bench.energy.reading import Kind

from tests.benchmarks.ratios import paired_ratios


@dataclass(frozen=True)
class Block:
    """One call. CPU time is that of this process, all its threads: what else runs on the machine does not enter."""

    cpu_s: float
    wall_s: float
    reading: Reading


@dataclass
class Pairs:
    """What was measured of a subject and its reference, in the order reference, subject, reference, ..., reference."""

    subject: Callable[[], object]
    reference: Callable[[], object]
    meter: EnergyMeter
    subjects: list[Block] = field(default_factory=list)
    references: list[Block] = field(default_factory=list)

    def run_subject(self) -> None:
        self.subjects.append(self._run(self.subject))

    def run_reference(self) -> None:
        self.references.append(self._run(self.reference))

    def _run(self, call: Callable[[], object]) -> Block:
        with self.meter.window("block") as window:
            wall_s, cpu_s = time.perf_counter(), _cpu_s()
            call()
            cpu_s, wall_s = _cpu_s() - cpu_s, time.perf_counter() - wall_s
        return Block(cpu_s, wall_s, window.reading)

    def cpu_ratios(self) -> list[float]:
        """CPU time of each block of the subject over that of the reference beside it."""
        return paired_ratios([b.cpu_s for b in self.subjects], [b.cpu_s for b in self.references])

    def energy_kind(self) -> Kind:
        """ "measured" where the processor has a counter, else "modelled"."""
        kinds = {source.kind for source in self.references[0].reading.sources}
        return "measured" if "measured" in kinds else "modelled"

    def energies_j(self, blocks: list[Block]) -> list[float] | None:
        """Joules of each block; None when a source failed, or its counter stood still."""
        kind = self.energy_kind()
        known = [energy_j for b in blocks if (energy_j := b.reading.energy_j(kind)) is not None and energy_j > 0]
        return known if len(known) == len(blocks) else None

    def energy_problem(self) -> str:
        """Why there are no joules."""
        sources = [source for b in (*self.references, *self.subjects) for source in b.reading.sources]
        return next((f"{s.name}: {s.reason}" for s in sources if not s.valid), "the counter stood still")

    def energy_ratios(self) -> list[float] | None:
        """Joules of each block of the subject over those of the reference beside it; None as in `energies_j`."""
        subjects, references = self.energies_j(self.subjects), self.energies_j(self.references)
        return None if subjects is None or references is None else paired_ratios(subjects, references)


def _cpu_s() -> float:
    """CPU time of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
