"""What a suite will take in time and energy, before it runs: steps that were timed, times assumed watts.

Always `modelled`, even where the runs themselves will be measured. On a CPU the watts are those that the energy meter
assumes where there is no sensor (`greenprune.bench.energy.sources.modelled`). For a GPU nothing here is measured: a
training step takes the time to start its kernels, or, if that is longer, that of its arithmetic. How fast and how hungry a
card is says `greenprune.bench.plan.devices`.
"""

from __future__ import annotations

from collections.abc import Sequence

from greenprune.bench.energy.carbon.intensity import gco2e, place
from greenprune.bench.energy.usage.processors import CorePower, this_core_power
from greenprune.bench.inference.pair import LONGEST
from greenprune.bench.plan.devices import ANY, gpu_step_s
from greenprune.bench.plan.estimate import Estimate, decided_in, epochs_of, inference_s
from greenprune.bench.plan.figures import Bounded
from greenprune.bench.suite.suite import Suite
from greenprune.bench.text import duration, plural, three_digits

J_PER_KWH = 3.6e6
GPU_WORTH_S = 6 * 3600.0
"""A suite that takes longer than this on the CPU is better run on a GPU."""


def cpu_energy_j(each: Estimate, cores: float, power: CorePower) -> Bounded:
    """Of one run that keeps `cores` cores busy."""
    middle_s = (each.run_s + each.longest_s) / 2
    seconds = Bounded(middle_s, each.run_s, each.longest_s)
    watts = (power.power_w, power.low_w, power.high_w)
    return Bounded(*(cores * w * s for w, s in zip(watts, (seconds.value, seconds.low, seconds.high), strict=True)))


def gpu_run_s(suite: Suite, images: dict[str, int], step_s: Bounded) -> Bounded:
    """One run on a large GPU."""
    trained = epochs_of(suite, images)
    shortest_s, longest_s = inference_s(suite, "cuda")
    return Bounded(
        trained * step_s.value + (shortest_s + longest_s) / 2,
        trained * step_s.low + shortest_s,
        trained * step_s.high + longest_s,
    )


def forecast(suite: Suite, each: Estimate, device: str, todo: int, at_once: int = 1) -> list[str]:
    """What to say below a plan: time, energy, and for long ones on a CPU the same on a GPU.

    Args:
        todo: runs that are still to do.
        at_once: how many of them go on at the same time.
    """
    decides = decided_in(suite)
    longest = "twice inference_seconds"
    if decides is not None:
        longest += f", or {LONGEST} times in {decides[0]} at batch size {decides[1]}, which decides on budgets"
    whole_s = [s * todo / at_once for s in (each.run_s, each.longest_s)]
    lines = [
        f"{todo} to run, about {_between(each.run_s, each.longest_s)} each, {_between(*whole_s)} in all"
        f"{f' with {at_once} at a time' if at_once > 1 else ''} (from {plural(suite.training.epochs, 'epoch')} of dense "
        f"training steps of {each.step_s * 1e3:.0f} ms, timed just now; inference is measured until its ratio to dense is "
        f"known to 2 %, for at most {longest})"
    ]
    if not todo:
        return lines
    if device == "cpu":
        power = this_core_power()
        assumed = (
            f"{each.cores:.1f} busy cores, as in these steps, at {power.power_w:.3g} W ({power.low_w:.3g} to "
            f"{power.high_w:.3g}; {power.origin}); memory and the rest of the machine not counted"
        )
        lines.append(energy_text(suite, cpu_energy_j(each, each.cores, power).times(todo), assumed))
        if whole_s[0] > GPU_WORTH_S:
            step_s = gpu_step_s(each.layers, each.macs, suite.training.batch_size)
            run_s = gpu_run_s(suite, each.images, step_s)
            lines.append(
                f"on one large GPU instead, by assumption and not measured: {duration(run_s.value * todo)} in all "
                f"({duration(run_s.low * todo)} to {duration(run_s.high * todo)}), with steps of {step_s.value * 1e3:.2g} ms "
                f"({step_s.low * 1e3:.2g} to {step_s.high * 1e3:.2g})"
            )
            lines.append(energy_text(suite, _gpu_energy_j(run_s).times(todo), _gpu_assumed()))
    else:
        run_s = Bounded((each.run_s + each.longest_s) / 2, each.run_s, each.longest_s)
        lines.append(energy_text(suite, _gpu_energy_j(run_s).times(todo), _gpu_assumed()))
    return lines


def in_all(estimates: Sequence[tuple[Estimate, int]], at_once: int = 1) -> str:
    """The time of all runs of a matrix together: of each data set and network, and how many are still to do."""
    low_s, high_s = (
        sum(getattr(each, name) * todo for each, todo in estimates) / at_once for name in ("run_s", "longest_s")
    )
    return f"in all: {sum(todo for _, todo in estimates)} to run, {_between(low_s, high_s)}"


def _between(low_s: float, high_s: float) -> str:
    """ "2 min to 3 min"; one of them where they read the same."""
    return " to ".join(dict.fromkeys((duration(low_s), duration(high_s))))


def _gpu_energy_j(run_s: Bounded) -> Bounded:
    return run_s.by(ANY.board_w)


def _gpu_assumed() -> str:
    watts = ANY.board_w
    return f"a GPU that draws {watts.value:g} W ({watts.low:g} to {watts.high:g}); the CPU beside it not counted"


def energy_text(suite: Suite, energy_j: Bounded, assumed: str) -> str:
    grid, pue = suite.measurement.grid(), suite.measurement.pue
    centre = f", PUE {pue:g}" if pue != 1 else ""
    return (
        f"about {energy_j.times(1 / J_PER_KWH).text()} kWh in all (modelled), {three_digits(gco2e(energy_j.value, grid, pue))} "
        f"gCO2e at {grid.gco2e_per_kwh:.4g} g/kWh, {place(grid)} ({grid.source}){centre}; assumes {assumed}"
    )
