"""What each of several runs at a time has to itself: fake cards, the stand-in of the NVML library, and two real runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.energy.nvml.gpus import ORDER_UNKNOWN
from greenprune.bench.energy.nvml.visible import MIG, Gpu
from greenprune.bench.errors import UserError
from greenprune.bench.machine.cards import Cards, Usable
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import Neighbour
from greenprune.bench.run.neighbours import FILE, Neighbours, neighbours
from greenprune.bench.run.shares import EVEN, NOT_SHARED, Share, Shares, of_cards, shares_of
from greenprune.bench.training.files import CHECKPOINT_FILE

from tests.conftest import SUITE

NOWHERE = Path("/nowhere")  # nothing tells which cores are threads of one


def card(index: int, *cores: int, name: str = "A") -> Usable:
    return Usable(Gpu(index, f"GPU-{index}", name), cores)


def cards(*usable: Usable, **rest: Any) -> Cards:
    return Cards(usable, **rest)


# Cores next to the GPUs


def test_each_run_has_a_gpu_and_its_part_of_the_cores_next_to_it() -> None:
    near = [(0, 1, 2, 3), (4, 5, 6, 7)]
    found = of_cards(4, cards(*(card(i, *near[i // 2]) for i in range(4))), range(8), NOWHERE)
    assert [share.cores for share in found.each] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert [share.gpu_uuids for share in found.each] == [("GPU-0",), ("GPU-1",), ("GPU-2",), ("GPU-3",)]
    assert all(share.near for share in found.each)
    assert found.notes == ()
    two = of_cards(2, cards(*(card(i, *near[i % 2]) for i in range(4))), range(8), NOWHERE)  # all next to the two
    assert [share.cores for share in two.each] == near
    assert two.each[1].text == "on GPU nvml:1 (GPU-1) and 4 cores next to it"


@pytest.mark.parametrize(
    "near",
    [
        [(0, 1, 2, 3), ()],  # not known of one
        [(0, 1, 2, 3), (2, 3, 4, 5)],  # across each other
        [(0, 1), (8, 9)],  # one may not use those next to it
        [(0,), (0,)],  # two on one
    ],
)
def test_where_they_are_not_known_or_too_few_the_cores_are_shared_out_evenly_and_it_says_so(
    near: list[tuple[int, ...]],
) -> None:
    found = of_cards(2, cards(card(0, *near[0]), card(1, *near[1])), range(8), NOWHERE)
    assert [(share.cores, share.near) for share in found.each] == [((0, 1, 2, 3), False), ((4, 5, 6, 7), False)]
    assert found.notes == (EVEN,)


def test_with_fewer_cores_than_gpus_each_run_may_use_all() -> None:
    found = of_cards(2, cards(card(0, 0), card(1, 0)), (0,), NOWHERE)
    assert [(share.cores, share.gpu_uuids) for share in found.each] == [((), ("GPU-0",)), ((), ("GPU-1",))]
    assert found.notes == (NOT_SHARED,)


# Which GPUs


def test_auto_is_as_many_runs_as_gpus_and_one_where_there_is_nothing_to_share_out() -> None:
    assert len(of_cards("auto", cards(card(0), card(1)), range(2), NOWHERE)) == 2
    assert of_cards("auto", cards(card(0)), range(2), NOWHERE) == Shares()
    assert of_cards("auto", cards(), range(2), NOWHERE) == Shares()
    assert of_cards("auto", cards(problem="x"), range(2), NOWHERE) == Shares(notes=("one run at a time: x",))
    assert shares_of("auto", "cpu") == shares_of(1, "cuda") == Shares()
    divided = of_cards("auto", cards(card(1), unusable=(("nvml:0", MIG),)), range(2), NOWHERE)
    assert divided.each == (
        Share(gpu_uuids=("GPU-1",), gpus=("nvml:1",)),
    )  # CUDA would have taken the one that is divided
    assert divided.notes == (f"nvml:0 is left out: {MIG}",)


def test_all_are_of_the_kind_that_cuda_puts_first() -> None:
    mixed = cards(card(0, name="A"), card(1, name="B"), card(2, name="B"))
    found = of_cards("auto", mixed, range(2), NOWHERE, kind="B")
    assert [share.gpus for share in found.each] == [("nvml:1",), ("nvml:2",)]
    assert found.notes[0] == "nvml:0 is left out: it is a A, and the runs of a suite go on one kind, B"
    assert of_cards("auto", mixed, range(2), NOWHERE, kind="a name that NVML has not").each[0].gpus == ("nvml:0",)


def test_runs_on_several_gpus_each_have_the_cores_next_to_all_of_theirs() -> None:
    found = of_cards("auto", cards(*(card(i, 2 * i, 2 * i + 1) for i in range(5))), range(10), NOWHERE, gpus=2)
    assert [(share.gpus, share.cores) for share in found.each] == [
        (("nvml:0", "nvml:1"), (0, 1, 2, 3)),
        (("nvml:2", "nvml:3"), (4, 5, 6, 7)),
    ]
    assert found.each[0].environment == {"CUDA_VISIBLE_DEVICES": "GPU-0,GPU-1"}
    assert found.each[0].text == "on GPUs nvml:0 (GPU-0) and nvml:1 (GPU-1) and 4 cores next to them"
    with pytest.raises(UserError, match="--jobs 2: each run needs 2 GPUs of its own, and there are 3 GPUs"):
        of_cards(2, cards(*(card(i) for i in range(3))), range(4), NOWHERE, gpus=2)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (cards(card(0), card(1)), "there is 2 GPUs to share out; allowed: 1 to 2, or auto"),
        (cards(value=""), 'there is no GPU to share out (CUDA_VISIBLE_DEVICES is ""); allowed: 1'),
        (
            cards(card(0), unusable=(("nvml:1", MIG),), value="0,1"),
            f'there is 1 GPU to share out (CUDA_VISIBLE_DEVICES is "0,1"); nvml:1 is left out: {MIG}; allowed: 1',
        ),
        (cards(problem=ORDER_UNKNOWN), f"{ORDER_UNKNOWN}; allowed: 1"),
    ],
)
def test_more_runs_than_gpus_are_refused_in_one_sentence(found: Cards, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        of_cards(3, found, range(8), NOWHERE)
    (line,) = str(caught.value).splitlines()
    assert line.replace("there are", "there is") == f"--jobs 3: each run needs a GPU of its own, and {sentence}"


SHOWN = """
from pathlib import Path
from greenprune.bench.machine.cards import cards_of
begin(DEVICES=4, NAME_2="another", MIG_3=1, CPUS_0="0x3", CPUS_1="0xc")
bus = Path(os.environ["SYSFS"]) / "bus/pci/devices/0000:10:00.0"
bus.mkdir(parents=True)
(bus / "local_cpulist").write_text("4-5")
found = {}
for value in (None, "", "1,0", "GPU-a0000001,GPU-a0000000", "3", "2"):
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    shown = cards_of(environ, Path(os.environ["SYSFS"]))
    cards = [(card.label, card.cores) for card in shown.usable]
    found[str(value)] = (cards, [label for label, _ in shown.unusable], shown.problem)
    ordered = cards_of(environ | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, Path(os.environ["SYSFS"]))
    found[f"{value} in order"] = [card.label for card in ordered.usable]
os.environ["STANDIN_ERRORS"] = "nvmlInit@0-1e9=9"
found["no driver"] = cards_of({}).problem
say(**found)
"""


def test_what_the_user_shows_is_respected_by_number_and_by_uuid(gpu_script: Callable, tmp_path: Path) -> None:
    found = gpu_script(SHOWN, SYSFS=str(tmp_path / "sys"))
    first, second = ["nvml:0", [4, 5]], ["nvml:1", [2, 3]]  # the bus tells, else the driver
    assert found["None"][0] == [first, second, ["nvml:2", []]]
    assert found["None"][1] == ["nvml:3"]  # divided (MIG)
    assert found[""] == [[], [], None]
    assert found["GPU-a0000001,GPU-a0000000"] == [[second, first], [], None]
    assert found["1,0"] == [[], [], ORDER_UNKNOWN]  # by number, and they differ
    assert found["1,0 in order"] == ["nvml:1", "nvml:0"]
    assert (found["2 in order"], found["3 in order"]) == (["nvml:2"], [])
    assert "not loaded" in found["no driver"].lower() or "driver" in found["no driver"]


# What runs beside a run


def test_each_run_is_told_of_those_beside_it_also_over_an_interruption(tmp_path: Path) -> None:
    there = Neighbours()
    a, b, c = (Neighbour(key=key, gpus=(f"nvml:{i}",), cores=2) for i, key in enumerate("abc"))
    folders = [tmp_path / key for key in "abc"]
    for folder in folders:
        folder.mkdir()
    there.enter(folders[0], a)
    there.enter(folders[1], b)
    there.leave(folders[1], finished=True)
    there.enter(folders[2], c)  # b is over by then
    assert [neighbours(folder) for folder in folders] == [(b, c), (), (a,)]
    (folders[0] / CHECKPOINT_FILE).touch()
    there.leave(folders[0], finished=False)
    there.enter(folders[0], a)  # goes on
    assert neighbours(folders[0]) == (b, c)
    (folders[0] / CHECKPOINT_FILE).unlink()
    there.leave(folders[0], finished=False)
    there.leave(folders[2], finished=True)
    there.enter(folders[0], a)  # begins anew
    assert neighbours(folders[0]) == ()
    assert not any((folder / FILE).exists() for folder in folders)


LAUNCHED = """
from pathlib import Path
from rich.console import Console
from greenprune.bench.data.load import load
from greenprune.bench.engines.engine import Place
from greenprune.bench.engines.launch import launch
from greenprune.bench.engines.local import Local
from greenprune.bench.machine.cards import cards_of
from greenprune.bench.plan.plan import plan
from greenprune.bench.run.display import Lines
from greenprune.bench.run.shares import of_cards
from greenprune.bench.suite.file import load_suite

begin(DEVICES=3, TRACE_0=100, TRACE_1=200, TRACE_2=400)
if __name__ == "__main__":
    shares = of_cards(2, cards_of({"CUDA_VISIBLE_DEVICES": "2,0"}), range(2))
    data = {"digits": load("digits")}
    outcome = launch("tiny", plan(load_suite("tiny.toml"), data, "cpu"), Path("results"), data_root=None, command="",
                     engine=Local(Place(shares=shares.each)), display=Lines(Console(quiet=True), 2), data=data)
    say(finished=outcome.finished, failed=outcome.failed)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_only_its_own_gpu_enters_the_joules_of_a_run_and_what_ran_beside_it_is_noted(
    gpu_script: Callable, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPUs are the stand-in's: the networks are trained on the CPU, the readings are those of a run's GPU."""
    only_dense = "".join(f'[[methods]]\nname = "{name}"\n\n' for name in ("gated", "magnitude"))
    text = SUITE.replace(only_dense, "").replace("seeds = [0]", "seeds = [0, 1]").replace("epochs = 2", "epochs = 4")
    # Measuring pauses between epochs: each must be longer than the counter takes for an update, a tenth of a second.
    text = text.replace("batch_size = 64", "batch_size = 4")
    (tmp_path / "tiny.toml").write_text(text)
    (tmp_path / "tiny_networks.py").write_text((workplace / "tiny_networks.py").read_text())
    monkeypatch.chdir(tmp_path)
    powercap = tmp_path / "sys/class/powercap/intel-rapl:0"  # the whole processor: everybody's
    powercap.mkdir(parents=True)
    for name, value in (("name", "package-0"), ("energy_uj", "1000000"), ("max_energy_range_uj", "262143328850")):
        (powercap / name).write_text(value + "\n")
    done = gpu_script(LAUNCHED, GREENPRUNE_SYSFS=str(tmp_path / "sys"), PYTHONPATH=f"{tmp_path}")
    assert done == {"finished": done["finished"], "failed": []}
    watts = {}
    for seed in (0, 1):
        record = read_record(tmp_path / f"results/dense-1-s{seed}/record.json")
        training = record.energy["training"]
        (gpu,) = [source for source in training.sources if source.name.startswith("nvml")]
        assert gpu.energy_j is not None
        watts[gpu.name] = gpu.energy_j / training.duration_s
        assert training.energy_j("measured") == gpu.energy_j  # nothing of the processor's counter
        assert {source.name for source in training.sources} == {gpu.name, "cpu", "ram"}
        (row,) = [row for row in record.energy_sources if row["source"].startswith("rapl")]
        assert "other runs go on beside this one" in row["reason"]
        (other,) = record.beside or ()
        assert (other.key, other.cores) == (f"dense-1-s{1 - seed}", 1)
        assert {*other.gpus, gpu.name} == {"nvml:0", "nvml:2"}
        assert any(f"this one on GPU {gpu.name} (GPU-a000000" in warning for warning in record.warnings)
        assert not (tmp_path / f"results/dense-1-s{seed}" / FILE).exists()
    assert watts == pytest.approx({"nvml:0": 100, "nvml:2": 400}, rel=0.2)


def test_a_number_of_runs_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", "quickstart", "--jobs", "all"])
    assert caught.value.code == 2
    assert "'all' is no whole number; allowed: auto, or an integer at least 1" in capsys.readouterr().err
