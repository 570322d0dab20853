"""`greenprune measure RESULTS/SUITE`: all networks of a suite measured together, in a process of its own."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from greenprune.bench import terminal
from greenprune.bench.cli.arguments import resolve_device, text_path, typed
from greenprune.bench.energy.reading import Kind
from greenprune.bench.errors import UserError
from greenprune.bench.inference.job import JointJob
from greenprune.bench.inference.repeat import half_width
from greenprune.bench.records.inference import Inference
from greenprune.bench.records.joint import Joint, joint_files, read_joint
from greenprune.bench.run.side_by_side import measure_in_child
from greenprune.bench.run.stop import stoppable
from greenprune.bench.runtimes.names import EAGER
from greenprune.bench.suite.measurement import LARGEST_BATCH
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=command_measure)
    command.add_argument(
        "folder", type=text_path, metavar="RESULTS/SUITE", help="results folder of one suite, with networks"
    )
    command.add_argument("--data", type=text_path, metavar="DIR", help="data folder, as of `greenprune run`")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], help="default: that of the runs")
    command.add_argument("--threads", type=_whole, metavar="N", help="of the CPU (default: as many as the runs had)")
    command.add_argument(
        "--seconds",
        type=_seconds,
        metavar="S",
        help="per network, runtime and batch size (default: inference_seconds of the suite)",
    )
    command.add_argument(
        "--runtimes",
        nargs="+",
        metavar="NAME",
        help="besides eager PyTorch: compile, onnxruntime, openvino, or module:Class (default: runtimes of the suite)",
    )
    command.add_argument(
        "--batch-sizes", type=_batch_size, nargs="+", metavar="N", help="default: inference_batch_sizes of the suite"
    )
    command.add_argument(
        "--trust",
        action="store_true",
        help="import the modules that the folder names for networks (module:factory), which runs them",
    )
    command.add_argument("--seeds", type=int, nargs="+", metavar="N", help="only the networks of these seeds")


def command_measure(arguments: argparse.Namespace) -> int:
    with stoppable():
        return _measure(arguments)


def _measure(arguments: argparse.Namespace) -> int:
    """Measure, print, and rebuild the report of the folder.

    Raises:
        UserError: more threads than cores, or no CUDA.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if arguments.threads is not None and arguments.threads > cores:
        raise UserError(f"--threads {arguments.threads}: more than this machine's cores; allowed: 1 to {cores}")
    device = None if arguments.device is None else resolve_device(arguments.device)
    job = JointJob(
        folder=str(arguments.folder),
        command=typed(),
        data_root=None if arguments.data is None else str(arguments.data),
        device=device,
        threads=arguments.threads,
        seconds=arguments.seconds,
        batch_sizes=_each_once(arguments.batch_sizes),
        runtimes=_each_once(arguments.runtimes),
        seeds=_each_once(arguments.seeds),
        trust=arguments.trust,
    )
    code = measure_in_child(job)
    if code:
        return code
    from greenprune.plots.report.report import write_report

    console = terminal.console()
    paths = joint_files(arguments.folder)
    for path in paths:
        joint = read_joint(arguments.folder, path.name)
        if joint is not None and len(paths) > 1:
            console.print(f"{joint.dataset} on {joint.model}", highlight=False)
        if joint is not None:
            show(joint, console)
    written = write_report([arguments.folder], arguments.folder)
    console.print(
        f"wrote {', '.join(map(str, paths))}, and {len(written)} tables, figures and pages anew from it: {written[-1]}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def show(joint: Joint, console: Console) -> None:
    """Print what was measured, a table for each runtime, batch size and kind of energy, and what was not."""
    told = []
    for runtime in (EAGER, *joint.runtimes):
        found: list[tuple[str, Sequence[Inference]]] = []
        for network in joint.networks:
            entry = next((served for served in network.served if served.runtime == runtime), None)
            if entry is not None and entry.problem:
                told.append(f"left out: {network.key}: {runtime}: {entry.problem}")
            found.append((network.key, network.inference if runtime == EAGER else entry.inference if entry else ()))
        where = f"{runtime}, " if joint.runtimes else ""
        for size in joint.batch_sizes:
            rows = [(key, i) for key, measured in found for i in measured if i.batch_size == size]
            for table in _tables(rows, f"{where}batch {size}"):
                console.print(table)
    told = [
        f"ms: median and 95th percentile of one pass. ×: relative to {joint.reference}, ± to the further end of the 95 % "
        "interval; how far that network itself is from 1 is noise.",
        *(f"left out: {entry.key}: {entry.reason}" for entry in (*joint.left_out, *joint.failed)),
        *told,
        *joint.warnings,
    ]
    for line in told:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _tables(rows: Sequence[tuple[str, Inference]], title: str) -> Iterator[Table]:
    """One for each kind of energy, with a row for each network; none without rows."""
    for kind in [k for k in get_args(Kind) if any(k in i.energy_ratio for _, i in rows)] or [None] * bool(rows):
        table = Table(
            title=title + (f", {kind} joules per 1,000 images" if kind else ""),
            box=SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        table.add_column("network", overflow="fold", min_width=12)  # the one that gives way where a terminal is narrow
        for name in ("ms", "95 %", "img/s", "time ×", *(("J", "energy ×") if kind else ())):
            table.add_column(name, justify="right", no_wrap=True)
        for key, i in rows:
            cells = [f"{i.latency.median_ms:.3g}", f"{i.latency.p95_ms:.3g}"]
            cells.append(f"{i.latency.throughput_images_per_s or math.nan:,.0f}")
            cells.append(_ratio((i.latency_ratio, i.latency_ratio_low, i.latency_ratio_high)))
            if kind:
                joules = i.energy_j_per_1000_images.get(kind)
                cells += [f"{joules[0]:.3g}" if joules else "–", _ratio(i.energy_ratio.get(kind))]
            table.add_row(key, *cells)
        yield table


def _ratio(interval: tuple[float, float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.3f} ± {interval[0] * half_width(interval):.3f}"


def _each_once(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(dict.fromkeys(values))


def _whole(text: str, most: int = 999_999_999) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10) or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text[:40]}: allowed is a whole number from 1 to {most:,}")
    return int(text)


def _batch_size(text: str) -> int:
    return _whole(text, LARGEST_BATCH)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text[:40]}: allowed is a number of seconds above 0, at most 3600")
    return value
