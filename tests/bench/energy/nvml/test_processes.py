"""GPUs in forked processes and in several threads."""

from __future__ import annotations

import pytest

from tests.bench.energy.conftest import NO_COUNTER


def test_a_forked_child_measures_its_own_windows_and_not_its_parents(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=10)
meter = EnergyMeter()
parent = meter.begin("parent")
time.sleep(0.2)
read, write = os.pipe()
if os.fork() == 0:
    with meter.window("child") as w:
        time.sleep(0.5)
    stolen = parent.end()
    text = json.dumps([gpus(w.reading)[0], w.reading.duration_s, gpus(stolen)[0]])
    os.write(write, text.encode())
    os._exit(0)
child = json.loads(os.read(read, 65536))
os.wait()
parent.end()
say(child=child[0], child_s=child[1], stolen=child[2], parent=gpus(parent.reading)[0],
    parent_s=parent.reading.duration_s)
"""
    answer = gpu_script(source)
    assert answer["child"]["energy_j"] == pytest.approx(300 * answer["child_s"], rel=0.06)
    assert answer["parent"]["energy_j"] == pytest.approx(300 * answer["parent_s"], rel=0.06)
    assert "another process" in answer["stolen"]["reason"]


def test_a_forked_child_goes_on_sampling(gpu_script) -> None:
    source = f"""
begin(TRACE=300, ERRORS="{NO_COUNTER}")
meter = EnergyMeter()
with meter.window("before"):
    time.sleep(0.1)
read, write = os.pipe()
if os.fork() == 0:
    with meter.window("child") as w:
        time.sleep(2)
    os.write(write, json.dumps([gpus(w.reading)[0], w.reading.duration_s]).encode())
    os._exit(0)
gpu, duration_s = json.loads(os.read(read, 65536))
os.wait()
say(gpu=gpu, duration_s=duration_s)
"""
    answer = gpu_script(source)
    assert answer["gpu"]["valid"], answer["gpu"]["reason"]
    assert answer["gpu"]["energy_j"] == pytest.approx(300 * answer["duration_s"], rel=0.01)


def test_windows_of_several_threads_overlap(gpu_script) -> None:
    source = """
import threading
begin(TRACE=300, PERIOD_MS=10)
meter = EnergyMeter()
found = []
def work(duration_s):
    with meter.window("x") as w:
        time.sleep(duration_s)
    found.append([gpus(w.reading)[0], w.reading.duration_s])
threads = [threading.Thread(target=work, args=(0.3 + 0.1 * i,)) for i in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
say(found=found, alive=[t.name for t in threading.enumerate()])
"""
    answer = gpu_script(source)
    assert len(answer["found"]) == 4
    for gpu, duration_s in answer["found"]:
        assert gpu["low_j"] <= 300 * duration_s <= gpu["high_j"]
        assert gpu["energy_j"] == pytest.approx(300 * duration_s, rel=0.5)  # no window has another's energy
