"""Intel's cards as xe and i915 show them."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.energy.sources import intel

from tests.bench.energy.sources.trees import hwmon, joules, meter, place, renumber, rows, unreadable, write

CARD = "pci0000:00/0000:03:00.0"


def names(sysfs: Path, **rest) -> list[str]:
    return [s.name for s in intel.find(place(sysfs, **rest)).sources]


def add(folder: Path, file: str, total_j: float) -> None:
    (folder / file).write_text(str(int(total_j * 1e6)))


def test_the_card_is_counted_and_not_its_package_again(tmp_path: Path) -> None:
    folder = hwmon(
        tmp_path, 4, "xe", CARD,
        energy1_input=7_000_000, energy1_label="card", energy2_input=5_000_000, energy2_label="pkg",
    )  # fmt: skip
    with meter(tmp_path, None).window("x") as w:
        add(folder, "energy1_input", 17)
        add(folder, "energy2_input", 12)
    assert joules(w.reading)["intel-gpu:0000:03:00.0"] == pytest.approx(10)
    assert w.reading.energy_j("measured") == pytest.approx(10)


def test_a_package_alone_is_counted_and_told_as_such(tmp_path: Path) -> None:
    hwmon(tmp_path, 4, "xe", CARD, energy2_input=5_000_000, energy2_label="pkg")
    row = rows(meter(tmp_path, None))["intel-gpu:0000:03:00.0"]
    assert row["available"]
    assert "package" in row["detail"]


def test_without_labels_the_first_counter_is_the_card(tmp_path: Path) -> None:
    folder = hwmon(tmp_path, 4, "xe", CARD, energy1_input=7_000_000, energy2_input=5_000_000)
    with meter(tmp_path, None).window("x") as w:
        add(folder, "energy1_input", 10)
    assert joules(w.reading)["intel-gpu:0000:03:00.0"] == pytest.approx(3)


def test_tiles_of_a_card_are_part_of_it(tmp_path: Path) -> None:
    hwmon(tmp_path, 2, "i915", CARD, energy1_input=1)
    hwmon(tmp_path, 3, "i915_gt0", CARD, energy1_input=1)
    hwmon(tmp_path, 4, "i915_gt1", CARD, energy1_input=1)
    assert names(tmp_path) == ["intel-gpu:0000:03:00.0"]


def test_tiles_are_counted_where_the_card_has_no_counter(tmp_path: Path) -> None:
    hwmon(tmp_path, 2, "i915", CARD, in0_input=1)
    hwmon(tmp_path, 3, "i915_gt0", CARD, energy1_input=1)
    hwmon(tmp_path, 4, "i915_gt1", CARD, energy1_input=1)
    assert names(tmp_path) == ["intel-gpu:0000:03:00.0-gt0", "intel-gpu:0000:03:00.0-gt1"]


def test_two_cards_are_two_sources_whatever_their_numbers(tmp_path: Path) -> None:
    for number, address in ((11, "0000:03:00.0"), (9, "0000:83:00.0")):
        hwmon(tmp_path, number, "xe", f"pci0000:00/{address}", energy1_input=1)
    assert sorted(names(tmp_path)) == ["intel-gpu:0000:03:00.0", "intel-gpu:0000:83:00.0"]


def test_a_card_that_gets_another_number_is_followed(tmp_path: Path) -> None:
    hwmon(tmp_path, 4, "xe", CARD, energy1_input=7_000_000)
    with meter(tmp_path, None).window("x") as w:
        renumber(tmp_path, 4, 5)
        hwmon(tmp_path, 4, "xe", "pci0000:00/0000:83:00.0", energy1_input=999_000_000)
        add(tmp_path / "class/hwmon/hwmon5", "energy1_input", 9)
    assert joules(w.reading)["intel-gpu:0000:03:00.0"] == pytest.approx(2)


def test_a_driver_that_is_loaded_again_is_a_reset_and_not_a_wraparound(tmp_path: Path) -> None:
    folder = hwmon(tmp_path, 4, "xe", CARD, energy1_input=700_000_000)
    with meter(tmp_path, None).window("x") as w:
        add(folder, "energy1_input", 1)
    (gpu,) = [s for s in w.reading.sources if s.name.startswith("intel-gpu")]
    assert not gpu.valid
    assert "reset" in gpu.reason


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_another_device_is_another_makers(tmp_path: Path, device: str) -> None:
    hwmon(tmp_path, 4, "xe", CARD, energy1_input=1)
    assert names(tmp_path, device=device) == []


def test_what_is_wrong_with_a_card_is_told(tmp_path: Path) -> None:
    folder = hwmon(tmp_path, 4, "xe", CARD, energy1_input=1)
    unreadable(folder / "energy1_input")
    (row,) = intel.find(place(tmp_path)).unusable
    assert 'ATTR{name}=="xe"' in row["remedy"]
    assert row["found"]


def test_an_integrated_gpu_is_told_to_be_the_processors(tmp_path: Path) -> None:
    write(tmp_path / "class/drm/card0/device", vendor="0x8086")
    (row,) = intel.find(place(tmp_path)).absent
    assert "card0" in row["reason"]
    assert "RAPL" in row["remedy"]


def test_where_the_class_is_hidden_the_cards_own_folder_is_read(tmp_path: Path) -> None:
    for card, number in (("card0", 3), ("card1", 8)):
        write(tmp_path / f"class/drm/{card}/device/hwmon/hwmon{number}", name="xe", energy1_input=7_000_000)
    (tmp_path / "class/drm/card0-DP-1").mkdir()
    (tmp_path / "class/drm/card0-DP-1/device").symlink_to(tmp_path / "class/drm/card0/device")
    with meter(tmp_path, None).window("x") as w:
        add(tmp_path / "class/drm/card0/device/hwmon/hwmon3", "energy1_input", 9)
        add(tmp_path / "class/drm/card1/device/hwmon/hwmon8", "energy1_input", 10)
    assert joules(w.reading)["intel-gpu:card0"] == pytest.approx(2)
    assert joules(w.reading)["intel-gpu:card1"] == pytest.approx(3)
    assert w.reading.energy_j("measured") == pytest.approx(5)
