"""`greenprune energy`: the energy of any command with its whole process tree."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import importlib.metadata
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args

from greenprune.bench.energy import EnergyMeter, Reading
from greenprune.bench.energy.carbon import J_PER_KWH, GridIntensity, gco2e, grid_intensity
from greenprune.bench.energy.crosscheck import CrossCheck, codecarbon_beside
from greenprune.bench.energy.reading import Kind
from greenprune.bench.energy.units import checked_counts, singular
from greenprune.bench.energy.window import Window
from greenprune.bench.errors import UserError
from greenprune.bench.machine.hardware import hardware
from greenprune.bench.records.record import write_atomically
from greenprune.bench.text import three_digits
from rich.console import Console
from rich.table import Table

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as a shell has it
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # <linux/prctl.h>


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Options of `greenprune energy`; the command after `--` never comes here, see `split_command`."""
    command.set_defaults(call=command_energy, measured=None)
    command.usage = "greenprune energy [options] -- COMMAND ..."
    command.add_argument("--country", metavar="ISO3", help="whose grid intensity to use for CO2, e.g. FRA")
    command.add_argument("--json", type=Path, metavar="FILE", help="write everything that was read")
    command.add_argument(
        "--csv", type=Path, metavar="FILE", help="write a row for each kind of energy (CodeCarbon's columns)"
    )
    command.add_argument("--plot", type=Path, metavar="FILE", help="draw the power trace (.png, .svg, .pdf)")
    command.add_argument(
        "--idle",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="measure idle power first, for net energy (0: do not)",
    )
    command.add_argument(
        "--units",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="what the command does, for joules per unit: tokens=1000; @FILE: lines of NAME=NUMBER that it wrote itself",
    )
    command.add_argument("--codecarbon", action="store_true", help="run CodeCarbon's tracker beside, as a cross-check")
    command.add_argument("stray", nargs="*", help=argparse.SUPPRESS)


def split_command(argv: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """The arguments of greenprune, and what stands after `--` of `greenprune energy`, None without one.

    argparse cannot tell options of the command from its own, nor the first `--` from later ones.
    """
    if not argv or argv[0] != "energy" or "--" not in argv:
        return list(argv), None
    at = list(argv).index("--")
    return list(argv[:at]), list(argv[at + 1 :])


def command_energy(arguments: argparse.Namespace) -> int:
    """Returns the exit code of the command, 128 + n when signal n ended it, 127 and 126 as a shell does."""
    command = arguments.measured
    if arguments.stray:
        raise UserError(f"{arguments.stray[0]}: put -- before the command: greenprune energy [options] -- COMMAND ...")
    if not command:
        raise UserError("there is no command; allowed: greenprune energy [options] -- COMMAND ...")
    if not 0 <= arguments.idle < float("inf"):
        raise UserError(f"--idle {arguments.idle:g}: allowed is a number of seconds from 0")
    _check_outputs(arguments.json, arguments.csv, arguments.plot)
    units = given_units(arguments.units)
    intensity = grid_intensity(arguments.country)
    return measure(
        command,
        intensity,
        json_path=arguments.json,
        csv_path=arguments.csv,
        plot_path=arguments.plot,
        idle_s=arguments.idle,
        codecarbon=arguments.codecarbon,
        units=units,
        unit_files=[Path(text[1:]) for text in arguments.units if text.startswith("@")],
    )


def measure(
    command: Sequence[str],
    intensity: GridIntensity,
    *,
    json_path: Path | None = None,
    csv_path: Path | None = None,
    plot_path: Path | None = None,
    idle_s: float = 0.0,
    codecarbon: bool = False,
    units: Mapping[str, float] | None = None,
    unit_files: Sequence[Path] = (),
    powercap: Path | None = None,
) -> int:
    """Run `command`, print its energy on standard error (standard output is the command's), return its exit code."""
    check: CrossCheck | None = None
    with _orphans_adopted(), EnergyMeter(powercap=powercap) as meter:
        if idle_s:
            meter.measure_idle(idle_s)
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        written_before = {path: _written_ns(path) for path in unit_files}
        with contextlib.ExitStack() as beside:
            if codecarbon:
                check = beside.enter_context(codecarbon_beside(arguments_country(intensity)))
            with meter.window("command", units=units) as window:
                try:
                    exit_code = _run(command)
                except OSError as e:
                    return _not_started(command[0], e)
        sources = meter.describe()
        power = meter.power_log.columns()
    uncounted = count_from_files(window, written_before)
    _print(window.reading, sources, intensity, check)
    for problem in uncounted:
        print(f"greenprune: {problem}", file=sys.stderr)
    stored = {
        "command": shlex.join(command),
        "exit_code": exit_code,
        "started_at": started_at,
        "version": importlib.metadata.version("greenprune"),
        "reading": _reading(window.reading),
        "totals": totals(window.reading, intensity),
        "grid": dataclasses.asdict(intensity),
        "codecarbon": dataclasses.asdict(check) if check else None,
        "sources": sources,
        "hardware": hardware(sources),
    }
    try:
        if json_path:
            write_atomically(json_path, json.dumps(stored, indent=1) + "\n")
        if csv_path:
            from greenprune.plots.report.energy_report import csv_text, rows_of_command  # pandas takes half a second

            write_atomically(csv_path, csv_text(rows_of_command(stored)))
        if plot_path:
            from greenprune.plots.figures.power_log import plot_power  # matplotlib takes half a second

            plot_power(power, plot_path, title=shorten(shlex.join(command), 60, placeholder=" …"))
    except OSError as e:
        print(f"greenprune: {e.filename}: cannot be written ({e.strerror})", file=sys.stderr)
        return exit_code or 1
    return exit_code or (1 if uncounted else 0)


def arguments_country(intensity: GridIntensity) -> str | None:
    """For CodeCarbon's tracker: a country it knows, None for the world's average."""
    return None if intensity.country == "world" else intensity.country


def totals(reading: Reading, intensity: GridIntensity) -> dict[Kind, dict[str, Any]]:
    """By kind: joules, kilowatt-hours and grams of CO2 equivalent with bounds, and joules per unit of what was counted.

    Kinds that are invalid are left out.
    """
    found: dict[Kind, dict[str, Any]] = {}
    for kind in get_args(Kind):
        energy_j, bounds_j = reading.energy_j(kind), reading.bounds_j(kind)
        if energy_j is None or bounds_j is None:
            continue
        found[kind] = {
            "energy_j": energy_j,
            "low_j": bounds_j[0],
            "high_j": bounds_j[1],
            "uncertainty_j": max(energy_j - bounds_j[0], bounds_j[1] - energy_j, 0.0),
            "energy_kwh": energy_j / J_PER_KWH,
            "gco2e": gco2e(energy_j, intensity),
            "gco2e_low": gco2e(bounds_j[0], intensity),
            "gco2e_high": gco2e(bounds_j[1], intensity),
            "per_unit": [part.model_dump() for part in reading.per_unit(kind)],
        }
        net_j = reading.net_j(kind)
        if net_j is not None:
            found[kind]["net_j"] = net_j
    return found


def given_units(texts: Sequence[str]) -> dict[str, float]:
    """What `--units` says itself: {"tokens": 1000.0}. Raises UserError."""
    units: dict[str, float] = {}
    for text in texts:
        if text.startswith("@"):
            continue
        for name, count in _counts(text, "--units").items():
            if name in units:
                raise UserError(f"--units {text}: {name} is given twice")
            units[name] = count
    return units


def count_from_files(window: Window, written_before: Mapping[Path, int | None]) -> list[str]:
    """Count in `window` what the command wrote into files, lines of NAME=NUMBER, and tell what could not be read.

    `written_before`: when each file was written last before the command ran, in nanoseconds; None: it was not there.
    """
    problems = []
    for path, before_ns in written_before.items():
        if before_ns is not None and _written_ns(path) == before_ns:
            problems.append(f"--units @{path}: the command did not write it; what it holds is from before")
            continue
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    window.count(**_counts(line.strip(), str(path)))
        except OSError as e:
            problems.append(f"--units @{path}: cannot be read ({e.strerror})")
        except UserError as e:
            problems.append(str(e))
        except UnicodeDecodeError as e:
            problems.append(f"--units @{path}: is no text ({e.reason})")
    return problems


def _written_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _counts(text: str, where: str) -> dict[str, float]:
    name, _, number = text.partition("=")
    try:
        return checked_counts({name.strip(): float(number)})
    except ValueError:
        raise UserError(f"{where} {text}: allowed is NAME=NUMBER with a number from 0, such as tokens=1000") from None


def _reading(reading: Reading) -> dict[str, Any]:
    stored = reading.model_dump(mode="json")
    for row, source in zip(stored["sources"], reading.sources, strict=True):
        row |= {name: getattr(source, name) for name in ("uncertainty_j", "net_j", "net_uncertainty_j")}
    return stored


def _run(command: Sequence[str]) -> int:
    """Run to its end. Ctrl-C is the command's business, which gets it from the terminal; SIGTERM is handed on."""
    with _signals() as hand_to:
        process = subprocess.Popen(command)
        hand_to(process)
        code = process.wait()
    return 128 - code if code < 0 else code


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Gives a function that takes the process that signals go to.

    The handlers stand before there is one: a SIGTERM just after the start would else end this process and leave the
    command running, unmeasured. It waits until the process is known.
    """
    processes: list[subprocess.Popen[bytes]] = []
    waiting: list[int] = []

    def on_sigterm(number: int, _: object) -> None:
        if processes:
            processes[0].send_signal(number)
        else:
            waiting.append(number)

    def hand_to(process: subprocess.Popen[bytes]) -> None:
        processes.append(process)
        for number in waiting:
            process.send_signal(number)

    # Functions rather than SIG_IGN, which would be inherited.
    handlers: dict[signal.Signals, Any] = {signal.SIGINT: lambda *_: None, signal.SIGTERM: on_sigterm}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield hand_to
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _not_started(name: str, error: OSError) -> int:
    # A file that is there and "not found" names an interpreter in its first line that is not there.
    if not name or (isinstance(error, FileNotFoundError) and ("/" not in name or not Path(name).exists())):
        print(f"greenprune: {name}: command not found", file=sys.stderr)
        return NOT_FOUND
    print(f"greenprune: {name}: cannot be executed ({error.strerror})", file=sys.stderr)
    return NOT_EXECUTABLE


@contextlib.contextmanager
def _orphans_adopted() -> Iterator[None]:
    """On Linux, descendants whose parent has ended become children of this process, and so stay in its tree."""
    before = ctypes.c_int()
    try:
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):  # no Linux: there they leave the tree
        yield
        return
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def _check_outputs(*paths: Path | None) -> None:
    """Refuse before the command has run what could not be written after it. Raises UserError."""
    for path in paths:
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UserError(f"{path}: cannot be written; allowed is a file in a folder that exists")
    plot = paths[-1]
    if plot is None:
        return
    from greenprune.plots.figures.power_log import FORMATS  # matplotlib takes half a second

    if plot.suffix.removeprefix(".").lower() not in FORMATS:
        raise UserError(f"--plot {plot}: allowed suffixes are {', '.join('.' + suffix for suffix in FORMATS)}")


def _print(
    reading: Reading, sources: Sequence[dict[str, Any]], intensity: GridIntensity, check: CrossCheck | None
) -> None:
    console = Console(stderr=True)
    table = Table(title=f"Energy of {reading.duration_s:.2f} s")
    for column in ("source", "kind", "J", "from … to", "net J"):
        table.add_column(column, justify="left" if column in ("source", "kind") else "right", no_wrap=True)
    told = []
    for source in reading.sources:
        if source.energy_j is None:
            table.add_row(source.name, "invalid")
            told.append(f"{source.name}: invalid, {source.reason}")
            continue
        low_j = source.energy_j if source.low_j is None else source.low_j
        high_j = source.energy_j if source.high_j is None else source.high_j
        table.add_row(
            source.name,
            source.kind,
            _short(source.energy_j),
            f"{_short(low_j)} … {_short(high_j)}",
            "–" if source.net_j is None else _short(source.net_j),
        )
    console.print(table)
    for kind, total in totals(reading, intensity).items():
        told.append(
            f"{kind}: {_short(total['energy_j'])} J = {_short(total['energy_kwh'])} kWh, "
            f"{_short(total['gco2e'])} gCO2e ({_short(total['gco2e_low'])} to {_short(total['gco2e_high'])})"
        )
        told += [
            f"{kind}: {_short(part.j_per_unit)} J per {singular(part.unit)} "
            f"({_short(part.low_j_per_unit)} to {_short(part.high_j_per_unit)}), {part.count:g} {part.unit}"
            for part in reading.per_unit(kind)
        ]
    told += [
        f"CO2 by {intensity.gco2e_per_kwh:g} g/kWh ({intensity.source}); what is measured and what is modelled are "
        "not added up",
        *(f"{row['source']}: not used, {row['reason']}" for row in sources if not row["available"]),
        *reading.warnings,
    ]
    if check is not None:
        told.append(check.problem or _beside(check))
    for line in told:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _short(value: float) -> str:
    """Three significant digits; kilowatt-hours of a short command need an exponent."""
    return three_digits(value) if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"


def _beside(check: CrossCheck) -> str:
    parts = {"CPU": check.cpu_j, "GPU": check.gpu_j, "RAM": check.ram_j}
    figures = ", ".join(f"{name} {three_digits(joules)} J" for name, joules in parts.items() if joules is not None)
    return f"CodeCarbon {check.version} beside it: {figures} (it took {check.overhead_s or 0:.1f} s of CPU time itself)"
