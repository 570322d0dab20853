"""Which figure of a GPU counts where its energy counter and its power register disagree, and why.

The counter adds up in hardware what the register only shows at some moments, so it counts where nothing speaks against
it. What can: on a Grace Hopper superchip the counter is that of the module, which the register of the module's power
shows; no card draws more than its power limit for long; a counter that stood still has lost something; and one that
counts next to nothing does not count joules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from greenprune.bench.energy.reading import Scope

MAX_MISMATCH = 0.05  # fraction by which the counter and the integrated power may differ
LEAST_SHARE = (
    10  # a register that sees a quarter of the time, of a load that is busy just then, shows seven times the mean
)
LIMIT_SLACK = 0.1  # by which a card may be above its power limit for seconds

_SUPERCHIP = re.compile(r"\b(GH|GB)\d{3}\b|grace", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """What counts."""

    figure: Literal["counter", "power"]
    scope: Scope
    basis: str
    """Why, in one sentence."""
    agreed: bool
    """Whether nothing is left open. If not, the bounds must hold both figures."""


def agree(a_j: float, b_j: float, slack_j: float) -> bool:
    """Whether two figures of one thing differ by no more than is to be expected."""
    return abs(a_j - b_j) <= MAX_MISMATCH * max(a_j, b_j) + slack_j


def decide(
    name: str,
    counter_j: float,
    power_j: float | None,
    module_j: float | None,
    *,
    slack_j: float,
    limit_j: float | None = None,
    stood_still_s: float = 0.0,
) -> Verdict:
    """Decide between the counter and integrated power over the same window.

    Args:
        name: of the product.
        power_j: the GPU's power, integrated; None: there is none, or it has gaps.
        module_j: the power of the module that the GPU is part of, integrated; None: NVML does not tell.
        slack_j: what the edges of the window may make up.
        limit_j: the card's power limit over the window.
        stood_still_s: how long the counter stood still beyond its period.
    """
    if power_j is None:
        scope: Scope = "module" if _SUPERCHIP.search(name) else "gpu"
        what = "the module's, as on every superchip" if scope == "module" else "there is no power to compare it with"
        return Verdict("counter", scope, f"energy counter; {what}", True)
    figures = f"the counter says {counter_j:.1f} J, the GPU's integrated power {power_j:.1f} J"
    if agree(counter_j, power_j, slack_j):
        return Verdict("counter", "gpu", "energy counter; the GPU's integrated power agrees with it", True)
    if module_j is not None and agree(counter_j, module_j, slack_j) and not agree(module_j, power_j, slack_j):
        return Verdict(
            "counter",
            "module",
            f"energy counter, which counts the whole module (GPU, its CPU and memory): {figures}, and the module's "
            f"{module_j:.1f} J",
            True,
        )
    if module_j is None and counter_j > power_j and _SUPERCHIP.search(name):
        return Verdict(
            "counter",
            "module",
            f"energy counter, which on {name} counts the whole module (GPU, its CPU and memory): {figures}",
            True,
        )
    if limit_j is not None and counter_j > (1 + LIMIT_SLACK) * limit_j + slack_j and power_j <= (
        1 + LIMIT_SLACK
    ) * limit_j:  # fmt: skip
        return Verdict(
            "power", "gpu", f"integrated power: {figures}, and the card's power limit allows {limit_j:.1f} J", False
        )
    if stood_still_s > 0 and counter_j < power_j:
        return Verdict(
            "power", "gpu", f"integrated power: {figures}, but the counter stood still for {stood_still_s:.1f} s", False
        )
    if counter_j < power_j / LEAST_SHARE:
        return Verdict(
            "power", "gpu", f"integrated power: {figures}, and no load hides so much from the power register", False
        )
    return Verdict(
        "counter",
        "gpu",
        f"energy counter, which adds up in hardware what the power register shows at some moments only: {figures}, and "
        "nothing tells which is right; the bounds hold both",
        False,
    )
