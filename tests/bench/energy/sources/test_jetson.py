"""Rails of a Jetson as the INA3221's driver shows them, of JetPack 5 and newer and of JetPack 4."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from greenprune.bench.energy.sources import jetson

from tests.bench.energy.sources.trees import hwmon, joules, meter, place, renumber, rows, unreadable, write


def rails(*values: tuple[str, int, int]) -> dict[str, object]:
    """Files of a chip: label, mV and mA of each channel."""
    files: dict[str, object] = {}
    for channel, (label, millivolts, milliamperes) in enumerate(values, 1):
        files |= {f"in{channel}_label": label, f"in{channel}_input": millivolts, f"curr{channel}_input": milliamperes}
    return files


def orin_nx(sysfs: Path, number: int = 1) -> Path:
    chip = rails(("VDD_IN", 5000, 2000), ("VDD_CPU_GPU_CV", 5000, 800), ("VDD_SOC", 5000, 400))
    return hwmon(sysfs, number, "ina3221", "1-0040", in7_label="sum of shunt voltages", in7_input=9, **chip)


def test_the_input_rail_is_the_whole_module_and_the_others_are_its_parts(tmp_path: Path) -> None:
    orin_nx(tmp_path)
    with meter(tmp_path).window("x") as w:
        time.sleep(0.2)
    found = joules(w.reading)
    assert found["machine:VDD_IN"] == pytest.approx(10 * w.reading.duration_s, rel=0.1)
    assert found["jetson:VDD_CPU_GPU_CV"] == pytest.approx(4 * w.reading.duration_s, rel=0.1)
    assert found["jetson:VDD_SOC"] == pytest.approx(2 * w.reading.duration_s, rel=0.1)
    assert w.reading.energy_j("sampled") == pytest.approx(6 * w.reading.duration_s, rel=0.1)
    assert "cpu" not in found  # a rail measures it: no model beside


def test_a_rail_that_another_one_feeds_is_not_added_to_it(tmp_path: Path) -> None:
    top = rails(("VDD_GPU_SOC", 19000, 300), ("VDD_CPU_CV", 19000, 100), ("VIN_SYS_5V0", 5000, 700))
    hwmon(tmp_path, 0, "ina3221", "1-0040", **top)
    hwmon(tmp_path, 1, "ina3221", "1-0041", **rails(("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 300), ("NC", 0, 0)))
    m = meter(tmp_path)
    with m.window("x") as w:
        pass
    assert sorted(s.name for s in w.reading.sources if s.name.startswith("jetson")) == [
        "jetson:VDD_CPU_CV", "jetson:VDD_GPU_SOC", "jetson:VIN_SYS_5V0",
    ]  # fmt: skip
    assert "part of VIN_SYS_5V0" in rows(m)["jetson:VDDQ_VDD2_1V8AO"]["reason"]


def test_rails_of_the_carrier_board_and_rails_without_a_label_are_not_used(tmp_path: Path) -> None:
    folder = hwmon(
        tmp_path, 0, "ina3221", "0-0042", **rails(("VDD_MUX", 19000, 500), ("VDD_3V3_IO", 3300, 10), ("x", 1, 1))
    )
    (folder / "in3_label").unlink()
    found = jetson.find(place(tmp_path))
    assert [s.name for s in found.sources] == ["machine:VDD_MUX"]
    reasons = {row["source"]: row["reason"] for row in found.unusable}
    assert "carrier board" in reasons["jetson:VDD_3V3_IO"]
    assert "no label" in reasons["jetson:0-0042-in3"]


def test_a_disabled_channel_is_none(tmp_path: Path) -> None:
    orin_nx(tmp_path)
    write(tmp_path / "class/hwmon/hwmon1", in3_enable=0)
    assert "jetson:VDD_SOC" not in [s.name for s in jetson.find(place(tmp_path)).sources]


@pytest.mark.parametrize("node", ["iio:device0", "iio_device"])
def test_the_older_driver_shows_milliwatts(tmp_path: Path, node: str) -> None:
    chip = tmp_path / "bus/i2c/drivers/ina3221x/6-0040" / node
    for number, (name, milliwatts) in enumerate((("POM_5V_IN", 5000), ("POM_5V_GPU", 1000), ("POM_5V_CPU", 2000))):
        write(chip, **{f"rail_name_{number}": name, f"in_power{number}_input": milliwatts})
    with meter(tmp_path).window("x") as w:
        time.sleep(0.2)
    found = joules(w.reading)
    assert found["machine:POM_5V_IN"] == pytest.approx(5 * w.reading.duration_s, rel=0.1)
    assert w.reading.energy_j("sampled") == pytest.approx(3 * w.reading.duration_s, rel=0.1)


def test_a_chip_that_gets_another_number_is_followed_and_its_old_number_is_not(tmp_path: Path) -> None:
    orin_nx(tmp_path, number=1)
    m = meter(tmp_path)
    with m.window("x") as w:
        renumber(tmp_path, 1, 7)
        hwmon(tmp_path, 1, "ina3221", "9-0099", **rails(("VDD_IN", 5000, 90_000)))
        time.sleep(0.3)
    assert joules(w.reading)["machine:VDD_IN"] == pytest.approx(10 * w.reading.duration_s, rel=0.1)


def test_a_rail_that_vanishes_is_invalid_alone(tmp_path: Path) -> None:
    folder = orin_nx(tmp_path)
    with meter(tmp_path).window("x") as w:
        (folder / "curr3_input").unlink()
        time.sleep(1.5)  # longer than its last sample holds
    by_name = {s.name: s for s in w.reading.sources}
    assert not by_name["jetson:VDD_SOC"].valid
    assert "curr3_input" in by_name["jetson:VDD_SOC"].reason
    assert by_name["machine:VDD_IN"].valid
    assert w.reading.energy_j("sampled") is None  # a part is missing: no sum of the rest


def test_an_unreadable_rail_is_told_with_what_helps(tmp_path: Path) -> None:
    folder = orin_nx(tmp_path)
    unreadable(folder / "curr2_input")
    row = rows(meter(tmp_path))["jetson:VDD_CPU_GPU_CV"]
    assert not row["available"]
    assert "chmod a+r" in row["remedy"]


def test_no_jetson_is_no_row_of_the_meter(tmp_path: Path) -> None:
    m = meter(tmp_path)
    assert "jetson" not in [row["source"] for row in m.describe()]
    assert "jetson" in [row["source"] for row in m.absent]


@pytest.mark.parametrize("place_of_chips", ["drivers/ina3221", "devices"])
def test_where_the_class_is_hidden_the_buss_folders_are_read(tmp_path: Path, place_of_chips: str) -> None:
    chip = tmp_path / f"bus/i2c/{place_of_chips}/1-0040/hwmon/hwmon4"
    write(chip, name="ina3221", **rails(("VDD_IN", 5000, 2000)))
    with meter(tmp_path).window("x") as w:
        time.sleep(0.1)
    assert joules(w.reading)["machine:VDD_IN"] == pytest.approx(10 * w.reading.duration_s, rel=0.1)


@pytest.mark.parametrize("rails_are_there", [True, False])
def test_a_gpu_that_nvml_knows_and_cannot_measure_is_measured_by_its_rails(
    tmp_path: Path, gpu_script, rails_are_there: bool
) -> None:
    """JetPack 6 and newer: NVML counts a device and supports none of its sensors."""
    if rails_are_there:
        orin_nx(tmp_path)
    sensors = ("GetTotalEnergyConsumption", "GetFieldValues", "GetPowerUsage")
    source = f"""
begin(ERRORS={";".join(f"nvmlDevice{name}@0-1e9=3" for name in sensors)!r})
found = []
for device in (None, "cuda"):
    with EnergyMeter(device) as meter, meter.window("x") as w:
        time.sleep(0.1)
    total = w.reading.total("sampled")
    found.append([gpus(w.reading) != [], total and total.name])
    rows = [row for row in meter.describe() if row["source"] == "nvml:0"]
say(found=found, available=[row["available"] for row in rows], reasons=[row["reason"] for row in rows])
"""
    answer = gpu_script(source, GREENPRUNE_SYSFS=str(tmp_path))
    assert answer["found"] == [[False, "sampled"] if rails_are_there else [True, None]] * 2
    assert answer["available"] == [False]
    assert "does not support it" in answer["reasons"][0]
