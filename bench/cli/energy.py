"""`greenprune energy`: the energy of any command with its whole process tree."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from typing import Any

from greenprune.bench import terminal
from greenprune.bench.cli.place import LONGEST_IDLE_S, intensity_of, place_arguments, place_of
from greenprune.bench.cli.saving import Rows, check_outputs, followed
from greenprune.bench.command.account import CommandUsage
from greenprune.bench.command.counts import count_from_files, given_units, written_ns
from greenprune.bench.command.process import EndedEarlyError, WrappedCommand, die_as
from greenprune.bench.command.summary import print_summary, totals
from greenprune.bench.energy import EnergyMeter, Reading
from greenprune.bench.energy.carbon.intensity import GridIntensity
from greenprune.bench.energy.crosscheck import CrossCheck, codecarbon_beside
from greenprune.bench.energy.node.ranks import Ranks
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import one_line
from greenprune.bench.machine.hardware import hardware
from greenprune.bench.records.stored import write_atomically
from greenprune.plots.report.energy_rows import rows_of_command

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as a shell has it
FIRST_SAVE_S, SAVE_EVERY_S = 1.0, 5.0  # what a SIGKILL leaves is as old as that
PLOT_FORMATS = ("png", "svg", "pdf")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Options of `greenprune energy`; the command after `--` never comes here, see `split_command`."""
    command.set_defaults(call=command_energy, measured=None)
    command.usage = "greenprune energy [options] -- COMMAND ..."
    place_arguments(command)
    command.add_argument("--json", type=Path, metavar="FILE", help="write everything that was read")
    command.add_argument(
        "--csv", type=Path, metavar="FILE", help="append a row for each kind of energy (CodeCarbon's columns)"
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
        "--ranks",
        choices=["each", "one_per_node"],
        default="each",
        help="where a launcher starts several of these on a node: each reads its devices, or rank 0 reads all of the node",
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
    """Returns the exit code of the command, 127 and 126 as a shell does; dies of the signal that the command died of."""
    command = arguments.measured
    if arguments.stray:
        raise UserError(f"{arguments.stray[0]}: put -- before the command: greenprune energy [options] -- COMMAND ...")
    if not command:
        raise UserError("there is no command; allowed: greenprune energy [options] -- COMMAND ...")
    if not 0 <= arguments.idle <= LONGEST_IDLE_S:
        raise UserError(f"--idle {arguments.idle:g}: allowed is a number of seconds from 0 to {LONGEST_IDLE_S:g}")
    unit_files = [Path(text[1:]) for text in arguments.units if text.startswith("@")]
    check_outputs({"--json": arguments.json, "--csv": arguments.csv, "--plot": arguments.plot}, unit_files)
    if arguments.plot is not None and arguments.plot.suffix.removeprefix(".").lower() not in PLOT_FORMATS:
        allowed = ", ".join(f".{suffix}" for suffix in PLOT_FORMATS)
        raise UserError(f"--plot {arguments.plot}: allowed suffixes are {allowed}")
    units = given_units(arguments.units)
    code = measure(
        command,
        intensity_of(arguments),
        pue=place_of(arguments).get("pue", 1.0),
        json_path=arguments.json,
        csv_path=arguments.csv,
        plot_path=arguments.plot,
        idle_s=arguments.idle,
        codecarbon=arguments.codecarbon,
        units=units,
        unit_files=unit_files,
        alone=True,
        ranks=arguments.ranks,
    )
    if code < 0:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        die_as(-code)
    return code if code >= 0 else 128 - code


def measure(
    command: Sequence[str],
    intensity: GridIntensity,
    *,
    pue: float = 1.0,
    json_path: Path | None = None,
    csv_path: Path | None = None,
    plot_path: Path | None = None,
    idle_s: float = 0.0,
    codecarbon: bool = False,
    units: Mapping[str, float] | None = None,
    unit_files: Sequence[Path] = (),
    powercap: Path | None = None,
    alone: bool = False,
    ranks: Ranks = "each",
) -> int:
    """Run `command`, print its energy on standard error (standard output is the command's).

    Call it in the main thread. `alone`: this process is there for the command only, and lets go of the descriptors that
    the command has. `ranks`: as of `EnergyMeter`. Returns the command's exit code, -n when signal n ended it.
    """
    rows = Rows(csv_path) if csv_path else None
    check: CrossCheck | None = None
    with contextlib.ExitStack() as around:
        wrapped = around.enter_context(WrappedCommand(command))  # it forks, so it comes before whatever starts threads
        if alone:
            wrapped.release()
        own_from_s = 0.0 if alone else None  # this process is there for nothing else
        usage = CommandUsage(wrapped.pid, {wrapped.canary_pid}, wrapped.reaped_s, own_from_s=own_from_s)
        around.callback(usage.close)
        meter = around.enter_context(EnergyMeter(powercap=powercap, usage=usage, ranks=ranks))
        try:
            if idle_s:
                meter.measure_idle(idle_s, rest=wrapped.rest)
            if codecarbon:
                check = around.enter_context(codecarbon_beside(arguments_country(intensity)))
            sources = meter.describe()
            report = Report(command, intensity, pue, sources, usage, json_path, rows)
            written_before = {path: written_ns(path) for path in unit_files}
            with meter.window("command", units=units) as window:
                wrapped.start()
                code = wrapped.wait(_looks(usage, lambda: report.save(window.so_far(), None)))
        except EndedEarlyError as e:
            return e.code
        except OSError as e:
            return _not_started(command[0], e)
        problems = count_from_files(window, written_before)
        reading = _with_survivors(window.reading, usage)
        power = meter.power_log.columns()
        if check is not None:
            around.close()  # CodeCarbon's figures are there when it has stopped
        problems += _written(lambda: report.save(reading, 128 - code if code < 0 else code, check))
        try:
            print_summary(reading, sources, intensity, pue, usage.own_cost(), check)
        except OSError:  # nobody reads it any more; the code is still the command's
            terminal.drop_output()
        if plot_path:
            problems += _written(lambda: _draw(power, plot_path, command))
        for problem in problems:
            terminal.complain(problem)
    return code or (1 if problems else 0)


class Report:
    """What is stored of one run of a command, in JSON and CSV."""

    def __init__(
        self,
        command: Sequence[str],
        intensity: GridIntensity,
        pue: float,
        sources: list[dict[str, Any]],
        usage: CommandUsage,
        json_path: Path | None,
        rows: Rows | None,
    ) -> None:
        self._json_path = None if json_path is None else followed(json_path)
        self._rows, self._usage = rows, usage
        self._intensity, self._pue = intensity, pue
        self._stored = {
            "command": shlex.join(command),
            "run_id": str(uuid.uuid4()),
            "exit_code": None,
            "started_at": _now(),
            "ended_at": None,
            "version": importlib.metadata.version("greenprune"),
        }
        self._about = {
            "grid": dataclasses.asdict(intensity),
            "pue": pue,
            "sources": sources,
            "hardware": hardware(sources),
        }

    @property
    def wanted(self) -> bool:
        return self._json_path is not None or self._rows is not None

    def save(self, reading: Reading, exit_code: int | None, check: CrossCheck | None = None) -> None:
        """`exit_code`: None while it runs. Raises OSError and UserError."""
        if not self.wanted:
            return
        cost = self._usage.own_cost()
        stored = {
            **self._stored,
            "exit_code": exit_code,
            "ended_at": _now(),
            "finished": exit_code is not None,
            "reading": _reading(reading),
            "totals": totals(reading, self._intensity, self._pue),
            "codecarbon": dataclasses.asdict(check) if check else None,
            "meter": {**dataclasses.asdict(cost), "counts_cpu_time_by": self._usage.way},
            **self._about,
        }
        if self._json_path:
            write_atomically(self._json_path, json.dumps(stored, indent=1) + "\n")
        if self._rows:
            self._rows.save(rows_of_command(stored))


def arguments_country(intensity: GridIntensity) -> str | None:
    """For CodeCarbon's tracker: a country it knows, None for the world's average."""
    return None if intensity.country == "world" else intensity.country


def _draw(power: Mapping[str, Sequence[Any]], path: Path, command: Sequence[str]) -> None:
    """The power trace under the command as its title. Raises OSError, and UserError for whatever else goes wrong."""
    title = shorten(one_line(shlex.join(command)), 60, placeholder=" …")
    try:
        from greenprune.plots.figures.power_log import plot_power  # matplotlib takes half a second

        plot_power(power, path, title=title)
    except OSError:
        raise
    except Exception as e:  # of the drawing library: the command has run, and its exit code is to be passed on
        raise UserError(f"--plot {path}: cannot be drawn ({type(e).__name__}: {e})") from None


def _written(write: Callable[[], object]) -> list[str]:
    """A sentence on why `write` could not write its file; empty where it could."""
    try:
        write()
    except UserError as e:
        return [str(e)]
    except OSError as e:
        return [f"{e.filename}: cannot be written ({e.strerror})"]
    return []


def _looks(usage: CommandUsage, save: Any) -> Any:
    """What is to be done while the command runs; returns in how many seconds it is to be done again."""
    save_s = time.monotonic() + FIRST_SAVE_S

    def look() -> float:
        nonlocal save_s
        if time.monotonic() >= save_s:
            with contextlib.suppress(OSError, UserError):  # told at the end, if it is still so
                save()
            save_s = time.monotonic() + SAVE_EVERY_S
        if usage.look_every_s is not None:
            usage.now()
        until_s = max(0.0, save_s - time.monotonic())
        return until_s if usage.look_every_s is None else min(until_s, usage.look_every_s)

    return look


def _with_survivors(reading: Reading, usage: CommandUsage) -> Reading:
    """With a warning where the command has left processes behind."""
    left = usage.living()
    if not left:
        return reading
    names = ", ".join(f"{name} ({pid})" for pid, name in left[:5]) + (" …" if len(left) > 5 else "")
    word = "process outlives" if len(left) == 1 else "processes outlive"
    told = f"{len(left)} {word} the command: {names}; what they use after its end is in no figure"
    return reading.model_copy(update={"warnings": (*reading.warnings, told)})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _reading(reading: Reading) -> dict[str, Any]:
    stored = reading.model_dump(mode="json")
    for row, source in zip(stored["sources"], reading.sources, strict=True):
        row |= {name: getattr(source, name) for name in ("uncertainty_j", "net_j", "net_uncertainty_j")}
    return stored


def _not_started(name: str, error: OSError) -> int:
    # A file that is there and "not found" names an interpreter in its first line that is not there.
    if not name or (isinstance(error, FileNotFoundError) and ("/" not in name or not Path(name).exists())):
        terminal.complain(f"{name}: command not found")
        return NOT_FOUND
    terminal.complain(f"{name}: cannot be executed ({error.strerror})")
    return NOT_EXECUTABLE
