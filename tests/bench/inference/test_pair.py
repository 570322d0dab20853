"""Latency of two networks side by side: the statistics against known numbers, and what is counted."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from greenprune.bench.energy import Reading, SourceReading
from greenprune.bench.energy.reading import CardState
from greenprune.bench.energy.total import add_readings
from greenprune.bench.inference import pair
from greenprune.bench.inference.pair import compare
from greenprune.bench.inference.repeat import ratio_interval
from torch import Tensor, nn

# The ratio


def test_the_ratio_is_the_geometric_mean_of_the_pairs() -> None:
    assert ratio_interval([1.0, 4.0], [2.0, 2.0])[0] == pytest.approx(1.0)  # of 1/2 and 2


def test_noise_that_both_of_a_pair_share_does_not_widen_the_interval() -> None:
    assert ratio_interval([3.0, 30.0, 0.3], [6.0, 60.0, 0.6]) == pytest.approx((0.5, 0.5, 0.5))


def test_the_interval_is_students_t_of_the_logarithms() -> None:
    """Of 5 pairs 2.776 standard errors, of very many 1.96."""
    logs = [0.1, -0.3, 0.2, 0.0, -0.1]
    ratio, low, high = ratio_interval([math.exp(x) for x in logs], [1.0] * 5)
    assert math.log(ratio) == pytest.approx(-0.02)
    error = math.sqrt(0.148 / 4 / 5)  # of the mean: squared distances from it add up to 0.148
    assert math.log(high / ratio) == pytest.approx(2.776 * error, rel=1e-3)
    assert math.log(ratio / low) == pytest.approx(2.776 * error, rel=1e-3)


def test_a_single_pair_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two pairs"):
        ratio_interval([1.0], [2.0])


# Sums of readings


def source(joules: float | None, name: str = "cpu", **others: Any) -> SourceReading:
    reason = "counter was reset" if joules is None else None
    return SourceReading(name=name, kind="modelled", energy_j=joules, valid=joules is not None, reason=reason, **others)


def block(*sources: SourceReading, duration_s: float = 0.25, warnings: tuple[str, ...] = ()) -> Reading:
    return Reading(name="block", duration_s=duration_s, sources=sources, warnings=warnings)


def test_joules_bounds_and_durations_are_added_source_by_source() -> None:
    total = add_readings(
        "all",
        [
            block(source(1.0, low_j=0.5, high_j=2.0), source(10.0, "ram"), duration_s=1.0, warnings=("hot", "slow")),
            block(source(2.0, low_j=1.5, high_j=4.0), source(20.0, "ram"), duration_s=2.0, warnings=("hot",)),
        ],
    )
    assert (total.name, total.duration_s, total.warnings) == ("all", 3.0, ("hot", "slow"))
    cpu, ram = total.sources
    assert (cpu.name, cpu.energy_j, cpu.low_j, cpu.high_j, cpu.valid) == ("cpu", 3.0, 2.0, 6.0, True)
    assert (ram.name, ram.energy_j, ram.low_j, ram.high_j, ram.valid) == ("ram", 30.0, None, None, True)


def test_idle_parts_and_sensor_errors_are_added_and_states_of_the_card_merged() -> None:
    parts = [
        source(10.0, idle_j=4.0, idle_uncertainty_j=0.5, sensor_error_j=0.6, card=CardState(temperature_max_c=c))
        for c in (60, 70)
    ]
    (total,) = add_readings("all", [block(part) for part in parts]).sources
    assert (total.net_j, total.idle_uncertainty_j, total.sensor_error_j) == (12.0, 1.0, 1.2)
    assert total.card == CardState(temperature_max_c=70)


@pytest.mark.parametrize("position", [0, 1])
def test_one_invalid_block_makes_its_source_invalid_and_leaves_the_others(position: int) -> None:
    blocks = [block(source(1.0), source(5.0, "ram")) for _ in range(2)]
    blocks[position] = block(source(None), source(5.0, "ram"))
    cpu, ram = add_readings("all", blocks).sources
    assert (cpu.energy_j, cpu.valid, cpu.reason) == (None, False, "counter was reset")
    assert (ram.energy_j, ram.valid) == (10.0, True)


def test_a_source_that_is_missing_in_a_block_is_invalid() -> None:
    (cpu,) = add_readings("all", [block(source(1.0)), block()]).sources
    assert (cpu.energy_j, cpu.valid, cpu.reason) == (None, False, "missing in one of the blocks")


# Side by side


class OneJoule:
    """A meter that finds one joule in every window, and knows whether one is open."""

    open = False

    @contextlib.contextmanager
    def window(self, name: str) -> Iterator[SimpleNamespace]:
        found = SimpleNamespace(reading=None)
        self.open = True
        yield found
        self.open = False
        found.reading = block(source(1.0))


class Counting(nn.Module):
    """Counts the images that pass while the meter's window is open."""

    def __init__(self, network: nn.Module, meter: OneJoule) -> None:
        super().__init__()
        self.network, self.meter = network, meter
        self.images = 0
        self.sizes: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        if self.meter.open:
            self.images += len(x)
            self.sizes.add(len(x))
        return self.network(x)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_much_smaller_network_is_faster_and_every_measured_image_is_counted(
    batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair, "CPU_BLOCK_S", 0.03)
    monkeypatch.setattr(pair, "RATIO_CI", 1e9)  # any interval is narrow enough: no block more than asked for
    meter: Any = OneJoule()
    small = Counting(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10)), meter)
    large = Counting(nn.Sequential(nn.Conv2d(3, 64, 3), *(nn.Conv2d(64, 64, 3) for _ in range(3))), meter)
    found = compare(
        small, large, torch.randn(16, 3, 32, 32), batch_size=batch_size, seconds=0.2, precision="float32", meter=meter
    )
    assert found.latency_ratio_low <= found.latency_ratio <= found.latency_ratio_high < 1
    assert found.latency.median_ms < found.dense_latency.median_ms
    assert (found.batch_size, found.blocks) == (batch_size, 7)  # 0.2 s of 0.03 s each
    assert (found.images, found.dense_images) == (small.images, large.images)
    assert small.sizes == large.sizes == {batch_size}
    assert (found.energy.energy_j("modelled"), found.dense_energy.energy_j("modelled")) == (7.0, 7.0)
    for latency, images in ((found.latency, found.images), (found.dense_latency, found.dense_images)):
        assert latency.p05_ms <= latency.median_ms <= latency.p95_ms <= (latency.p99_ms or 0)
        assert latency.throughput_images_per_s is not None
        # No more than the fastest pass would give, no less than the slowest percentiles allow.
        assert latency.throughput_images_per_s <= batch_size / (latency.p05_ms / 1e3) * 1.2
        assert images / latency.throughput_images_per_s < 60
    assert found.energy_j_per_1000_images == {"modelled": pytest.approx((7000 / small.images,) * 3)}
    assert found.dense_energy_j_per_1000_images == {"modelled": pytest.approx((7000 / large.images,) * 3)}
    joules_per_image = 7 / small.images, 7 / large.images
    assert found.energy_ratio["modelled"] == pytest.approx([joules_per_image[0] / joules_per_image[1]] * 3)


def test_a_ratio_that_is_not_tight_goes_on_for_twice_the_seconds_and_no_longer(monkeypatch) -> None:
    monkeypatch.setattr(pair, "CPU_BLOCK_S", 0.01)
    monkeypatch.setattr(pair, "RATIO_CI", -1.0)  # never reached
    meter: Any = OneJoule()
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    found = compare(
        network, network, torch.randn(2, 3, 8, 8), batch_size=2, seconds=0.06, precision="float32", meter=meter
    )
    assert found.blocks == 12


def test_percentiles_and_throughput_of_known_latencies() -> None:
    blocks = [pair._Block(tuple(float(i) for i in part), block()) for part in (range(51), range(51, 101))]
    latency = pair._summary(blocks, batch_size=10)
    assert (latency.p05_ms, latency.median_ms, latency.p95_ms, latency.p99_ms) == pytest.approx((5, 50, 95, 99))
    assert latency.throughput_images_per_s == pytest.approx(10 * 101 / 5.050)


def test_joules_per_thousand_images_have_their_bounds_and_leave_out_invalid_kinds() -> None:
    reading = block(source(4.0, low_j=2.0, high_j=10.0))
    assert pair.per_1000_images(reading, 500) == {"modelled": (8.0, 4.0, 20.0)}
    assert pair.per_1000_images(block(source(None)), 500) == {}
