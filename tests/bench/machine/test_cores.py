"""Which cores belong together, and how they are shared out."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.machine.cores import by_physical_core, cpulist, near_device, split


def threads(sysfs: Path, *groups: tuple[int, ...]) -> Path:
    """A machine whose physical cores have these threads."""
    for group in groups:
        for core in group:
            place = sysfs / "devices/system/cpu" / f"cpu{core}" / "topology"
            place.mkdir(parents=True)
            (place / "thread_siblings_list").write_text(",".join(map(str, group)) + "\n")
    return sysfs


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3,8-9\n", (0, 1, 2, 3, 8, 9)), ("5", (5,)), ("", ()), ("\n", ()), ("all", ()), ("3-1", ())],
)
def test_lists_of_cores_are_read_as_the_kernel_writes_them(text: str, cores: tuple[int, ...]) -> None:
    assert cpulist(text) == cores


def test_the_cores_next_to_a_device_are_those_of_its_bus(tmp_path: Path) -> None:
    place = tmp_path / "bus/pci/devices/0000:3b:00.0"
    place.mkdir(parents=True)
    (place / "local_cpulist").write_text("0-1,4-5\n")
    assert near_device("00000000:3B:00.0", tmp_path) == (0, 1, 4, 5)
    assert near_device("00000001:3B:00.0", tmp_path) == ()
    assert near_device("no bus", tmp_path) == ()


def test_no_two_parts_share_a_physical_core_where_there_are_enough(tmp_path: Path) -> None:
    sysfs = threads(tmp_path, (0, 4), (1, 5), (2, 6), (3, 7))
    assert by_physical_core(range(8), sysfs) == [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert split(range(8), 2, sysfs) == [(0, 1, 4, 5), (2, 3, 6, 7)]
    assert split(range(8), 3, sysfs) == [(0, 4), (1, 5), (2, 6)]  # one is left over
    assert split(range(8), 8, sysfs) == [(core,) for core in range(8)]
    assert split((0, 1, 2, 4), 2, sysfs) == [
        (0, 1),
        (2, 4),
    ]  # of some one thread alone may be used: parts of equal size


def test_without_what_linux_tells_every_core_is_its_own(tmp_path: Path) -> None:
    assert split((1, 3, 5, 7), 2, tmp_path) == [(1, 3), (5, 7)]
    with pytest.raises(ValueError, match="2 cores cannot be split into 3"):
        split((0, 1), 3, tmp_path)
