"""Other meters beside ours: their figures, their failures, that they leave nothing behind, and enter no sum."""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import codecarbon
import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.crosscheck import codecarbon_beside, crosschecked, zeus_beside
from greenprune.bench.errors import UserError
from greenprune.bench.records.load import read_record
from greenprune.bench.suite.file import load_suite

from tests.conftest import SUITE


class Tracker:
    """Stands for CodeCarbon's; 1e-6 kWh are 3.6 J."""

    def __init__(self, **options) -> None:
        assert options["save_to_file"] is False
        assert options["allow_multiple_runs"] is True
        self.final_emissions_data = SimpleNamespace(cpu_energy=1e-6, gpu_energy=2e-6, ram_energy=0.0)

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


def test_its_kilowatt_hours_are_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecarbon, "OfflineEmissionsTracker", Tracker)
    with codecarbon_beside("FRA") as found:
        assert found.cpu_j is None
    assert (found.cpu_j, found.gpu_j, found.ram_j) == pytest.approx((3.6, 7.2, 0.0))
    assert found.problem is None
    assert found.overhead_s is not None


@pytest.mark.parametrize("method", ["__init__", "start", "stop"])
def test_its_failure_is_told_and_stops_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(codecarbon, "OfflineEmissionsTracker", type("T", (Tracker,), {method: fail}))
    with codecarbon_beside() as found:
        done = True
    assert done
    assert found.problem == "CodeCarbon: RuntimeError: broken"
    assert found.cpu_j is None


def test_what_the_block_raises_passes_and_the_figures_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecarbon, "OfflineEmissionsTracker", Tracker)
    with pytest.raises(KeyError), codecarbon_beside() as found:
        raise KeyError
    assert found.cpu_j == pytest.approx(3.6)


@pytest.mark.filterwarnings("ignore")  # whatever CodeCarbon and pandas have to say to each other
def test_the_real_one_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock = Path(tempfile.gettempdir()) / ".codecarbon.lock"
    there = lock.exists()
    with codecarbon_beside(interval_s=1.0) as found:
        sum(i * i for i in range(300_000))
    assert found.problem is None
    assert found.version == codecarbon.__version__
    assert found.cpu_j is not None
    assert list(tmp_path.iterdir()) == []
    assert lock.exists() == there


# Zeus


class Zeus:
    """Stands for ZeusMonitor; `parts` is what a window has used of CPU, GPU and memory."""

    parts: tuple[dict | None, dict | None, dict | None] = ({0: 1.0, 1: 2.0}, {0: 10.0}, None)
    asked: ClassVar[list[object]] = []

    def __init__(self, gpu_indices=None) -> None:
        Zeus.asked.append(gpu_indices)

    def begin_window(self, name: str, sync_execution: bool) -> None:
        pass

    def end_window(self, name: str, sync_execution: bool) -> SimpleNamespace:
        cpu, gpu, dram = self.parts
        return SimpleNamespace(cpu_energy=cpu, gpu_energy=gpu, dram_energy=dram)


@pytest.fixture
def zeus(monkeypatch: pytest.MonkeyPatch) -> type[Zeus]:
    """An installed Zeus, of version 9."""
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9" if name == "zeus" else version(name))
    monkeypatch.setitem(sys.modules, "zeus", ModuleType("zeus"))
    monitor = ModuleType("zeus.monitor")
    monitor.ZeusMonitor = Zeus  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zeus.monitor", monitor)
    monkeypatch.setattr(Zeus, "asked", [])
    return Zeus


def test_zeus_joules_are_summed_over_devices_and_what_it_has_not_is_none(zeus: type[Zeus]) -> None:
    with zeus_beside() as found:
        pass
    assert (found.cpu_j, found.gpu_j, found.ram_j, found.version, found.problem) == (3.0, 10.0, None, "9", None)
    with zeus_beside(gpus=False):
        pass
    assert zeus.asked == [None, []]  # None: all that CUDA shows


def test_a_zeus_that_found_nothing_or_is_not_there_says_so(zeus: type[Zeus], monkeypatch) -> None:
    monkeypatch.setattr(Zeus, "parts", (None, {}, None))
    with zeus_beside() as found:
        pass
    assert (found.cpu_j, found.gpu_j, found.ram_j) == (None, None, None)
    assert "neither a GPU nor a RAPL" in (found.problem or "")

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with zeus_beside() as found:
        pass
    assert "pip install zeus" in (found.problem or "")


# Several at once, beside our own window


def test_all_that_are_asked_for_run_beside_and_ours_is_of_the_same_time(zeus, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(codecarbon, "OfflineEmissionsTracker", Tracker)
    with EnergyMeter("cpu", powercap=tmp_path) as meter:
        with crosschecked(["zeus", "codecarbon"], meter) as checks, meter.window("x") as window:
            end_s = time.process_time() + 0.2
            while time.process_time() < end_s:
                pass
        with crosschecked([], meter) as none:
            pass
    assert none == []
    assert [check.tool for check in checks] == ["zeus", "codecarbon"]
    ours_j = window.reading.energy_j("modelled")
    for check in checks:
        assert check.ours_j == {"modelled": pytest.approx(ours_j, rel=0.2)}
        assert check.problem is None
        assert (check.duration_s or 0) >= window.reading.duration_s
    # What others say is in none of our sums: the CPU's share is CPU time by watts, and no joule of theirs.
    assert {s.name for s in window.reading.sources} == {"cpu", "ram"}


def test_a_run_that_is_asked_to_has_them_in_its_record(at_work: Path, tmp_path: Path) -> None:
    text = SUITE.replace("[measurement]", '[measurement]\ncrosscheck = ["codecarbon", "zeus"]')
    for method in ("gated", "magnitude"):
        text = text.replace(f'[[methods]]\nname = "{method}"\n', "")
    (tmp_path / "checked.toml").write_text(text)
    assert main(["run", str(tmp_path / "checked.toml"), "--out", str(tmp_path)]) == 0
    record = read_record(tmp_path / "tiny" / "dense-1-s0" / "record.json")
    assert record.settings["measurement"]["crosscheck"] == ["codecarbon", "zeus"]
    carbon, zeus = record.crosscheck
    assert (carbon.tool, carbon.version, carbon.problem) == ("codecarbon", codecarbon.__version__, None)
    assert carbon.cpu_j is not None
    assert zeus.tool == "zeus"
    assert (zeus.problem is None) == (zeus.cpu_j is not None or zeus.gpu_j is not None)
    training_s = record.energy["training"].duration_s
    for check in record.crosscheck:
        assert (check.duration_s or 0) >= training_s
        assert check.ours_j
    assert "CodeCarbon" in (tmp_path / "tiny" / "report.html").read_text()


def test_without_cross_checks_the_settings_are_those_of_older_records(at_work: Path) -> None:
    measurement = load_suite("tiny.toml").measurement
    assert "crosscheck" not in measurement.model_dump(mode="json")
    checked = measurement.model_copy(update={"crosscheck": ("zeus",)})
    assert checked.model_dump(mode="json")["crosscheck"] == ["zeus"]
    for stored in (measurement, checked):
        assert type(measurement).model_validate_json(stored.model_dump_json()) == stored


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('["carbontracker"]', 'crosscheck[0] = "carbontracker": is unknown; allowed: "codecarbon", "zeus"'),
        ('["zeus", "zeus"]', 'crosscheck[1] = "zeus": is there twice'),
        ('"zeus"', "crosscheck"),
    ],
)
def test_a_tool_that_is_unknown_or_there_twice_is_refused(tmp_path: Path, value: str, message: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(
        SUITE.replace("[measurement]", f"[measurement]\ncrosscheck = {value}").replace("tiny_networks:tiny", "resnet20")
    )
    with pytest.raises(UserError) as refused:
        load_suite(str(path))
    assert f"measurement.{message}" in str(refused.value)
