"""What an energy window returns. Plain data: importable without torch, stored as it is in a record."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, get_args

from greenprune.bench.energy.parts import adds_up, part_of
from greenprune.bench.energy.units import PerUnit
from pydantic import BaseModel, ConfigDict

Kind = Literal["measured", "sampled", "modelled"]
"""measured: an energy counter (NVML, RAPL). sampled: integrated power. modelled: no sensor, CPU time x watts."""

KINDS: tuple[Kind, ...] = get_args(Kind)
"""From the best kind of joules to the least."""


Scope = Literal["gpu", "module"]
"""What a GPU's figure covers: the GPU, or the module that it is part of (with a CPU and its memory, as on GH200)."""


class CardState(BaseModel):
    """How a GPU was while a window was open; None where neither the card nor the driver tells."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sm_clock_min_mhz: float | None = None
    sm_clock_max_mhz: float | None = None
    temperature_max_c: float | None = None
    power_limit_w: float | None = None
    throttled: tuple[str, ...] = ()  # why the card slowed down, e.g. "heat"
    other_pids: tuple[int, ...] = ()  # processes on the card that are not of this process tree


class SourceReading(BaseModel):
    """Energy of one source in one window.

    `energy_j` is None exactly when `valid` is False; `reason` then says why. `low_j` and `high_j` bound the figure
    (for a counter: quantisation; for a model: the range of its assumptions). Three uncertainties are kept apart:
    `uncertainty_j` (from those bounds), `sensor_error_j` (the sensor is off by a constant factor; it cancels in ratios
    of one sensor, and repeating does not reduce it), and the statistical one, which only repeats can show
    (`greenprune.bench.inference.repeat`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # "nvml:0", "rapl:package-0", "cpu", "ram"
    kind: Kind
    energy_j: float | None
    low_j: float | None = None
    high_j: float | None = None
    valid: bool = True
    reason: str | None = None
    note: str | None = None  # e.g. "12.3 W per busy core, from CodeCarbon's TDP table"
    sensor_error_j: float | None = None  # largest systematic error that was published for such a sensor; None: unknown
    idle_j: float | None = None  # idle power x duration, once `EnergyMeter` knows the source's idle power
    idle_uncertainty_j: float | None = None
    card: CardState | None = None
    basis: str | None = None  # which of the source's sensors counts, and why; what the others say
    other_j: float | None = None  # what the sensor that does not count says of the same window
    scope: Scope | None = None  # what a GPU's figure covers

    @property
    def uncertainty_j(self) -> float | None:
        """Distance from `energy_j` to the further of its bounds: the truth, as far as this source's sensor or model
        goes, is within `energy_j` +- this. None for an invalid reading, 0 where there are no bounds."""
        if self.energy_j is None:
            return None
        low_j = self.energy_j if self.low_j is None else self.low_j
        high_j = self.energy_j if self.high_j is None else self.high_j
        return max(self.energy_j - low_j, high_j - self.energy_j, 0.0)

    @property
    def net_j(self) -> float | None:
        """Energy above idle: gross - idle power x duration. None while the idle power is unknown, and for a model,
        which counts this process tree's work alone and so has no idle part."""
        return None if self.energy_j is None or self.idle_j is None else self.energy_j - self.idle_j

    @property
    def net_uncertainty_j(self) -> float | None:
        """As `uncertainty_j`, of `net_j`: the uncertainties of the window and of the idle baseline added up."""
        if self.net_j is None or self.uncertainty_j is None:
            return None
        return self.uncertainty_j + (self.idle_uncertainty_j or 0.0)


class Reporter(BaseModel):
    """Which of the processes that a launcher started on one node reports the node's energy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str
    local_rank: int
    local_size: int | None  # None: the launcher does not tell
    origin: str  # the variables that told, e.g. "LOCAL_RANK"
    reports: bool  # whether this process is the one


class Total(BaseModel):
    """The energy of all sources of one kind, or of those that could be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    energy_j: float
    low_j: float
    high_j: float
    missing: dict[str, str] = {}
    """Sensors that are not in it, and why. Empty: the total is whole."""

    @property
    def name(self) -> str:
        """`measured`, or `measured, without nvml:1`."""
        return f"{self.kind}, without {', '.join(self.missing)}" if self.missing else self.kind


class Reading(BaseModel):
    """Everything that was read in one window.

    Kinds are never added to one another, and what covers the whole machine is never added to its parts: the sums below
    leave it out (`greenprune.bench.energy.parts`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    duration_s: float
    sources: tuple[SourceReading, ...] = ()
    warnings: tuple[str, ...] = ()
    units: dict[str, float] = {}  # what was done meanwhile, counted: {"tokens": 1000}
    reporter: Reporter | None = None  # None: a process that no launcher started beside others

    def total(self, kind: Kind) -> Total | None:
        """Joules of the sources of `kind` that could be read, with the sensors that are missing in it; None when none
        could be read.

        A sensor that failed is missing in the totals of all sensors: what it would have been, counter or integrated
        power, is not known.
        """
        read = [s for s in self._summed(kind) if s.energy_j is not None]
        if not read:
            return None
        kinds: tuple[Kind, ...] = ("modelled",) if kind == "modelled" else ("measured", "sampled")
        sensors = [s for each in kinds for s in self._summed(each)]
        return Total(
            kind=kind,
            energy_j=sum(s.energy_j for s in read),  # type: ignore[misc]
            low_j=sum(s.energy_j if s.low_j is None else s.low_j for s in read),  # type: ignore[misc]
            high_j=sum(s.energy_j if s.high_j is None else s.high_j for s in read),  # type: ignore[misc]
            missing={s.name: s.reason or "invalid" for s in sensors if s.energy_j is None},
        )

    def energy_j(self, kind: Kind) -> float | None:
        """Joules of all sources of `kind`; None when there is none, or when one of them is invalid (see `total`)."""
        return _sum_of_all([s.energy_j for s in self._summed(kind)])

    def net_j(self, kind: Kind) -> float | None:
        """Joules above idle of all sources of `kind`; None as in `energy_j`, or when an idle power is unknown."""
        return _sum_of_all([s.net_j for s in self._summed(kind)])

    def uncertainty_j(self, kind: Kind) -> float | None:
        """Distance from `energy_j(kind)` to the further of `bounds_j(kind)`; None as in `energy_j`."""
        energy_j, bounds_j = self.energy_j(kind), self.bounds_j(kind)
        if energy_j is None or bounds_j is None:
            return None
        return max(energy_j - bounds_j[0], bounds_j[1] - energy_j, 0.0)

    def bounds_j(self, kind: Kind) -> tuple[float, float] | None:
        """Sum of the low and of the high bounds of all sources of `kind`, None as in `energy_j`."""
        total = self.total(kind)
        return None if total is None or self.energy_j(kind) is None else (total.low_j, total.high_j)

    def per_unit(self, kind: Kind) -> tuple[PerUnit, ...]:
        """Joules per token, image, request of what was counted; empty as `energy_j` is None, and without a count of 0."""
        energy_j, bounds_j = self.energy_j(kind), self.bounds_j(kind)
        if energy_j is None or bounds_j is None:
            return ()
        return tuple(
            PerUnit(
                unit=unit,
                count=count,
                j_per_unit=energy_j / count,
                low_j_per_unit=bounds_j[0] / count,
                high_j_per_unit=bounds_j[1] / count,
            )
            for unit, count in self.units.items()
            if count
        )

    def whole_machine(self) -> tuple[SourceReading, ...]:
        """The sources that cover the whole machine or a part of it that others count too, such as power meters. They are in
        no sum."""
        return tuple(s for s in self.sources if not adds_up(s.name))

    def _summed(self, kind: Kind) -> list[SourceReading]:
        return [s for s in self.sources if s.kind == kind and adds_up(s.name)]


def kinds_of_gpu(readings: Iterable[Reading]) -> set[Kind]:
    """The kinds of joules that a GPU is a source of, whether it could be read or not."""
    return {s.kind for r in readings for s in r.sources if adds_up(s.name) and part_of(s.name) == "gpu"}


def to_decide_by(of_gpu: Collection[Kind]) -> tuple[Kind, ...]:
    """From the kind of joules to decide by to the least: as `KINDS`, but those that a GPU is a source of before the others.

    A GPU takes most of what its machine takes for a training. A counter of the processor beside one whose power is sampled
    says little of it.
    """
    return tuple(sorted(KINDS, key=lambda kind: kind not in of_gpu))


def merge_cards(states: Iterable[CardState | None]) -> CardState | None:
    """The state over several windows: extremes of what is a number, everything that happened in one of them."""
    known = [state for state in states if state is not None]
    if not known:
        return None
    return CardState(
        sm_clock_min_mhz=min((s.sm_clock_min_mhz for s in known if s.sm_clock_min_mhz is not None), default=None),
        sm_clock_max_mhz=max((s.sm_clock_max_mhz for s in known if s.sm_clock_max_mhz is not None), default=None),
        temperature_max_c=max((s.temperature_max_c for s in known if s.temperature_max_c is not None), default=None),
        power_limit_w=known[-1].power_limit_w,
        throttled=tuple(dict.fromkeys(reason for s in known for reason in s.throttled)),
        other_pids=tuple(sorted({pid for s in known for pid in s.other_pids})),
    )


def _sum_of_all(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if parts and len(known) == len(parts) else None
