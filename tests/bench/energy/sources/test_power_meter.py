"""A server's power meter, as acpi_power_meter shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from greenprune.bench.energy.sensors.place import SYSFS_VARIABLE

from tests.bench.energy.conftest import ROOT
from tests.bench.energy.rapl.test_rapl import zone
from tests.bench.energy.sources.trees import hwmon, joules, meter, rows, unreadable


def test_a_constant_power_is_integrated_and_added_to_nothing(tmp_path: Path) -> None:
    package = zone(tmp_path / "class/powercap/intel-rapl:0", "package-0", 1_000_000)
    hwmon(tmp_path, 3, "power_meter", "ACPI000D:00", power1_average=250_000_000, power1_average_interval=100)
    with meter(tmp_path).window("x") as w:
        time.sleep(0.3)
        (package / "energy_uj").write_text("6000000")
    (whole,) = w.reading.whole_machine()
    assert whole.name == "machine:power_meter"
    assert whole.kind == "sampled"
    assert whole.energy_j == pytest.approx(250 * w.reading.duration_s, rel=0.05)
    assert whole.low_j < whole.energy_j < whole.high_j
    assert w.reading.energy_j("measured") == pytest.approx(5)
    assert w.reading.energy_j("sampled") is None
    assert w.reading.bounds_j("sampled") is None


def test_a_failed_power_meter_spoils_no_sum(tmp_path: Path) -> None:
    package = zone(tmp_path / "class/powercap/intel-rapl:0", "package-0", 1_000_000)
    folder = hwmon(tmp_path, 0, "power_meter", "ACPI000D:00", power1_average=250_000_000, power1_average_interval=100)
    with meter(tmp_path).window("x") as w:
        (folder / "power1_average").unlink()
        (package / "energy_uj").write_text("6000000")
        time.sleep(1.2)  # longer than its last sample holds
    (whole,) = w.reading.whole_machine()
    assert not whole.valid
    assert "power1_average" in whole.reason
    assert w.reading.energy_j("measured") == pytest.approx(5)


def test_a_power_meter_that_is_busy_at_the_end_has_joules_and_wider_bounds(tmp_path: Path) -> None:
    folder = hwmon(tmp_path, 0, "power_meter", "ACPI000D:00", power1_average=250_000_000, power1_average_interval=100)
    with meter(tmp_path).window("x") as w:
        time.sleep(0.3)
        (folder / "power1_average").unlink()
        gone_s = time.perf_counter()
        time.sleep(0.2)
    gone_s = time.perf_counter() - gone_s
    (whole,) = w.reading.whole_machine()
    assert whole.valid
    assert whole.energy_j == pytest.approx(250 * w.reading.duration_s, rel=0.05)
    assert whole.high_j >= whole.energy_j + 250 * (gone_s + 0.1) * 0.9


def test_without_an_average_the_input_is_read(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "power_meter", None, power1_input=100_000_000)
    with meter(tmp_path).window("x") as w:
        time.sleep(0.05)
    assert joules(w.reading)["machine:power_meter"] == pytest.approx(100 * w.reading.duration_s, rel=0.2)


def test_a_server_of_six_kilowatts_is_read(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "power_meter", "ACPI000D:00", power1_average=6_000_000_000, power1_average_interval=100)
    with meter(tmp_path).window("x") as w:
        time.sleep(0.05)
    assert joules(w.reading)["machine:power_meter"] == pytest.approx(6000 * w.reading.duration_s, rel=0.2)


@pytest.mark.parametrize("content", ["4294967295000", "0", "", "n/a", "nan"])
def test_a_meter_that_does_not_know_is_no_source(tmp_path: Path, content: str) -> None:
    hwmon(tmp_path, 0, "power_meter", "ACPI000D:00", power1_average=content)
    m = meter(tmp_path)
    row = rows(m)["machine:power_meter"]
    assert not row["available"]
    assert row["found"]
    assert "power1_average" in row["reason"]
    with m.window("x") as w:
        pass
    assert w.reading.whole_machine() == ()


def test_an_unreadable_meter_names_the_rule_that_helps(tmp_path: Path) -> None:
    folder = hwmon(tmp_path, 0, "power_meter", "ACPI000D:00", power1_average=1)
    unreadable(folder / "power1_average")
    remedy = rows(meter(tmp_path))["machine:power_meter"]["remedy"]
    assert "chmod a+r" in remedy
    assert 'SUBSYSTEM=="hwmon", ATTR{name}=="power_meter"' in remedy


def test_other_chips_with_an_average_are_no_power_meter(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "amdgpu", None, power1_average=90_000_000)
    hwmon(tmp_path, 1, "power_meter", "ACPI000D:01", power1_average=90_000_000, power1_is_battery=1)
    with meter(tmp_path).window("x") as w:
        pass
    assert w.reading.whole_machine() == ()


def test_several_meters_stand_apart_from_one_another(tmp_path: Path) -> None:
    for number in range(2):
        hwmon(tmp_path, number, "power_meter", f"ACPI000D:0{number}", power1_average=90_000_000 * (number + 1))
    with meter(tmp_path).window("x") as w:
        time.sleep(0.02)
    assert [s.name for s in w.reading.whole_machine()] == ["machine:power_meter", "machine:power_meter-1"]
    assert not any("the whole machine" in (s.note or "") for s in w.reading.whole_machine())


def test_the_meters_of_graces_sockets_are_called_by_what_they_cover(tmp_path: Path) -> None:
    labels = [f"{part} Power Socket {socket}" for socket in range(2) for part in ("Module", "Grace", "CPU", "SysIO")]
    for number, label in enumerate(labels):
        hwmon(tmp_path, number, "power_meter", f"ACPI000D:0{number}", power1_average=90_000_000, power1_oem_info=label)
    hwmon(tmp_path, 8, "power_meter", "ACPI000D:08", power1_average=900_000_000)
    m = meter(tmp_path)
    with m.window("x") as w:
        time.sleep(0.02)
    names = [f"machine:{part}-{socket}" for socket in range(2) for part in ("module", "grace", "cpu", "sysio")]
    assert [s.name for s in w.reading.whole_machine()] == [*names, "machine:power_meter"]
    assert w.reading.energy_j("sampled") is None  # none is added to another
    told = rows(m)
    assert "the GPU" in told["machine:module-1"]["detail"]
    assert [name for name, row in told.items() if "the whole machine" in (row.get("detail") or "")] == [
        "machine:power_meter"
    ]


def test_accuracy_and_interval_are_told(tmp_path: Path) -> None:
    hwmon(
        tmp_path, 0, "power_meter", "ACPI000D:00",
        power1_average=90_000_000, power1_average_interval=2000, power1_accuracy="95.0%", power1_oem_info="Acme",
    )  # fmt: skip
    row = rows(meter(tmp_path))["machine:power_meter"]
    assert row["period_s"] == 2.0
    assert "accuracy 95.0 %" in row["detail"]
    assert "Acme" in row["detail"]


def test_the_first_channel_that_is_there_is_read_and_none_is_told(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "power_meter", "ACPI000D:00", power2_average=100_000_000)
    hwmon(tmp_path, 1, "power_meter", "ACPI000D:01")
    found = rows(meter(tmp_path))
    assert found["machine:power_meter"]["available"]
    assert "shows no power" in found["machine:power_meter-1"]["reason"]


def test_the_command_line_shows_it_and_adds_it_to_nothing(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "power_meter", "ACPI000D:00", power1_average=250_000_000, power1_average_interval=100)
    path = tmp_path / "energy.json"
    command = [sys.executable, "-m", "greenprune", "energy", "--json", str(path), "--", "sleep", "0.2"]
    environment = {**os.environ, SYSFS_VARIABLE: str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "machine:power_meter: in no total, where joules of the others would count twice" in done.stderr
    found = json.loads(path.read_text())
    assert "machine:power_meter" in [source["name"] for source in found["reading"]["sources"]]
    assert "sampled" not in found["totals"]
