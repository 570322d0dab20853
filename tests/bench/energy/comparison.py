"""Our meter, Zeus and CodeCarbon on the same scripted NVML traces, whose true joules are known.

    python -m tests.bench.energy.comparison --out results/energy-meter

writes table.md and table.csv. Every tool measures every case in a process of its own against the stand-in of the NVML
library; nothing but the tool differs. Zeus and CodeCarbon are used as their documentation says; of CodeCarbon the energy
fields of a task, sampled every second instead of every 15.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.energy.conftest import ROOT, build_standin

TOOLS = {"greenprune": None, "Zeus": "zeus", "CodeCarbon": "codecarbon"}
"""Name, and the package that it needs."""

NO_COUNTER: dict[str, object] = {"ERRORS": "nvmlDeviceGetTotalEnergyConsumption@0-1e9=3", "ARCH": 4}
SECOND = "GPU-a0000001-1111-2222-3333-444444444441"  # UUID of the stand-in's second device, see nvml.c
_QUERIES = ("GetTotalEnergyConsumption", "GetFieldValues", "GetPowerUsage")
LOST = ";".join(
    f"nvmlDevice{name}@0-1e9=15" for name in ("GetHandleByIndex_v2", "GetHandleByUUID", "GetUUID", *_QUERIES)
)
UNSUPPORTED = ";".join(f"nvmlDevice{name}@0-1e9=3" for name in _QUERIES)
MIRRORED = ("package-0-die-0", "package-0-die-1", "package-0-die-2", "package-0-die-3")
DIES = ("package-0-die-0", "package-0-die-1")


@dataclass(frozen=True)
class Case:
    """A row of the table: the stand-in's settings, and windows in which nothing but time passes."""

    name: str
    settings: dict[str, object]
    window_s: float
    windows: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    low_w: float = 300.0  # of the cards that should be counted: constant, or a square wave
    high_w: float = 300.0
    period_s: float = 1.0
    reset_after_s: float | None = None  # from the start of the window
    meanwhile: dict[str, str] = field(default_factory=dict)
    """Settings of the stand-in from when the tool is ready; {now} is its clock then, {in_1_s} a second later."""
    rapl: tuple[str, ...] = ()
    """Counters of a processor in place of a GPU: each counts `low_w`, but for mirrors, which have the same name before
    their last number. The true joules are those of `low_w` alone."""
    range_uj: int = 65_532_610_987
    stopped_s: float = 0.0  # for how long the tool and all its processes are stopped in each window, as by Ctrl-Z


CASES = (
    Case("constant 300 W for 3 s, sampled power", {"TRACE": 300, **NO_COUNTER}, 3.0, windows=2),
    Case(
        "square wave 100/300 W for 3 s, sampled power",
        {"TRACE": "square:100,300,0.6", **NO_COUNTER},
        3.0,
        windows=2,
        low_w=100.0,
        period_s=0.6,
    ),
    Case("counter reset inside a window of 1.33 s", {"TRACE": 300}, 1.33, reset_after_s=0.7),
    Case("windows of 20 ms on a 100 ms counter", {"TRACE": 300}, 0.02, windows=50),
    Case("windows of 0.25 s on a 100 ms counter", {"TRACE": 300}, 0.25, windows=12),
    # 5.03 and not 5: a window of a whole number of periods is right by chance, whatever the tool does.
    Case("windows of 5.03 s on a 100 ms counter", {"TRACE": 300}, 5.03, windows=4),
    Case(
        "CUDA_VISIBLE_DEVICES=GPU-<uuid> of the second of two",
        {"TRACE_0": 100, "TRACE_1": 300, "DEVICES": 2},
        2.0,
        environment={"CUDA_VISIBLE_DEVICES": SECOND},
    ),
    Case(
        'CUDA_VISIBLE_DEVICES="": the GPU is hidden',
        {"TRACE": 300},
        2.0,
        environment={"CUDA_VISIBLE_DEVICES": ""},
        low_w=0.0,
        high_w=0.0,
    ),
    Case(
        "the counter's period becomes 1 s instead of 0.1 s",
        {"TRACE": 300},
        3.3,
        windows=4,
        meanwhile={"PERIOD_MS": "100,{now}:1000"},
    ),
    Case(
        "the counter's updates become irregular, 20 to 780 ms apart",
        {"TRACE": 300},
        3.3,
        windows=4,
        meanwhile={"PERIOD_MS": "100,{now}:400", "JITTER": "0.95"},
    ),
    Case("the counter stands still after 1 s of 3", {"TRACE": 300}, 3.0, meanwhile={"FREEZE_AT": "{in_1_s}"}),
    Case("one of two GPUs is lost; joules of the healthy one", {"TRACE": 300, "DEVICES": 2, "ERRORS_0": LOST}, 2.03),
    Case(
        "one of two GPUs is lost; CUDA_VISIBLE_DEVICES names the other",
        {"TRACE": 300, "DEVICES": 2, "ERRORS_0": LOST},
        2.03,
        environment={"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    ),
    Case(
        "one of two GPUs supports neither counter nor power",
        {"TRACE": 300, "DEVICES": 2, "ERRORS_0": UNSUPPORTED},
        2.03,
    ),
    Case(
        "GH200: the counter is the module's, 300 W",
        {"TRACE": 200, "MODULE_W": 100, "SCOPES": 1, "NAME": "NVIDIA GH200 480GB"},
        2.03,
        windows=2,
    ),
    Case("RAPL: four dies mirror the socket's 40 W", {}, 2.0, low_w=40.0, high_w=40.0, rapl=MIRRORED),
    Case("RAPL: two dies of 40 W each that are not mirrors", {}, 2.0, low_w=80.0, high_w=80.0, rapl=DIES),
    Case(
        "RAPL: stopped for 3 s while a small counter goes round",
        {},
        4.0,
        low_w=400.0,
        high_w=400.0,
        rapl=("package-0",),
        range_uj=999_000_000,
        stopped_s=3.0,
    ),
)

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


@dataclass(frozen=True)
class Outcome:
    """What one tool made of one case."""

    case: str
    tool: str
    windows: int
    true_j: float | None  # means over the windows that have a figure
    energy_j: float | None
    error_j: float | None  # mean absolute error
    worst_j: float | None
    note: str


def true_j(case: Case, start_s: float, end_s: float) -> float:
    """Joules of the cards that should be counted between two times of the stand-in's clock."""

    def until(time_s: float) -> float:
        whole, rest_s = divmod(time_s, case.period_s)
        half_s = case.period_s / 2
        part_j = case.low_w * min(rest_s, half_s) + case.high_w * max(0.0, rest_s - half_s)
        return whole * (case.low_w + case.high_w) * half_s + part_j

    return until(end_s) - until(start_s)


def measure(case: Case, tool: str, standin: Path, folder: Path) -> Outcome:
    """Run `tool` on `case` in a process of its own, with `folder` for its script and a dummy nvidia-smi."""
    script = folder / "measure.py"  # a file, because Zeus starts processes that import it
    script.write_text(SCRIPT)
    dummy = folder / "bin" / "nvidia-smi"  # CodeCarbon looks for one that runs
    dummy.parent.mkdir(exist_ok=True)
    dummy.write_text("#!/bin/sh\nexit 0\n")
    dummy.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "STANDIN_"))}
    environment = {
        **kept,
        "LD_LIBRARY_PATH": f"{standin}:{kept.get('LD_LIBRARY_PATH', '')}",
        "PYTHONPATH": f"{ROOT}:{kept.get('PYTHONPATH', '')}",
        "PATH": f"{dummy.parent}:{kept.get('PATH', '')}",
        **{f"STANDIN_{name}": str(value) for name, value in case.settings.items()},
        **case.environment,
    }
    names = ("windows", "window_s", "reset_after_s", "meanwhile", "rapl", "range_uj", "stopped_s", "low_w")
    asked = json.dumps({name: getattr(case, name) for name in names})
    shutil.rmtree(folder / "cap", ignore_errors=True)
    done = subprocess.run(
        [sys.executable, str(script), tool, asked],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        start_new_session=True,  # so that it can be stopped with all its processes
    )  # fmt: skip
    if done.returncode:
        return Outcome(case.name, tool, case.windows, None, None, None, None, (done.stderr.splitlines() or ["?"])[-1])
    return outcome(case, tool, json.loads(done.stdout.splitlines()[-1]))


def outcome(case: Case, tool: str, answer: dict) -> Outcome:
    """Errors of what the script printed."""
    figures = [(j, true_j(case, start_s, end_s)) for j, start_s, end_s, _ in answer["windows"] if j is not None]
    notes = [note for *_, note in answer["windows"] if note]
    if answer["problem"]:
        notes.append(answer["problem"])
    zeros = sum(j == 0 and truth > 0 for j, truth in figures)
    if zeros:
        notes.append(f"{zeros} of {len(figures)} read 0 J")
    note = "; ".join(dict.fromkeys(notes))
    if not figures:
        return Outcome(case.name, tool, case.windows, None, None, None, None, note or "no figure")
    errors = [abs(j - truth) for j, truth in figures]
    return Outcome(
        case.name,
        tool,
        case.windows,
        statistics.mean(truth for _, truth in figures),
        statistics.mean(j for j, _ in figures),
        statistics.mean(errors),
        max(errors),
        note,
    )


def compare(cases: Sequence[Case] = CASES, tools: Sequence[str] = tuple(TOOLS)) -> list[Outcome]:
    """Every tool on every case, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        standin = build_standin(folder / "nvml")
        return [measure(case, tool, standin, folder) for case in cases for tool in tools]


def available(tool: str) -> bool:
    """Whether the package of `tool` is installed."""
    package = TOOLS[tool]
    return package is None or importlib.util.find_spec(package) is not None


def smallest(outcomes: Sequence[Outcome]) -> str:
    """The tools with the smallest mean absolute error among the outcomes of one case."""
    known = {o.tool: o.error_j for o in outcomes if o.error_j is not None}
    return ", ".join(tool for tool, error_j in known.items() if error_j == min(known.values())) or "none"


def markdown(outcomes: Sequence[Outcome], about: str) -> str:
    """A row for each case, with the mean absolute error of each tool in J."""
    lines = [about, "", f"| case | true J | {' | '.join(TOOLS)} | smallest |", "| --- " * (len(TOOLS) + 3) + "|"]
    notes: list[str] = []
    for case in dict.fromkeys(o.case for o in outcomes):
        row = {o.tool: o for o in outcomes if o.case == case}
        cells = []
        for tool in TOOLS:
            o = row.get(tool)
            cell = "not run" if o is None else "no figure" if o.error_j is None else f"{o.error_j:.3g}"
            if o is not None and o.note:
                notes.append(f"{case}, {tool}: {o.note}")
                cell += f" [{len(notes)}]"
            cells.append(cell)
        truths = [o.true_j for o in row.values() if o.true_j is not None]
        true = f"{statistics.mean(truths):.4g}" if truths else "–"
        lines.append(f"| {case} | {true} | {' | '.join(cells)} | {smallest(list(row.values()))} |")
    return "\n".join([*lines, "", *(f"[{i}] {note}  " for i, note in enumerate(notes, start=1)), ""])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("results/energy-meter"))
    arguments = parser.parse_args(argv)
    tools = [tool for tool in TOOLS if available(tool)]
    outcomes = compare(tools=tools)
    packages = ("greenprune", "zeus", "codecarbon", "nvidia-ml-py")
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    about = (
        "# Error of three energy meters on scripted traces\n\n"
        "Mean absolute error in joules over the windows of a row, against the true joules of a stand-in for the NVML "
        "library (`tests/nvml_standin/nvml.c`). No GPU took part: this is about the arithmetic of the tools, not about "
        "a card's sensor. “True J” is the mean over the tools; each is held against the joules of its own window (ours "
        "are edge-aligned and so up to two counter periods longer).\n\n"
        f"`python -m tests.bench.energy.comparison`: {versions}, Python {platform.python_version()}."
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.md").write_text(markdown(outcomes, about), encoding="utf-8")
    with (arguments.out / "table.csv").open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        names = list(Outcome.__dataclass_fields__)
        writer.writerow(names)
        writer.writerows([getattr(o, name) for name in names] for o in outcomes)
    print(markdown(outcomes, about))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    main()
