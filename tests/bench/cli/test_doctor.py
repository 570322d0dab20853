"""`greenprune doctor`: what is there, how well it measures, and how to get what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from greenprune.bench.cli.doctor import advice, examine, table
from greenprune.bench.cli.main import main
from greenprune.bench.energy.carbon.intensity import GridIntensity
from greenprune.bench.energy.sensors.place import SYSFS_VARIABLE, Place

from tests.bench.energy.conftest import ROOT
from tests.bench.energy.rapl.test_rapl import zone
from tests.bench.energy.sources.trees import hwmon, write

WORLD = GridIntensity("world", 475.0, "a test")


def rows(found) -> dict[str, dict]:
    return {row["source"]: row for row in found["sources"]}


def test_without_sensors_it_says_what_is_modelled_and_how_to_get_the_rest(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv(SYSFS_VARIABLE, str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    path = tmp_path / "doctor.json"
    assert main(["doctor", "--json", str(path), "--country", "FRA", "--idle", "0"]) == 0
    out = capsys.readouterr().out
    for part in ("cpu", "modelled", "not found", "to get it: ", "France", "gCO2e/kWh", "± 100 s"):
        assert part in out
    found = json.loads(path.read_text())
    assert found["grid"]["country"] == "FRA"
    cpu = rows(found)["cpu"]
    assert len(set(cpu["expected_uncertainty"].values())) == 1  # no window is long enough for a model
    assert not rows(found)["rapl"]["available"]
    assert "modprobe" in rows(found)["rapl"]["remedy"]


def test_every_kind_of_source_is_told_of_also_where_there_is_none(tmp_path: Path) -> None:
    found = rows(examine(WORLD, idle_s=0, sysfs=tmp_path))
    kinds = {"nvml", "amd", "intel-gpu", "jetson", "rapl", "rapl-perf", "machine:psys", "machine:power_meter", "apple"}
    assert kinds <= set(found)
    assert not any(found[kind]["available"] or found[kind]["found"] for kind in kinds - {"nvml"})
    assert all(found[kind]["reason"] for kind in kinds)


def test_the_machines_own_meter_is_shown_apart(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "power_meter", "ACPI000D:00", power1_average=250_000_000, power1_average_interval=500)
    found = examine(WORLD, idle_s=0, sysfs=tmp_path)
    row = rows(found)["machine:power_meter"]
    assert (row["found"], row["available"], row["enters_sums"]) == (True, True, False)
    assert row["period_s"] == 0.5
    assert row["resolution_w"] == 1e-6
    assert any("never added" in line for line in advice(found))


def test_in_a_container_it_says_how_to_show_it_the_sensors(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    found = examine(WORLD, idle_s=0, sysfs=tmp_path, place=Place(sysfs=tmp_path, root=tmp_path, environ={}))
    assert found["container"]
    assert advice(found)[0].startswith("this is a container: ")
    assert f"-v /sys:/host/sys:ro -e {SYSFS_VARIABLE}=/host/sys" in advice(found)[0]


def test_a_card_without_its_driver_is_found_and_not_readable(tmp_path: Path) -> None:
    write(tmp_path / "bus/pci/devices/0000:01:00.0", vendor="0x10de", **{"class": "0x030200"})
    found = examine(WORLD, idle_s=0, sysfs=tmp_path, place=Place(sysfs=tmp_path, root=tmp_path, environ={}))
    assert rows(found)["nvml"]["found"]
    assert any(line.startswith("nvml: found, not readable: ") for line in advice(found))


def test_it_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys; from greenprune.bench.cli.main import main; assert main(['doctor', '--idle', '0']) == 0; "
    code += "sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, check=True)


def test_rapl_without_permission_names_the_command_that_gives_it(tmp_path: Path) -> None:
    package = zone(tmp_path / "intel-rapl:0", "package-0")
    (package / "energy_uj").unlink()
    (package / "energy_uj").mkdir()
    found = examine(WORLD, idle_s=0, powercap=tmp_path)
    assert any("to get it: sudo chmod" in line for line in advice(found))
    row = rows(found)["rapl:package-0"]
    assert (row["found"], row["available"]) == (True, False)
    assert 'SUBSYSTEM=="powercap"' in row["remedy"]


def test_a_rapl_that_works_has_a_period_and_narrows_with_the_window(tmp_path: Path) -> None:
    zone(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    row = rows(examine(WORLD, idle_s=0, powercap=tmp_path))["rapl:package-0"]
    assert row["period_s"] == 1e-3
    assert row["expected_uncertainty"] == pytest.approx({"1 s": 1e-3, "10 s": 1e-4, "100 s": 1e-5})


@pytest.mark.parametrize(
    ("errors", "kind"), [("", "measured"), ("nvmlDeviceGetTotalEnergyConsumption@0-1e9=3", "sampled")]
)
def test_a_gpu_has_a_period_an_idle_power_and_an_expected_uncertainty(standin, tmp_path, errors, kind) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LD_LIBRARY_PATH": f"{standin}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        "STANDIN_TRACE": "80",
        "STANDIN_ERRORS": errors,
    }
    path = tmp_path / "doctor.json"
    done = subprocess.run(
        [sys.executable, "-m", "greenprune", "doctor", "--idle", "1", "--json", str(path)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    gpu = rows(json.loads(path.read_text()))["nvml:0"]
    assert gpu["kind"] == kind
    assert gpu["idle_power_w"] == pytest.approx(80, rel=0.1)
    errors_by_window = list(gpu["expected_uncertainty"].values())
    if kind == "measured":
        assert gpu["period_s"] == pytest.approx(0.1, rel=0.2)
        assert errors_by_window == pytest.approx([gpu["period_s"] / s for s in (1, 10, 100)])
    else:
        assert gpu["period_s"] is None
        assert "its power is integrated, because" in done.stdout
    assert errors_by_window[0] > errors_by_window[1] > errors_by_window[2]
    assert "systematic error" in done.stdout


def test_the_table_has_a_row_for_each_source_and_what_is_missing_comes_last() -> None:
    errors = {"1 s": None, "10 s": None, "100 s": None}
    made = table(
        [
            {"source": "nvml", "kind": "measured", "available": False, "expected_uncertainty": errors},
            {"source": "cpu", "kind": "modelled", "available": True, "expected_uncertainty": {**errors, "1 s": 1.5}},
        ]
    )
    assert list(made.columns[0].cells) == ["cpu", "nvml"]
    assert list(made.columns[1].cells) == ["modelled", "not found"]
    assert list(made.columns[5].cells) == ["150%", "–"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--country", "ZZZ"], "nearest"),
        (["--json", "no/such/folder/x"], "cannot be written"),
        (["--json", "pipe"], "--json pipe: cannot be written (it is no file)"),
        (["--idle", "nan"], "--idle nan"),
    ],
)
def test_bad_input(arguments, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("greenprune.bench.cli.doctor.examine", lambda *_, **__: pytest.fail("it measured"))
    os.mkfifo("pipe")
    assert main(["doctor", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert Path("pipe").is_fifo()


def test_a_link_stays_one_and_the_file_behind_it_is_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(SYSFS_VARIABLE, str(tmp_path))
    link, real = tmp_path / "link.json", tmp_path / "real.json"
    link.symlink_to("real.json")
    assert main(["doctor", "--idle", "0", "--json", str(link)]) == 0
    assert link.is_symlink()
    assert "sources" in json.loads(real.read_text())


def test_what_cannot_be_written_is_printed_all_the_same(tmp_path: Path, capsys, monkeypatch) -> None:
    def full(path: Path, text: str) -> Path:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setenv(SYSFS_VARIABLE, str(tmp_path))
    monkeypatch.setattr("greenprune.bench.cli.saving.write_atomically", full)
    assert main(["doctor", "--idle", "0", "--json", str(tmp_path / "doctor.json")]) == 2
    printed = capsys.readouterr()
    assert "to get it: " in printed.out
    assert "cannot be written (No space left on device)" in printed.err


def test_what_nobody_reads_is_written_all_the_same(tmp_path: Path, unread, monkeypatch) -> None:
    monkeypatch.setenv(SYSFS_VARIABLE, str(tmp_path))
    path = tmp_path / "doctor.json"
    with unread():
        main(["doctor", "--idle", "0", "--json", str(path)])
    assert "sources" in json.loads(path.read_text())
