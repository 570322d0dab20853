"""What a finished run tells about energy beside its totals: the power log, the sources, throughput."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.energy.power_log import POWER_FILE, read_power
from greenprune.bench.records.load import read_record

from tests.conftest import Story


def test_a_run_has_its_power_beside_its_record(at_work: Path, tmp_path: Path) -> None:
    """Sources are looked at once a second: a training of half of one may fall between."""
    arguments = ["--only", "dense", "--set", "training.epochs=40", "--skip-measure", "--out", str(tmp_path)]
    assert main(["run", "tiny.toml", *arguments]) == 0
    folder = tmp_path / "tiny" / "dense-1-s0"
    record, columns = read_record(folder / "record.json"), read_power(folder / POWER_FILE)
    names = {source.name for source in record.energy["training"].sources}
    assert set(columns["source"]) == names
    assert "training" in set(columns["phase"])
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
        parts_j = [
            ((power_w or 0.0) * (end_s - start_s), phase)
            for (end_s, power_w, phase), start_s in zip(rows, [0.0, *ends_s], strict=False)
        ]
        logged_j = sum(part_j for part_j, phase in parts_j if phase == "training")
        assert source.energy_j is not None
        # Each end of the training lies somewhere in a row of the log, which on a busy machine is long.
        assert logged_j == pytest.approx(source.energy_j, rel=0.05, abs=2 * max(part_j for part_j, _ in parts_j))


def test_a_record_tells_its_sources_and_what_inference_costs(story: Story) -> None:
    record = read_record(story.folder / "gated-0.5-s0" / "record.json")
    assert {row["source"] for row in record.energy_sources} >= {s.name for s in record.energy["training"].sources}
    (inference,) = record.inference
    assert inference.latency.throughput_images_per_s
    assert inference.latency.p99_ms
    for kind, (middle, low, high) in inference.energy_j_per_1000_images.items():
        assert low <= middle <= high
        assert middle == pytest.approx(1000 * (inference.energy.energy_j(kind) or 0) / inference.images)
