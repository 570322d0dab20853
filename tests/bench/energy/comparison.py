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
)

SCRIPT = """
import json, logging, os, sys, time

def clock():
    return time.monotonic() - float(os.environ["STANDIN_EPOCH"])

def greenprune():
    from greenprune.bench.energy import EnergyMeter
    meter = EnergyMeter()
    def window(work):
        with meter.window("x", align=True) as w:
            start_s = clock()
            work()
        cards = [s for s in w.reading.sources if s.name.startswith("nvml")]
        bad = [s.reason for s in cards if not s.valid]
        if bad:
            return None, start_s, start_s + w.reading.duration_s, bad[0]
        note = "" if not cards or cards[0].kind == "measured" else "integrated power"
        return sum(s.energy_j for s in cards), start_s, start_s + w.reading.duration_s, note
    return window

def Zeus():
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
    case = json.loads(sys.argv[2])
    os.environ["STANDIN_EPOCH"] = repr(time.monotonic())
    found, problem = [], None
    try:
        window = globals()[sys.argv[1]]()
        for _ in range(case["windows"]):
            if case["reset_after_s"] is not None:
                os.environ["STANDIN_RESET_AT"] = repr(clock() + case["reset_after_s"])
            found.append(window(lambda: time.sleep(case["window_s"])))
            time.sleep(0.037)  # so that the windows begin anywhere between two ticks
    except Exception as e:
        problem = f"{type(e).__name__}: {e}".splitlines()[0]
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
    asked = json.dumps({name: getattr(case, name) for name in ("windows", "window_s", "reset_after_s")})
    done = subprocess.run(
        [sys.executable, str(script), tool, asked],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False,
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
