"""What a sum of readings says of its source is true of the sum, and not of the first part alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from greenprune.bench.energy.beside import beside
from greenprune.bench.energy.reading import Reading, SourceReading
from greenprune.bench.energy.total import add_readings, as_before


def part(**of_source: Any) -> Reading:
    source = SourceReading(**({"name": "nvml:0", "kind": "measured", "energy_j": 100.0} | of_source))
    return Reading(name="block", duration_s=1.0, sources=(source,))


def one_after_the_other(parts: Sequence[Reading]) -> SourceReading:
    return add_readings("all", parts).sources[0]


def at_the_same_time(parts: Sequence[Reading]) -> SourceReading:
    return beside([("", reading) for reading in parts]).sources[0]


both = pytest.mark.parametrize("total", [one_after_the_other, at_the_same_time])
Sum = Callable[[Sequence[Reading]], SourceReading]


@both
def test_what_the_other_sensor_says_is_added_up(total: Sum) -> None:
    assert total([part(other_j=50.0), part(other_j=60.0)]).other_j == 110.0
    assert total([part(other_j=50.0), part()]).other_j is None


@both
@pytest.mark.parametrize("key", ["basis", "note"])
def test_what_is_said_of_one_part_is_not_said_of_the_sum(total: Sum, key: str) -> None:
    def said(*texts: str | None) -> str | None:
        return getattr(total([part(**{key: text}) for text in texts]), key)

    assert said("a counter", "a counter") == "a counter"
    assert said(None, None) is None
    assert said("counter says 100.0 J", "counter says 90.0 J", None) == "of 3 parts; the first: counter says 100.0 J"
    assert said("of 3 parts; the first: a", "b") == "of 4 parts; the first: a"  # a sum of sums
    assert said("of 2 parts; the first: a", "of 2 parts; the first: a") == "of 4 parts; the first: a"


@both
def test_what_a_figure_covers_is_known_where_it_is_one_thing(total: Sum) -> None:
    assert total([part(scope="gpu"), part(scope="gpu")]).scope == "gpu"
    assert total([part(scope="gpu"), part(scope="module")]).scope is None


@both
def test_a_sum_that_is_invalid_says_why_and_nothing_of_a_part(total: Sum) -> None:
    gone = part(energy_j=None, valid=False, reason="gone")
    found = total([part(other_j=50.0, basis="counter says 100.0 J"), gone])
    assert (found.energy_j, found.valid, found.reason) == (None, False, "gone")
    assert (found.other_j, found.basis, found.note) == (None, None, None)
    assert "in another way" in (total([part(), part(kind="sampled")]).reason or "")


def test_a_source_that_only_a_later_part_has_is_missing_in_the_sum_and_not_gone() -> None:
    nvml, cpu = add_readings("all", [part(), part(name="rapl:package-0")]).sources
    assert (nvml.valid, cpu.name, cpu.valid) == (False, "rapl:package-0", False)
    assert nvml.reason == cpu.reason == "missing in one of the blocks"


# On other GPUs after an interruption


def on(*gpus: str, kind: str = "measured") -> Reading:
    """A joule of each, and one of the CPU."""
    sources = [SourceReading(name=name, kind=kind, energy_j=1.0) for name in (*gpus, "rapl:package-0")]  # type: ignore[arg-type]
    return Reading(name="training", duration_s=1.0, sources=tuple(sources))


def test_what_went_on_on_other_gpus_is_added_up_and_said() -> None:
    before = on("nvml:0", "nvml:1")
    for _ in range(2):  # twice on the same other ones: they are told once
        total = before = add_readings("training", [before, as_before(before, on("nvml:3", "nvml:1"))])
    assert {s.name: s.energy_j for s in total.sources} == {"nvml:0": 3.0, "nvml:1": 3.0, "rapl:package-0": 3.0}
    assert total.warnings == (
        "nvml:0: the work went on on nvml:3 after an interruption, and these are the joules of both",
    )


def test_gpus_stay_what_they_are_called_where_they_are_the_same_or_other_ones_by_number_or_kind() -> None:
    before = on("nvml:0", "nvml:1")
    for now in (on("nvml:1", "nvml:0"), on("nvml:2"), on("nvml:2", "nvml:3", kind="sampled")):
        assert as_before(before, now) is now
