"""What is wrong with a set of runs as a whole, though each of them is fine."""

from __future__ import annotations

from collections.abc import Iterator

from greenprune.bench.suite.views import VIEW_NAMES
from greenprune.bench.text import listed
from greenprune.plots.frame.comparable import mixed
from greenprune.plots.frame.comparison import REFERENCE, comparison
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.problems import Problem
from greenprune.plots.frame.views import name_of

ENOUGH_SEEDS = 3

SAME_EVERYWHERE = {
    "allowance_samples": ("training allowances (samples)", "compare only methods that may train equally long"),
    "macs_dense": ("dense networks (MACs)", "compare only runs that prune the same network"),
    "params_dense": ("dense networks (parameters)", "compare only runs that prune the same network"),
    "greenprune_version": ("versions of greenprune", "run the suite again with one of them"),
    "torch_version": ("versions of torch", "run the suite again with one of them"),
}
"""Columns that must not vary within a comparison: what varies, and what to do about it."""


def check(results: Results) -> tuple[Problem, ...]:
    """The problems of each comparison, and of all of them side by side, in addition to `results.problems`."""
    apart = tuple(problem for part in results.comparisons() for problem in _check(part))
    return (*apart, *_mixed_machines(results))


def _mixed_machines(results: Results) -> Iterator[Problem]:
    for suite, runs in results.runs.groupby("suite", sort=False):
        machines = list(dict.fromkeys(runs["machine"]))
        if len(machines) > 1:
            what = f"its runs come from {len(machines)} machines: {'; '.join(machines)}"
            remedy = (
                "each machine is compared with itself alone, and no mean is over two; to compare methods, run all of "
                "them on one machine"
            )
            yield Problem("mixed machines", str(suite), what, remedy)


def _check(part: Results) -> Iterator[Problem]:
    runs, where = part.runs, name_of(part.runs.iloc[0])
    table = comparison(part)
    valid = table[table["valid"]]
    few = valid[valid["runs"] < ENOUGH_SEEDS]
    if len(few):
        seeds = "one seed" if few["runs"].max() == 1 else f"fewer than {ENOUGH_SEEDS} seeds"
        what = f"{seeds} for {_named(few['method'])}: differences as small as the noise between seeds mean nothing"
        yield Problem("few seeds", where, what, f"give the suite at least {ENOUGH_SEEDS} seeds and run it again")
    if not (valid["method_name"] == REFERENCE).any():
        what = "no valid dense run: nothing can be related to the dense network"
        yield Problem("no reference", where, what, 'add a method with name = "dense" to the suite and run it again')
    else:
        unpaired = valid[valid["pairs"] < valid["runs"]]
        if len(unpaired):
            what = f"some seeds of {_named(unpaired['method'])} have no valid dense run: differences leave them out"
            yield Problem("unpaired", where, what, "run dense with the same seeds")
    for column, (name, remedy) in SAME_EVERYWHERE.items():
        values = sorted(set(runs[column]))
        if len(values) > 1 and not (column == "allowance_samples" and runs["view"].iloc[0] != VIEW_NAMES["samples"]):
            yield Problem("mixed", where, f"different {name}: {listed([str(value) for value in values])}", remedy)
    if other := mixed(part.records):
        yield Problem("mixed", where, other, "keep experiments in folders of their own, and run this one again")
    without = runs[~runs["key"].isin(part.inference["key"])]
    if len(without):
        what = f"inference was not measured for {_named(without['method'])}"
        yield Problem("no inference", where, what, "run them again with inference measurements")


def _named(methods: object) -> str:
    return listed(sorted(set(methods)))  # type: ignore[call-overload]
