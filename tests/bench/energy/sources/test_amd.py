"""Joules of AMD's cards, against a stand-in for the module amdsmi."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.energy.sources import amd

from tests.bench.energy.conftest import ROOT
from tests.bench.energy.rapl.test_rapl import add, zone
from tests.bench.energy.sources.amdsmi import AmdSmi, AmdSmiLibraryException, meter
from tests.bench.energy.sources.trees import joules, place, rows, write


def test_joules_are_the_accumulator_times_its_resolution(library) -> None:
    smi = library({}, {})
    with meter().window("x") as w:
        smi.use(0, 30)
        smi.use(1, 12)
    found = joules(w.reading)
    assert found["amd:0"] == pytest.approx(30, rel=1e-4)
    assert found["amd:1"] == pytest.approx(12, rel=1e-4)
    assert w.reading.energy_j("measured") == pytest.approx(42, rel=1e-4)


def test_the_field_of_older_versions_is_read_too(library) -> None:
    smi = library({"key": "power"})
    with meter().window("x") as w:
        smi.use(0, 30)
    assert joules(w.reading)["amd:0"] == pytest.approx(30, rel=1e-4)


@pytest.mark.parametrize("mode", [2, 4, 8])
def test_partitions_of_one_socket_are_counted_once(library, mode: int) -> None:
    smi = library(
        *({"bdf": f"0000:0c:00.{i}", "name": "AMD Instinct MI300X"} for i in range(mode)), {"bdf": "0000:0d:00.0"}
    )
    m = meter()
    with m.window("x") as w:
        for i in range(mode):
            smi.use(i, 50)  # one counter, shown by each
        smi.use(mode, 7)
    assert w.reading.energy_j("measured") == pytest.approx(57, rel=1e-4)
    assert f"{mode} devices" in rows(m)["amd:0"]["detail"]


def test_a_partition_that_does_not_answer_for_its_socket_is_measured_by_the_one_that_does(library) -> None:
    off = {"count": AmdSmiLibraryException("AMDSMI_STATUS_NOT_SUPPORTED")}
    smi = library({"bdf": "0000:0c:00.0"}, {"bdf": "0000:0c:00.1"} | off, {"bdf": "0000:0c:00.2"} | off)
    m = meter(environ={"GREENPRUNE_SYSFS": "/nonexistent", "HIP_VISIBLE_DEVICES": "1"})
    with m.window("x") as w:
        smi.use(0, 50)
    assert joules(w.reading)["amd:1"] == pytest.approx(50, rel=1e-4)
    assert any("whole socket" in warning for warning in w.reading.warnings)


@pytest.mark.parametrize("primary", [0, 1])
def test_of_the_two_dies_of_a_card_one_counts_for_both(library, primary: int) -> None:
    dies: list[dict[str, Any]] = [{"name": "AMD Instinct MI250X", "power_w": 0, "count": 77} for _ in range(4)]
    dies[primary]["power_w"], dies[primary + 2]["power_w"] = 90, 93
    smi = library(*dies)
    with meter().window("x") as w:
        smi.use(primary, 40)
        smi.use(primary + 2, 8)
    assert joules(w.reading)["amd:0"] == pytest.approx(40, rel=1e-4)
    assert joules(w.reading)["amd:2"] == pytest.approx(8, rel=1e-4)
    assert w.reading.energy_j("measured") == pytest.approx(48, rel=1e-4)


def test_the_second_die_alone_is_measured_by_the_first_and_told(library) -> None:
    smi = library(
        {"name": "AMD Instinct MI250X", "power_w": 90}, {"name": "AMD Instinct MI250X", "power_w": 0, "count": 0}
    )
    with meter(environ={"GREENPRUNE_SYSFS": "/nonexistent", "ROCR_VISIBLE_DEVICES": "1"}).window("x") as w:
        smi.use(0, 40)
    assert joules(w.reading)["amd:1"] == pytest.approx(40, rel=1e-4)
    assert any("whole socket" in warning for warning in w.reading.warnings)


APU: dict[str, Any] = {"name": "AMD Instinct MI300A"}


def test_the_package_of_an_apu_is_part_of_its_socket(library, tmp_path: Path) -> None:
    smi = library(APU, APU)
    zone(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    m = meter(powercap=tmp_path)
    with m.window("x") as w:
        add(tmp_path, "intel-rapl:0", 120)
        smi.use(0, 550)
        smi.use(1, 50)
    assert joules(w.reading).keys() == {"amd:0", "amd:1"}  # and no model of cores and memory beside them
    assert w.reading.energy_j("measured") == pytest.approx(600, rel=1e-4)
    told = rows(m)["rapl:package-0"]
    assert (told["available"], told["reason"]) == (False, "part of amd:0, amd:1")
    assert not any("other sockets" in warning for warning in w.reading.warnings)


def test_cores_of_the_sockets_that_are_not_read_are_told(library) -> None:
    library(APU, APU)
    with meter("cuda:1").window("x") as w:
        pass
    assert joules(w.reading).keys() == {"amd:1"}
    assert any("those of the other sockets are in no figure" in warning for warning in w.reading.warnings)


def test_the_package_counts_beside_a_card_without_cores_and_an_apu_that_cannot_be_read(library, tmp_path: Path) -> None:
    zone(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    for card in ({}, APU | {"count": AmdSmiLibraryException("AMDSMI_STATUS_NOT_SUPPORTED")}):
        library(card)
        m = meter(powercap=tmp_path)
        with m.window("x"):
            pass
        assert rows(m)["rapl:package-0"]["available"]
        assert rows(m)["ram"]["available"]


def test_a_reset_gives_the_integrated_power_and_says_so(library) -> None:
    smi = library({"power_w": 300, "count": 10**9})
    with meter().window("x") as w:
        time.sleep(0.3)
        smi.cards[0]["count"] = 5
    (gpu,) = [s for s in w.reading.sources if s.name == "amd:0"]
    assert gpu.kind == "sampled"
    assert gpu.energy_j == pytest.approx(300 * w.reading.duration_s, rel=0.05)
    assert any("reset" in warning for warning in w.reading.warnings)


def test_a_reset_without_power_is_invalid(library) -> None:
    smi = library({"count": 10**9})
    with meter().window("x") as w:
        smi.cards[0]["count"] = 5
    (gpu,) = [s for s in w.reading.sources if s.name == "amd:0"]
    assert not gpu.valid
    assert "reset" in gpu.reason


@pytest.mark.parametrize("count", [AmdSmiLibraryException("AMDSMI_STATUS_NOT_SUPPORTED"), "N/A", 2**64 - 1, 0])
def test_without_a_counter_the_sockets_power_is_integrated(library, count: Any) -> None:
    library({"count": count, "power_w": 200})
    m = meter()
    with m.window("x") as w:
        time.sleep(0.3)
    (gpu,) = [s for s in w.reading.sources if s.name == "amd:0"]
    assert gpu.kind == "sampled"
    assert gpu.energy_j == pytest.approx(200 * w.reading.duration_s, rel=0.05)
    assert rows(m)["amd:0"]["reason"]


@pytest.mark.parametrize(
    "power_w", ["N/A", 0xFFFF, AmdSmiLibraryException("AMDSMI_STATUS_NO_PERM - Permission Denied")]
)
def test_a_card_with_neither_is_a_source_that_says_so_and_the_others_stand(library, power_w: Any) -> None:
    smi = library(
        {"count": AmdSmiLibraryException("AMDSMI_STATUS_NO_PERM - Permission Denied"), "power_w": power_w}, {}
    )
    m = meter()
    with m.window("x") as w:
        smi.use(1, 5)
    by_name = {s.name: s for s in w.reading.sources}
    assert not by_name["amd:0"].valid
    assert by_name["amd:1"].energy_j == pytest.approx(5, rel=1e-4)
    assert "usermod -aG render,video" in rows(m)["amd:0"]["remedy"]


def test_a_card_that_is_lost_in_the_window_is_invalid_alone(library) -> None:
    smi = library({}, {})
    with meter().window("x") as w:
        smi.use(1, 5)
        smi.cards[0]["count"] = AmdSmiLibraryException("AMDSMI_STATUS_IO")
    by_name = {s.name: s for s in w.reading.sources}
    assert not by_name["amd:0"].valid
    assert "AMDSMI_STATUS_IO" in by_name["amd:0"].reason
    assert by_name["amd:1"].valid


def test_cuda_on_a_machine_of_amds_is_no_missing_nvidia_card(library) -> None:
    smi = library({})
    with meter("cuda").window("x") as w:
        smi.use(0, 5)
    assert [s.name for s in w.reading.sources if s.kind == "measured"] == ["amd:0"]
    assert w.reading.energy_j("measured") == pytest.approx(5, rel=1e-4)


def test_hardware_without_the_package_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    assert amd.find(place(tmp_path)).unusable == ()
    write(tmp_path / "class/drm/card1/device", vendor="0x1002")
    (row,) = amd.find(place(tmp_path)).unusable
    assert "/opt/rocm/share/amd_smi" in row["remedy"]


@pytest.mark.parametrize("error", [KeyError("ROCM_PATH"), OSError("libamd_smi.so: cannot open shared object file")])
def test_a_package_whose_library_is_missing_is_no_crash(tmp_path: Path, error: Exception) -> None:
    def load() -> Any:
        raise error

    assert amd.find(place(tmp_path), load).sources == ()


def test_a_driver_that_does_not_answer_is_told_with_the_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = AmdSmi()
    monkeypatch.setattr(
        smi, "amdsmi_init", lambda: (_ for _ in ()).throw(AmdSmiLibraryException("AMDSMI_STATUS_NO_PERM"))
    )
    write(tmp_path / "root/dev", kfd="")
    (row,) = amd.find(place(tmp_path), lambda: smi).unusable
    assert "render" in row["remedy"]


def test_a_package_that_prints_where_its_library_is_missing_is_not_heard(tmp_path: Path) -> None:
    """Standard output is the command's. CodeCarbon and Zeus import amdsmi too."""
    package = tmp_path / "amdsmi"
    package.mkdir()
    (package / "__init__.py").write_text('print("Unable to find libamd_smi.so")\nraise KeyError("libamd_smi.so")\n')
    search = os.pathsep.join((str(tmp_path), str(ROOT)))
    command = [sys.executable, "-m", "greenprune", "energy", "--", sys.executable, "-c", "print(1)"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": search}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_cuda_on_a_machine_of_amds_that_cannot_be_read_says_what_helps(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    write(tmp_path / "class/drm/card1/device", vendor="0x1002")
    with meter("cuda", sysfs=tmp_path).window("x") as w:
        pass
    missing = next(s for s in w.reading.sources if s.kind == "measured")
    assert missing.name == "amd"
    assert "amdsmi cannot be imported" in missing.reason
    assert "/opt/rocm/share/amd_smi" in missing.reason
