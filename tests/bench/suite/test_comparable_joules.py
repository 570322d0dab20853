"""How long a method may train for the joules of dense is made of joules that can be compared, or of none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.data.load import load
from greenprune.bench.energy.reading import SourceReading
from greenprune.bench.errors import UserError
from greenprune.bench.plan.plan import plan, resolved
from greenprune.bench.records.record import Record, write_record
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.views import share_of_dense, why_apart

from tests.bench.suite.test_views import taken
from tests.conftest import SUITE
from tests.plots.records import reading, source

GPU, CPU = (source(50.0, "measured", name) for name in ("nvml:0", "rapl:package-0"))
MODEL = source(10.0, "modelled", "ram")
LOST = SourceReading(name="nvml:0", kind="measured", energy_j=None, valid=False, reason="gone")


def of(*sources: SourceReading, **machine: Any) -> Record:
    here = {"cpu": "A", "gpu": "A", "cores": 4} | machine
    return taken(50, method="gated", energy={"training": reading(*sources)}, machine=here)


@pytest.mark.parametrize(
    ("pilot", "why"),
    [
        (of(GPU, MODEL), "their measured joules are of different parts of the machine, gpu and cpu, gpu"),
        (of(MODEL), "their measured joules are of different parts of the machine, none and cpu, gpu"),
        (of(LOST, CPU, MODEL), "not all measured joules of gated-0.5-0 are known"),
        (of(GPU, CPU, MODEL, cpu="B"), "they ran on different machines, cpu: B and A"),
        (of(GPU, CPU, MODEL, gpu="B"), "they ran on different machines, gpu: B and A"),
    ],
)
def test_joules_of_other_machines_or_parts_of_them_give_no_share(pilot: Record, why: str) -> None:
    dense = of(GPU, CPU, MODEL)
    assert (share_of_dense(pilot, dense, "joules"), why_apart(pilot, dense)) == (None, why)
    assert share_of_dense(pilot, dense, "macs") == 1.0  # these are counted


def test_another_share_of_the_cores_is_the_same_machine() -> None:
    """With --jobs, runs get shares that differ, and which run gets which is chance."""
    assert share_of_dense(of(GPU, CPU, cores=2, threads=2), of(GPU, CPU), "joules") == 1.0


def test_of_a_machine_that_is_not_described_the_parts_decide() -> None:
    before = of(GPU, CPU, cpu=None, cores=None)
    other_gpu = source(100.0, "measured", "nvml:3")
    assert share_of_dense(before, of(other_gpu, CPU, threads=2), "joules") == pytest.approx(100 / 150)


def test_a_run_whose_length_cannot_be_told_names_both_and_why(at_work: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SUITE.replace("[training]", 'views = ["samples", "joules"]\n\n[training]', 1))
    runs = plan(load_suite(str(tmp_path / "tiny.toml")), {"digits": load("digits")}, "cpu")
    (run,) = (run for run in runs if run.key == "gated-0.5-s0-equal-joules")
    write_record(of(GPU), tmp_path / "gated-0.5-s0")
    write_record(taken(100, energy={"training": reading(GPU, CPU)}, machine={"cpu": "A"}), tmp_path / "dense-1-s0")
    said = (
        f"{tmp_path / 'gated-0.5-s0'}: its joules cannot be compared with those of dense-1-s0 (their measured joules are of "
        "different parts of the machine, gpu and cpu, gpu), so gated-0.5-s0-equal-joules cannot be made equal"
    )
    with pytest.raises(UserError, match=re.escape(said)):
        resolved(run, tmp_path)
