"""Which GPUs count: those that CUDA shows, by its numbers or by UUID, against a stand-in for the NVML library."""

from __future__ import annotations

import pytest
from greenprune.bench.energy.nvml.visible import Gpu, by_uuid, gpus_of_job, order_is_certain, visible_gpus

UUIDS = [f"GPU-a000000{i}-1111-2222-3333-44444444444{i}" for i in range(3)]
GPUS = [Gpu(i, uuid, "A100") for i, uuid in enumerate(UUIDS)]


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (None, ["nvml:0", "nvml:1", "nvml:2"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2", ["nvml:2"]),
        ("2,0", ["nvml:2", "nvml:0"]),
        (" 1 , 0", ["nvml:1", "nvml:0"]),
        ("0,-1,1", ["nvml:0"]),
        ("0,7,1", ["nvml:0"]),
        ("1gpu2,2x", ["nvml:1", "nvml:2"]),
        ("0,0", []),
        (UUIDS[1], ["nvml:1"]),
        (f"{UUIDS[2]},{UUIDS[0]}", ["nvml:2", "nvml:0"]),
        ("GPU-a0000001", ["nvml:1"]),
        ("GPU-a000000", []),  # ambiguous
        ("GPU-ffffffff", []),
        (f"{UUIDS[1]},0", ["nvml:1"]),
        ("MIG-1234", ["nvml:MIG-1234"]),
    ],
)
def test_visible_gpus_are_those_that_cuda_shows(value: str | None, labels: list[str]) -> None:
    assert [v.label for v in visible_gpus(value, GPUS)] == labels


@pytest.mark.parametrize(
    ("numbers", "value", "foreign", "labels"),
    [
        ((), "0", (), None),
        ((0, 1), "0,1", (), None),  # all are shown
        ((1, 2), "1", (), ["nvml:1", "nvml:2"]),  # nothing is hidden
        ((5, 6, 7), "0", (), ["nvml:0", "nvml:1", "nvml:2"]),  # the job's alone are there, with new numbers
        ((1, 2, 3), "0", (), ["nvml:0", "nvml:1", "nvml:2"]),
        ((1, 2), "0", (0,), ["nvml:1", "nvml:2"]),  # others are refused, and keep their numbers
        ((0, 1), "0", (0,), None),  # a number of a card of others: nobody can tell
        ((0, 1, 2, 3), "MIG-1", (), None),  # numbers of slices
    ],
)
def test_the_cards_of_a_job_are_found_by_the_nodes_numbers_or_by_what_a_cgroup_leaves(
    numbers: tuple[int, ...], value: str, foreign: tuple[int, ...], labels: list[str] | None
) -> None:
    gpus = [Gpu(gpu.index, gpu.uuid, gpu.name, foreign=gpu.index in foreign) for gpu in GPUS]
    found = gpus_of_job(numbers, value, gpus)
    assert (None if found is None else [v.label for v in found]) == labels


def test_a_mig_slice_has_no_gpu_and_says_why() -> None:
    (only,) = visible_gpus("MIG-GPU-1/2/0", GPUS)
    assert only.gpu is None
    assert "MIG" in (only.problem or "")


def test_the_order_of_unlike_gpus_is_uncertain_unless_cuda_is_told_to_use_the_bus() -> None:
    unlike = [GPUS[0], Gpu(1, UUIDS[1], "T4")]
    assert order_is_certain("0", None, GPUS)
    assert not order_is_certain("0", None, unlike)
    assert not order_is_certain(None, "FASTEST_FIRST", unlike)
    assert order_is_certain("0", "PCI_BUS_ID", unlike)
    assert order_is_certain(UUIDS[1], None, unlike)


def test_a_uuid_is_found_without_its_prefix_and_in_capitals() -> None:
    assert by_uuid(UUIDS[1].removeprefix("GPU-").upper(), GPUS) == GPUS[1]
    assert by_uuid("GPU-a", GPUS) is None


@pytest.mark.parametrize(
    ("value", "device", "names", "watts"),
    [
        (None, None, ["nvml:0", "nvml:1"], [100, 300]),
        (None, "cuda", ["nvml:0"], [100]),
        (None, "cuda:1", ["nvml:1"], [300]),
        ("1", "cuda", ["nvml:1"], [300]),
        (UUIDS[1], "cuda:0", ["nvml:1"], [300]),
        ("1,0", "cuda:1", ["nvml:0"], [100]),
    ],
)
def test_the_gpu_that_is_asked_for_is_the_one_measured(gpu_script, value, device, names, watts) -> None:
    source = f"""
begin(DEVICES=2, TRACE_0=100, TRACE_1=300, PERIOD_MS=5)
meter = EnergyMeter({device!r})
with meter.window("x") as w:
    time.sleep(0.3)
say(gpus=gpus(w.reading), duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source, **({} if value is None else {"CUDA_VISIBLE_DEVICES": value}))
    assert [g["name"] for g in answer["gpus"]] == names
    for gpu, power_w in zip(answer["gpus"], watts, strict=True):
        assert gpu["energy_j"] == pytest.approx(power_w * answer["duration_s"], rel=0.05)


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", 'CUDA_VISIBLE_DEVICES is ""'), ("MIG-12", "MIG slices cannot be measured"), ("5", "CUDA shows no such GPU")],
)
def test_a_gpu_that_is_asked_for_and_not_there_is_invalid_and_one_not_asked_for_is_left_out(
    gpu_script, value, reason
) -> None:
    source = """
begin()
answers = []
for device in ("cuda", None):
    meter = EnergyMeter(device)
    with meter.window("x") as w:
        pass
    answers.append(gpus(w.reading))
    rows = [d for d in meter.describe() if d["source"].startswith("nvml")]
say(asked=answers[0], not_asked=answers[1], rows=rows)
"""
    answer = gpu_script(source, CUDA_VISIBLE_DEVICES=value)
    (gpu,) = answer["asked"]
    assert gpu["energy_j"] is None
    assert not gpu["valid"]
    assert reason in gpu["reason"]
    assert answer["not_asked"] == [] or not answer["not_asked"][0]["valid"]
    assert reason in answer["rows"][0]["reason"]


def test_without_a_driver_the_gpu_that_is_asked_for_is_invalid(gpu_script) -> None:
    source = """
begin(ERRORS="nvmlInit@0-1e9=9")
with EnergyMeter("cuda").window("x") as w:
    pass
say(gpus=gpus(w.reading), rest=[s.name for s in w.reading.sources if s.valid])
"""
    answer = gpu_script(source)
    assert answer["gpus"][0]["reason"].startswith(
        "nvmlInit: the NVIDIA driver is not loaded (NVML error 9); sudo modprobe"
    )
    assert answer["rest"]


def test_unlike_gpus_without_a_fixed_order_are_warned_about(gpu_script) -> None:
    source = """
begin(DEVICES=2, NAME_1="NVIDIA Other", PERIOD_MS=5)
with EnergyMeter("cuda").window("x") as w:
    time.sleep(0.1)
say(warnings=w.reading.warnings)
"""
    assert any("CUDA_DEVICE_ORDER=PCI_BUS_ID" in w for w in gpu_script(source)["warnings"])
    told = gpu_script(source, CUDA_DEVICE_ORDER="PCI_BUS_ID")["warnings"]
    assert not any("CUDA_DEVICE_ORDER" in w for w in told)


def test_mig_mode_is_refused(gpu_script) -> None:
    source = """
begin(MIG=1)
with EnergyMeter("cuda").window("x") as w:
    pass
say(gpus=gpus(w.reading))
"""
    assert "MIG" in gpu_script(source)["gpus"][0]["reason"]
