"""CodeCarbon's tracker beside ours: its figures, its failures, and that it leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import codecarbon
import pytest

from bench.energy.crosscheck import codecarbon_beside


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
