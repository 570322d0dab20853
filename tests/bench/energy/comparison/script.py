"""What runs in a process of its own: one meter on one case."""

from __future__ import annotations

SCRIPT = """
import json, logging, os, signal, subprocess, sys, time
case = json.loads(sys.argv[2])
cap = os.path.abspath("cap")

TICKER = '''
import os, sys, time
cap, range_uj, watts, mirrors = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "mirrors"
folders = [os.path.join(cap, name) for name in sorted(os.listdir(cap))]
begun = time.monotonic()
while time.monotonic() - begun < 90 and os.path.exists(cap):
    joules = (time.monotonic() - begun) * watts / (1 if mirrors else len(folders))
    for i, folder in enumerate(folders):
        # Dies that are two differ by what they have counted before, and a little in what they draw.
        share = 1 if mirrors else 1 + 0.02 * (i - (len(folders) - 1) / 2)
        uj = int(1e6 * joules * share) + (0 if mirrors else 7000000000 * i)
        file = os.path.join(folder, "energy_uj")
        with open(file + ".new", "w") as f:
            f.write(str(uj % (range_uj + 1)))
        os.replace(file + ".new", file)
    time.sleep(0.002)
'''

def processor():
    # The counters of a processor, which another process drives; it is not stopped with this one.
    for i, name in enumerate(case["rapl"]):
        folder = os.path.join(cap, f"intel-rapl:{i}")
        os.makedirs(folder)
        for file, text in (("name", name), ("max_energy_range_uj", case["range_uj"]), ("energy_uj", 0)):
            with open(os.path.join(folder, file), "w") as f:
                f.write(str(text) + chr(10))
    kind = "mirrors" if len(case["rapl"]) == 4 else "dies"
    command = [sys.executable, "-c", TICKER, cap, str(case["range_uj"]), str(case["low_w"]), kind]
    ticker = subprocess.Popen(command, start_new_session=True)
    time.sleep(0.5)
    return ticker

def work():
    if case["stopped_s"]:
        mine = os.getpgrp()
        command = f"sleep 0.5; kill -STOP -{mine}; sleep {case['stopped_s']}; kill -CONT -{mine}"
        subprocess.Popen(["sh", "-c", command], start_new_session=True)
    end_s = clock() + case["window_s"]
    while clock() < end_s:
        time.sleep(max(0.0, end_s - clock()))

def clock():
    return time.monotonic() - float(os.environ["STANDIN_EPOCH"])

def greenprune():
    from pathlib import Path
    from greenprune.bench.energy import EnergyMeter
    if case["rapl"]:
        meter = EnergyMeter("cpu", powercap=Path(cap))
        def window(work):
            with meter.window("x") as w:
                start_s = clock()
                work()
            sources = [s for s in w.reading.sources if s.name.startswith("rapl")]
            bad = [s.reason for s in sources if not s.valid]
            joules = None if bad else sum(s.energy_j for s in sources)
            return joules, start_s, start_s + w.reading.duration_s, bad[0] if bad else sources[0].basis or ""
        return window
    meter = EnergyMeter()
    def window(work):
        with meter.window("x", align=True) as w:
            start_s = clock()
            work()
        cards = [s for s in w.reading.sources if s.name.startswith("nvml")]
        bad = [f"without {s.name}: {s.reason}" for s in cards if not s.valid]
        good = [s for s in cards if s.valid]
        if bad and not good:
            return None, start_s, start_s + w.reading.duration_s, bad[0]
        notes = [*bad, *(s.basis for s in good if s.scope == "module")]
        notes += ["integrated power"] if good and good[0].kind == "sampled" else []
        return sum(s.energy_j for s in good), start_s, start_s + w.reading.duration_s, "; ".join(notes)
    return window

def Zeus():
    if case["rapl"]:
        import zeus.device.cpu.rapl as rapl
        rapl.RAPL_DIR = rapl.CONTAINER_RAPL_DIR = cap  # as in a container, where it looks under /zeus_sys
        from zeus.monitor import ZeusMonitor
        monitor = ZeusMonitor(gpu_indices=[])
        def window(work):
            monitor.begin_window("x", sync_execution=False)
            start_s = clock()
            work()
            end_s = clock()
            return sum(monitor.end_window("x", sync_execution=False).cpu_energy.values()), start_s, end_s, ""
        return window
    if "STANDIN_ERRORS" in os.environ:  # no counter: its sampler, with one of its registers, since three start too slowly
        from zeus.monitor import PowerMonitor
        sampler = PowerMonitor(power_domains=["device_instant"], update_period=0.1)
        def window(work):
            start_s, begun_s = clock(), time.time()
            work()
            end_s, ended_s = clock(), time.time()
            time.sleep(0.5)  # its last samples come from another process
            return sum((sampler.get_energy(begun_s, ended_s) or {}).values()), start_s, end_s, "PowerMonitor.get_energy"
        return window
    from zeus.monitor import ZeusMonitor
    monitor = ZeusMonitor()
    def window(work):
        monitor.begin_window("x", sync_execution=False)
        start_s = clock()
        work()
        end_s = clock()
        return monitor.end_window("x", sync_execution=False).total_energy, start_s, end_s, ""
    return window

def CodeCarbon():
    if case["rapl"]:
        raise RuntimeError("its tracker reads /sys alone, and cannot be pointed at these counters")
    from codecarbon import OfflineEmissionsTracker
    tracker = OfflineEmissionsTracker(
        country_iso_code="FRA", measure_power_secs=1, save_to_file=False, allow_multiple_runs=True, log_level="critical"
    )
    def window(work):
        tracker.start_task("x")
        start_s = clock()
        work()
        end_s = clock()
        return tracker.stop_task("x").gpu_energy * 3.6e6, start_s, end_s, ""
    return window

def main():
    os.environ["STANDIN_EPOCH"] = repr(time.monotonic())
    found, problem, ticker = [], None, None
    try:
        if case["rapl"]:
            ticker = processor()
        window = globals()[sys.argv[1]]()
        for name, value in case["meanwhile"].items():
            os.environ["STANDIN_" + name] = value.format(now=clock(), in_1_s=clock() + 1)
        for _ in range(case["windows"]):
            if case["reset_after_s"] is not None:
                os.environ["STANDIN_RESET_AT"] = repr(clock() + case["reset_after_s"])
            found.append(window(work))
            time.sleep(0.037)  # so that the windows begin anywhere between two ticks
    except Exception as e:
        problem = f"{type(e).__name__}: {e}".splitlines()[0]
    if ticker is not None:
        ticker.kill()
    print(json.dumps({"windows": found, "problem": problem}))

if __name__ == "__main__":
    main()
"""
