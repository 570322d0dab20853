"""What a finished run tells about energy beside its totals: the power log, the sources, throughput."""

from __future__ import annotations

import pytest
from greenprune.bench.energy.power_log import POWER_FILE, read_power
from greenprune.bench.records.load import read_record

from tests.conftest import Story


@pytest.mark.parametrize("key", ["dense-1-s0", "gated-0.5-s0"])
def test_a_run_has_its_power_beside_its_record(story: Story, key: str) -> None:
    record = read_record(story.folder / key / "record.json")
    columns = read_power(story.folder / key / POWER_FILE)
    names = {source.name for source in record.energy["training"].sources}
    assert set(columns["source"]) == names
    assert "training" in set(columns["phase"])  # the evaluation of so small a network may fall between two samples
    assert set(columns["phase"]) & {"inference", "inference, dense"}
    # The energy of training, from the log: pauses are in the log and not in the reading.
    for source in record.energy["training"].sources:
        rows = [
            (time_s, power_w, phase)
            for name, time_s, power_w, phase in zip(
                *(columns[c] for c in ("source", "time_s", "power_w", "phase")), strict=True
            )
            if name == source.name
        ]
        ends_s = [row[0] for row in rows]
        logged_j = sum(
            (power_w or 0.0) * (end_s - start_s)
            for (end_s, power_w, phase), start_s in zip(rows, [0.0, *ends_s], strict=False)
            if phase == "training"
        )
        assert source.energy_j is not None
        assert logged_j == pytest.approx(source.energy_j, rel=0.5)


def test_a_record_tells_its_sources_and_what_inference_costs(story: Story) -> None:
    record = read_record(story.folder / "gated-0.5-s0" / "record.json")
    assert {row["source"] for row in record.energy_sources} >= {s.name for s in record.energy["training"].sources}
    (inference,) = record.inference
    assert inference.latency.throughput_images_per_s
    assert inference.latency.p99_ms
    for kind, (middle, low, high) in inference.energy_j_per_1000_images.items():
        assert low <= middle <= high
        assert middle == pytest.approx(1000 * (inference.energy.energy_j(kind) or 0) / inference.images)
