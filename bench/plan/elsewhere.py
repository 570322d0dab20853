"""The plan of a suite for machines that are not here, in sentences: figures, and everything that they assume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from greenprune.bench.data.assemble import fits
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.names import PUBLISHED
from greenprune.bench.data.options import as_options
from greenprune.bench.data.splits import LazySplit
from greenprune.bench.energy.usage.processors import this_core_power
from greenprune.bench.inference.pair import LONGER
from greenprune.bench.plan.cluster import STARTUP_S, Load, Site, sentences, total
from greenprune.bench.plan.devices import LAYER_S, RESTING, Gpu, gpu_step_s
from greenprune.bench.plan.estimate import IDLE_S, counted, estimate, inference_s
from greenprune.bench.plan.figures import Bounded
from greenprune.bench.plan.forecast import energy_text, gpu_run_s
from greenprune.bench.suite.pair import Pair
from greenprune.bench.suite.suite import Suite
from greenprune.bench.text import duration, plural


@dataclass(frozen=True)
class Kind:
    """Runs of one data set and network."""

    load: Load
    step_s: Bounded
    images_per_s: float  # that a run trains on, at the middle of the assumptions
    read: bool  # whether its images are decoded while it trains


def on_gpus(
    suite: Suite, data: Mapping[str, Dataset], todo: Mapping[tuple[str, str], int], site: Site, gpu: Gpu
) -> list[str]:
    """For runs that have `site.gpus` GPUs each, of this kind, and train on those that the recipe says. Nothing is timed.

    Args:
        todo: by data set and network, how many runs are still to do.

    Raises:
        UserError: the site's time limit is too short for any run.
    """
    ranks = min(suite.training.ranks, site.gpus)  # with fewer than the recipe says none would begin
    resting = site.gpus - ranks
    power_w = gpu.board_w.times(ranks + RESTING * resting).plus(gpu.rest_w.times(site.gpus))
    kinds = []
    for pair in suite.pairs:
        own = data[pair.dataset]
        layers, macs = counted(pair.model, own)
        recipe = suite.training
        step_s = gpu_step_s(layers, macs, recipe.batch_size, gpu, recipe.precision, ranks)
        run_s = gpu_run_s(suite, own.images, step_s).plus(Bounded(IDLE_S, IDLE_S, IDLE_S))
        load = Load(todo[pair.dataset, pair.model], run_s, power_w)
        kinds.append(Kind(load, step_s, recipe.batch_size / step_s.value, decoded_late(pair, own)))
    alone_w = gpu.board_w.plus(gpu.rest_w.times(site.node_gpus))
    rate = gpu.flop_per_s(suite.training.precision).times(1e-12)
    assumed = [
        f"GPU {gpu.name}: {_range(rate)} TFLOP/s in a training step of large layers, {_range(gpu.board_w)} W, and "
        f"{_range(gpu.rest_w)} W for the rest of a node by GPU; from {gpu.source}",
        f"kernels of a layer start in {_range(LAYER_S.times(1e3))} ms: steps of {_steps(suite, kinds)}",
        f"nodes of {site.node_gpus} GPUs; one that is not full is shared with others, and counts in part",
    ]
    if ranks > 1:
        assumed.append(f"{ranks} GPUs train one network at {gpu.together(ranks):.0%} of {ranks} times the speed of one")
    if resting:
        assumed.append(
            f"a run trains on {plural(ranks, 'GPU')} (training.devices = {suite.training.devices}); {resting} more of its job"
            f" {'rests' if resting == 1 else 'rest'}, at {_range(gpu.board_w.times(RESTING))} W each, counted in GPU-hours and "
            "node-hours"
        )
    if any(kind.read for kind in kinds):
        fastest = max(kind.images_per_s for kind in kinds if kind.read)
        assumed.append(
            f"images are read and decoded as fast as they are trained on: {fastest:,.0f} a second for each run"
        )
    return _told(suite, kinds, site, _measuring(suite, todo, "cuda", alone_w), assumed)


def on_processors(
    suite: Suite, data: Mapping[str, Dataset], todo: Mapping[tuple[str, str], int], site: Site
) -> list[str]:
    """For runs on nodes like this machine: some steps are timed here. Arguments and errors as of `on_gpus`."""
    if site.cores is not None:
        torch.set_num_threads(min(site.cores, torch.get_num_threads()))
    power = this_core_power()
    core_w = Bounded(power.power_w, power.low_w, power.high_w)
    kinds, cores = [], 0.0
    for pair in suite.pairs:
        own = data[pair.dataset]
        each = estimate(suite, pair.model, own, "cpu")
        cores = max(cores, each.cores)
        run_s = Bounded((each.run_s + each.longest_s) / 2, each.run_s, each.longest_s).times(1 / site.spread)
        load = Load(todo[pair.dataset, pair.model], run_s, core_w.times(each.cores * site.spread))
        step_s = Bounded(each.step_s, each.step_s, each.step_s)
        kinds.append(Kind(load, step_s, suite.training.batch_size / each.step_s, decoded_late(pair, own)))
    assumed = [
        f"nodes like this machine: steps of {_steps(suite, kinds)}, timed just now, on {cores:.1f} busy cores at "
        f"{_range(core_w)} W ({power.origin}); memory and the rest of a node not counted"
    ]
    if site.spread > 1:
        assumed.append(f"{site.spread} nodes train one network at {site.spread} times the speed of one")
    return _told(suite, kinds, site, _measuring(suite, todo, "cpu", core_w.times(cores)), assumed)


def _told(suite: Suite, kinds: Sequence[Kind], site: Site, measuring: Load, assumed: Sequence[str]) -> list[str]:
    runs = sum(kind.load.runs for kind in kinds)
    if not runs:
        return ["nothing is left to run"]
    found = total([kind.load for kind in kinds], site, measuring)
    megajoules = found.energy_j.times(1e-6).text()
    energy = energy_text(suite, found.energy_j, "what follows").replace("about ", f"about {megajoules} MJ, ", 1)
    longest = max((kind.load.run_s for kind in kinds), key=lambda run_s: run_s.value)
    limit = "no time limit"
    if site.limit_s is not None:
        limit = (
            f"a job is ended after {duration(site.limit_s)}, saves, is queued again and goes on after "
            f"{duration(site.requeue_s)}"
        )
    common = [
        f"a run takes {duration(longest.value)} ({duration(longest.low)} to {duration(longest.high)}) at most, whatever its "
        "method: those that shrink their network early take less",
        f"{limit}; a job takes {duration(STARTUP_S)} to start; time in the queue before it is not counted",
        f"at the end all networks are measured side by side, alone on a node, for {duration(measuring.run_s.value)}",
    ]
    return [*sentences(found, site, runs, energy), *(f"  assumes: {line}" for line in (*assumed, *common))]


def decoded_late(pair: Pair, data: Dataset) -> bool:
    """Whether images are decoded while a run trains, and not once before."""
    late = isinstance(data.train, LazySplit) and pair.dataset not in PUBLISHED
    return late and not fits(as_options(pair.entry), sum(data.images.values()))


def _measuring(suite: Suite, todo: Mapping[tuple[str, str], int], device: str, power_w: Bounded) -> Load:
    """The last job: every network once, beside the dense one of its kind."""
    shortest_s = inference_s(suite, device)[0] / 2
    longest_s = LONGER * shortest_s  # whatever budgets are stated in: what decided on them was measured by the runs
    networks = sum(count + 1 for count in todo.values() if count)
    run_s = Bounded((shortest_s + longest_s) / 2, shortest_s, longest_s).times(networks)
    return Load(1 if networks else 0, run_s, power_w)


def _steps(suite: Suite, kinds: Sequence[Kind]) -> str:
    def words(pair: Pair, kind: Kind) -> str:
        of = f" for {pair.dataset} on {pair.model}" if len(suite.pairs) > 1 else ""
        return f"{_range(kind.step_s.times(1e3))} ms{of}"

    return ", ".join(words(pair, kind) for pair, kind in zip(suite.pairs, kinds, strict=True))


def _range(figure: Bounded) -> str:
    """ "36 (18 to 61)"; the figure alone where it has no bounds."""
    if figure.low == figure.high:
        return f"{figure.value:.3g}"
    low, high = sorted((figure.low, figure.high))
    return f"{figure.value:.3g} ({low:.3g} to {high:.3g})"
