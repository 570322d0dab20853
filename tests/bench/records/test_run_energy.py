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
        starts_s, before = [0.0, *(row[0] for row in rows)], [None, *(row[2] for row in rows)]
        parts_j = [
            ((power_w or 0.0) * (end_s - start_s), phase, earlier)
            for (end_s, power_w, phase), start_s, earlier in zip(rows, starts_s, before, strict=False)
        ]
        logged_j = sum(part_j for part_j, phase, _ in parts_j if phase == "training")
        # A row has the phase of its end: where phases change, some of it is of the one before. On a busy machine rows are long.
        changes_j = sum(part_j for part_j, phase, earlier in parts_j if phase != earlier)
        assert source.energy_j is not None
        assert logged_j == pytest.approx(source.energy_j, abs=0.1 * source.energy_j + changes_j)


def test_a_record_tells_its_sources_and_what_inference_costs(story: Story) -> None:
    record = read_record(story.folder / "gated-0.5-s0" / "record.json")
    assert {row["source"] for row in record.energy_sources} >= {s.name for s in record.energy["training"].sources}
    (inference,) = record.inference
    assert inference.latency.throughput_images_per_s
    assert inference.latency.p99_ms
    for kind, (middle, low, high) in inference.energy_j_per_1000_images.items():
        assert low <= middle <= high
        assert middle == pytest.approx(1000 * (inference.energy.energy_j(kind) or 0) / inference.images)
