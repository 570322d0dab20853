"""GPUs that fail, change or count something else: each stands for itself, and a reading says which figure it gives."""

from __future__ import annotations

import pytest
from greenprune.bench.energy.nvml.errors import ERRORS, NvmlError
from greenprune.bench.energy.nvml.verdict import decide
from greenprune.bench.energy.nvml.visible import Gpu, order_is_certain, visible_gpus
from greenprune.bench.energy.reading import Reading, SourceReading
from greenprune.bench.energy.source import with_remedy

SENSORS = ("GetTotalEnergyConsumption", "GetFieldValues", "GetPowerUsage")


def rules(code: int, *names: str, since: str = "0") -> str:
    return ";".join(f"nvmlDevice{name}@{since}-1e9={code}" for name in names)


BROKEN = {
    "lost": f'ERRORS_0="{rules(15, "GetHandleByIndex_v2", "GetHandleByUUID", "GetUUID", *SENSORS)}"',
    "lost, but its handle is there": f'ERRORS_0="{rules(15, "GetUUID", "GetName", *SENSORS)}"',
    "MIG": "MIG_0=1",
    "unsupported": f'ERRORS_0="{rules(3, *SENSORS)}"',
    "reset required": f'ERRORS_0="{rules(16, *SENSORS)}"',
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_card_that_cannot_be_read_leaves_the_healthy_ones_alone_and_the_total_names_it(gpu_script, broken) -> None:
    source = f"""
begin(TRACE=300, DEVICES=3, PERIOD_MS=10, {BROKEN[broken]})
with EnergyMeter().window("x") as w:
    time.sleep(0.4)
total = w.reading.total("measured")
say(gpus=gpus(w.reading), duration_s=w.reading.duration_s, whole=w.reading.energy_j("measured"),
    total=total.model_dump() | {{"name": total.name}})
"""
    answer = gpu_script(source)
    first, *healthy = answer["gpus"]
    assert [g["name"] for g in answer["gpus"]] == ["nvml:0", "nvml:1", "nvml:2"]
    assert not first["valid"]
    for gpu in healthy:
        assert gpu["energy_j"] == pytest.approx(300 * answer["duration_s"], rel=0.06)
    assert answer["whole"] is None
    assert answer["total"]["energy_j"] == pytest.approx(600 * answer["duration_s"], rel=0.06)
    assert answer["total"]["missing"] == {"nvml:0": first["reason"]}
    assert answer["total"]["name"] == "measured, without nvml:0"


@pytest.mark.parametrize(
    ("value", "device"), [("1", None), ("1", "cuda"), ("GPU-a0000001", "cuda"), (None, "cuda:1"), ("0,1", "cuda:1")]
)
def test_a_healthy_card_that_is_named_is_measured_beside_a_lost_one(gpu_script, value, device) -> None:
    source = f"""
begin(TRACE_0=100, TRACE_1=300, DEVICES=2, PERIOD_MS=10, {BROKEN["lost"]})
with EnergyMeter({device!r}).window("x") as w:
    time.sleep(0.3)
say(gpus=gpus(w.reading), duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source, **({} if value is None else {"CUDA_VISIBLE_DEVICES": value}))
    (gpu,) = answer["gpus"]
    assert gpu["name"] == "nvml:1"
    assert gpu["energy_j"] == pytest.approx(300 * answer["duration_s"], rel=0.06)


def test_a_card_that_is_lost_in_a_window_takes_no_other_with_it(gpu_script) -> None:
    source = f"""
begin(TRACE=300, DEVICES=2, PERIOD_MS=10)
meter = EnergyMeter()
with meter.window("x") as w:
    time.sleep(0.3)
    os.environ["STANDIN_ERRORS_1"] = {rules(15, *SENSORS)!r}
    time.sleep(0.3)
with meter.window("after") as after:
    time.sleep(0.3)
say(both=[[gpus(r), r.duration_s, r.total("measured").missing] for r in (w.reading, after.reading)])
"""
    for (healthy, lost), duration_s, missing in gpu_script(source)["both"]:
        assert healthy["energy_j"] == pytest.approx(300 * duration_s, rel=0.06)
        assert not lost["valid"]
        assert "dmesg" in lost["reason"]  # what to do about it
        assert list(missing) == ["nvml:1"]


def test_cards_of_others_are_left_out_as_cuda_leaves_them_out() -> None:
    gpus = [Gpu(0, "GPU-a", "A100", "no permission", foreign=True), Gpu(1, "GPU-b", "A100"), Gpu(2, "GPU-c", "A100")]
    assert [v.label for v in visible_gpus(None, gpus)] == ["nvml:1", "nvml:2"]
    assert [v.label for v in visible_gpus("0", gpus)] == ["nvml:1"]
    assert order_is_certain("0", None, gpus)
    lost = [Gpu(0, "", "A100", "lost"), Gpu(1, "GPU-b", "A100")]
    assert not order_is_certain("0", "PCI_BUS_ID", lost)  # CUDA may have moved up


def test_a_driver_that_is_there_and_does_not_answer_is_a_gpu_that_is_missing(gpu_script) -> None:
    source = """
begin(ERRORS="nvmlInit@0-1e9=18")
meter = EnergyMeter()
with meter.window("x") as w:
    pass
say(gpus=gpus(w.reading), rows=[r for r in meter.describe() if r["source"] == "nvml"])
"""
    answer = gpu_script(source)
    (gpu,) = answer["gpus"]
    assert "different versions" in gpu["reason"]
    assert "restart the machine" in gpu["reason"]
    assert "modprobe nvidia" in answer["rows"][0]["remedy"]


def test_every_error_of_nvml_has_a_sentence_and_a_remedy() -> None:
    import pynvml

    codes = {value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
    assert codes <= set(ERRORS)
    for code in codes:
        error = NvmlError("nvmlInit", code, "?")
        assert error.remedy
        assert str(error).endswith(f"(NVML error {code})")
        assert with_remedy(error).endswith(error.remedy)
    assert NvmlError("nvmlInit", 12345, "text of the driver").remedy


# ---- the counter's period changes


@pytest.mark.parametrize(
    ("schedule", "jitter"),
    [("100,{t}:1000", 0), ("10,{t}:1000", 0), ("100,{t}:300", 0.9), ("500,{t}:50", 0), ("10,{t}:60", 0)],
)
@pytest.mark.parametrize("power", [True, False])
def test_bounds_hold_the_truth_while_the_period_changes(gpu_script, schedule: str, jitter: float, power: bool) -> None:
    errors = "" if power else f', ERRORS="{rules(3, "GetFieldValues", "GetPowerUsage")}"'
    source = f"""
begin(TRACE=300, PERIOD_MS="{schedule.split(",")[0]}", JITTER={jitter}{errors})
meter = EnergyMeter()
os.environ["STANDIN_PERIOD_MS"] = "{schedule}".format(t=clock() + 0.7)
found = []
for i in range(4):
    with meter.window("x") as w:
        time.sleep(1.31 + 0.37 * i)
    found.append([gpus(w.reading)[0], w.reading.duration_s])
say(found=found)
"""
    for gpu, duration_s in gpu_script(source)["found"]:
        if gpu["energy_j"] is None:
            assert not power
            continue
        assert gpu["low_j"] <= 300 * duration_s <= gpu["high_j"], gpu


def test_an_aligned_window_waits_for_a_counter_that_has_become_slow(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=100)
meter = EnergyMeter()
os.environ["STANDIN_PERIOD_MS"] = f"100,{clock()}:700"
with meter.window("x", align=True) as w:
    time.sleep(1.0)
say(gpu=gpus(w.reading)[0], duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source)
    assert answer["gpu"]["kind"] == "measured"
    assert answer["gpu"]["energy_j"] == pytest.approx(300 * answer["duration_s"], rel=0.03)


def test_a_counter_that_stops_in_a_window_is_replaced_by_power(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=100)
meter = EnergyMeter()
os.environ["STANDIN_FREEZE_AT"] = str(clock() + 0.6)
with meter.window("x") as w:
    time.sleep(2)
say(gpu=gpus(w.reading)[0], duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source)
    assert answer["gpu"]["kind"] == "sampled"
    assert answer["gpu"]["energy_j"] == pytest.approx(300 * answer["duration_s"], rel=0.03)
    assert "stood still" in answer["gpu"]["basis"]


# ---- which figure counts


def test_the_counter_of_a_module_is_called_that_and_the_gpus_own_figure_stands_beside_it(gpu_script) -> None:
    source = """
begin(TRACE=200, MODULE_W=150, SCOPES=1, NAME="NVIDIA GH200 480GB", PERIOD_MS=10)
with EnergyMeter().window("x") as w:
    time.sleep(1.5)
say(gpu=gpus(w.reading)[0], duration_s=w.reading.duration_s, warnings=w.reading.warnings)
"""
    answer = gpu_script(source)
    gpu, duration_s = answer["gpu"], answer["duration_s"]
    assert (gpu["scope"], gpu["kind"]) == ("module", "measured")
    assert gpu["energy_j"] == pytest.approx(350 * duration_s, rel=0.03)
    assert gpu["other_j"] == pytest.approx(200 * duration_s, rel=0.03)
    assert "module" in gpu["basis"]
    assert any("module" in warning for warning in answer["warnings"])


def test_bounds_hold_both_figures_where_nothing_tells_which_is_right(gpu_script) -> None:
    source = """
begin(TRACE=65.4, COUNTER=0.573, PERIOD_MS=10)
with EnergyMeter().window("x") as w:
    time.sleep(1.5)
say(gpu=gpus(w.reading)[0], duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source)
    gpu, true_j = answer["gpu"], 65.4 * answer["duration_s"]
    assert gpu["energy_j"] == pytest.approx(0.573 * true_j, rel=0.03)
    assert gpu["other_j"] == pytest.approx(true_j, rel=0.03)
    assert gpu["low_j"] <= 0.573 * true_j <= true_j <= gpu["high_j"]
    assert "the counter says" in gpu["basis"]


@pytest.mark.parametrize(
    ("name", "counter_j", "power_j", "module_j", "still_s", "expected"),
    [
        ("A100", 1000.0, 1010.0, None, 0.0, ("counter", "gpu", True)),
        ("GH200", 1500.0, 1000.0, 1510.0, 0.0, ("counter", "module", True)),
        ("strange", 1500.0, 1000.0, 1510.0, 0.0, ("counter", "module", True)),
        ("NVIDIA GB200", 1500.0, 1000.0, None, 0.0, ("counter", "module", True)),
        ("GH200", 1000.0, 1005.0, 1500.0, 0.0, ("counter", "gpu", True)),  # a superchip whose counter is the GPU's
        ("GH200", 1500.0, 1000.0, 3000.0, 0.0, ("counter", "gpu", False)),
        ("A100", 187.0, 327.0, None, 0.0, ("counter", "gpu", False)),
        ("A100", 187.0, 327.0, None, 2.0, ("power", "gpu", False)),
        ("A100", 2500.0, 1000.0, None, 0.0, ("power", "gpu", False)),  # more than its limit allows
        ("A100", 1.0, 1000.0, None, 0.0, ("power", "gpu", False)),  # its counter counts something else
        ("A100", 1000.0, None, None, 0.0, ("counter", "gpu", True)),
        ("NVIDIA GH200 480GB", 1000.0, None, None, 0.0, ("counter", "module", True)),
    ],
)
def test_evidence_decides(name, counter_j, power_j, module_j, still_s, expected) -> None:
    verdict = decide(name, counter_j, power_j, module_j, slack_j=5.0, limit_j=2000.0, stood_still_s=still_s)
    assert (verdict.figure, verdict.scope, verdict.agreed) == expected
    assert verdict.basis


def test_a_total_names_what_it_lacks_whatever_the_missing_sensor_would_have_been() -> None:
    def source(name: str, energy_j: float | None, kind="measured") -> SourceReading:
        reason = None if energy_j is not None else "lost"
        return SourceReading(name=name, kind=kind, energy_j=energy_j, valid=energy_j is not None, reason=reason)

    sources = (source("nvml:0", 10.0, "sampled"), source("nvml:1", None), source("cpu", 3.0, "modelled"))
    reading = Reading(name="x", duration_s=1, sources=sources)
    sampled, modelled = reading.total("sampled"), reading.total("modelled")
    assert sampled is not None
    assert (sampled.energy_j, sampled.missing, sampled.name) == (10, {"nvml:1": "lost"}, "sampled, without nvml:1")
    assert modelled is not None
    assert (modelled.energy_j, modelled.missing, modelled.name) == (3, {}, "modelled")
    assert reading.total("measured") is None


def test_the_command_says_which_card_its_total_lacks_in_words_json_and_csv(gpu_script, tmp_path) -> None:
    source = f"""
import csv, subprocess
begin(TRACE=300, DEVICES=2, PERIOD_MS=10, {BROKEN["lost"]})
folder = {str(tmp_path)!r}
done = subprocess.run(
    [sys.executable, "-m", "greenprune", "energy", "--json", folder + "/e.json", "--csv", folder + "/e.csv", "--",
     "sh", "-c", "sleep 0.5; exit 3"], capture_output=True, text=True)
with open(folder + "/e.json") as f:
    stored = json.load(f)
with open(folder + "/e.csv") as f:
    rows = list(csv.DictReader(f))
say(code=done.returncode, told=done.stderr, totals=stored["totals"], sources=stored["reading"]["sources"], rows=rows)
"""
    answer = gpu_script(source)
    assert answer["code"] == 3  # the command's own
    assert "measured, without nvml:0: " in answer["told"]
    measured = answer["totals"]["measured"]
    assert measured["energy_j"] == pytest.approx(150, rel=0.2)
    assert "the GPU is lost" in measured["missing"]["nvml:0"]
    (row,) = [row for row in answer["rows"] if row["kind"] == "measured"]
    assert row["missing"].startswith("nvml:0: ")
    assert "energy counter" in row["basis"]
    assert {"basis", "other_j", "scope"} <= set(answer["sources"][1])
