"""Which of AMD's cards a job's numbers mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.energy.sensors.amdsmi import plain_uuid
from greenprune.bench.energy.sources import amd

from tests.bench.energy.sources.amdsmi import AmdSmiLibraryException, names
from tests.bench.energy.sources.trees import place


@pytest.mark.parametrize(
    ("environ", "chosen"),
    [
        ({}, ["amd:0", "amd:1", "amd:2"]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, ["amd:2", "amd:0"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["amd:1"]),
        ({"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "0"}, ["amd:1"]),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
        ({"HIP_VISIBLE_DEVICES": "-1"}, []),
        ({"HIP_VISIBLE_DEVICES": "0,9,1"}, ["amd:0"]),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, ["amd:2"]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-4b2c1a9f8d3e6f71"}, ["amd:1"]),
        ({"ROCR_VISIBLE_DEVICES": "2,GPU-4B2C1A9F8D3E6F70"}, ["amd:2", "amd:0"]),
        ({"ROCR_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_the_devices_that_hip_shows(library, tmp_path: Path, environ: dict[str, str], chosen: list[str]) -> None:
    library({}, {}, {})
    assert names(tmp_path, environ=environ) == chosen


def test_the_device_is_counted_among_those_that_hip_shows(library, tmp_path: Path) -> None:
    library({}, {}, {})
    environ = {"HIP_VISIBLE_DEVICES": "2,1"}
    assert names(tmp_path, environ=environ, device="cuda") == ["amd:2"]
    assert names(tmp_path, environ=environ, device="cuda:1") == ["amd:1"]
    assert names(tmp_path, environ=environ, device="cuda:2") == []
    assert names(tmp_path, environ=environ, device="cpu") == []


def test_the_order_is_hips_and_not_the_librarys(library, tmp_path: Path) -> None:
    library({"hip_id": 1, "bdf": "0000:aa:00.0"}, {"hip_id": 0, "bdf": "0000:bb:00.0"})
    (source,) = amd.find(place(tmp_path, device="cuda:0")).sources
    assert "0000:bb:00.0" in source.describe()["detail"]


def test_without_hips_number_the_kernels_node_gives_the_order(library, tmp_path: Path) -> None:
    gone = AmdSmiLibraryException("not supported")
    library(
        {"hip_id": gone, "node_id": 9, "bdf": "0000:aa:00.0"}, {"hip_id": gone, "node_id": 4, "bdf": "0000:bb:00.0"}
    )
    (source,) = amd.find(place(tmp_path, device="cuda:0")).sources
    assert "0000:bb:00.0" in source.describe()["detail"]


@pytest.mark.parametrize(
    "uuid",
    [
        "4b2c1a9f8d3e6f71",
        "GPU-4b2c1a9f8d3e6f71",
        "34623263-3161-3966-3864-336536663731",
        "01ff74a1-0000-1000-80d0-000000000000",
    ],
)
def test_a_card_is_found_by_each_form_of_its_uuid(library, tmp_path: Path, uuid: str) -> None:
    """PyTorch's is the 16 characters of HIP's as raw bytes."""
    library({}, {})
    assert names(tmp_path, gpu_uuids=[uuid]) == ["amd:1"]


def test_a_uuid_of_digits_alone_is_left_as_it_is() -> None:
    assert plain_uuid("GPU-1234567890123456") == "1234567890123456"


@pytest.mark.parametrize(
    ("job", "counted"),
    [("1,2", ["amd:1", "amd:2"]), ("2,3", ["amd:1"]), ("1", ["amd:1"])],  # of three cards, whoever hides the others
)
def test_all_cards_of_a_job_count_where_their_numbers_are_there(library, tmp_path: Path, job: str, counted) -> None:
    library({}, {}, {})
    shown = {"ROCR_VISIBLE_DEVICES": "1"}
    assert names(tmp_path, environ=shown, job_gpus=tuple(map(int, job.split(",")))) == counted
