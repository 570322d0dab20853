"""Consensus gating as a module: wraps a network, learns which channels and layers to keep, leaves a plain smaller one.

    gating = ConsensusGating(model, example_inputs, keep=0.5, steps=total_steps)
    for x, y in loader:
        loss = F.cross_entropy(gating(x), y) + gating.penalty()
        ...; optimizer.step(); gating.step(optimizer)
    small = gating.finish()

The search runs in three stretches: all gates open (early in training a residual branch is noise, and the task gradient
would close it), then the budget tightens, then the choice settles. At its end the network is cut and trains on.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from methods import budget, surgery
from methods.base import MethodOptions, Skip, step_of
from methods.costs import CostKind
from methods.gate_wiring import unwrap, wrap
from methods.gated_modules import GateHead, GateState, with_gradient_gain
from methods.gates import annealed, budget_loss, polarization_loss
from methods.measured_cost import CostTable
from methods.structure import Structure, trace

HISTORY_ROWS = 24
"""How many times the consensus of all gates is noted over the search."""


MAX_GAIN = 0.2
"""Of a gate's gradient; keeps a gate from crossing from open to closed in a few steps when the search is short."""


class GatingOptions(MethodOptions):
    """Options of consensus gating. Shares are fractions of the training steps unless they say otherwise."""

    execution: Literal["majority", "per_sample"] = Field(
        "majority",
        description="majority: the batch executes what its images vote for; per_sample: every image has its own mask",
    )
    target: Literal["projection", "loss"] = Field(
        "projection",
        description="how the budget is met: projection shifts all logits so that the open units cost exactly the budget; "
        "loss adds a budget term to the objective (the paper's way)",
    )
    layers: bool = Field(True, description="gate residual branches")
    channels: bool = Field(True, description="gate channels")
    streams: bool = Field(
        False, description="gate the channels of residual streams too (all their blocks share a gate)"
    )
    search_share: float = Field(0.5, gt=0, le=1, description="share of the training after which the network is cut")
    open_share: float = Field(0.2, ge=0, lt=1, description="share of the search with all gates held open")
    settle_share: float = Field(0.2, ge=0, lt=1, description="share of the search, at its end, at the full budget")
    budget_weight: float = Field(20.0, ge=0, description="weight of the budget loss (target = loss)")
    polarization_weight: float = Field(2.0, ge=0, description="weight of the polarization loss, annealed from 0")
    noise: float = Field(0.5, ge=0, description="scale of the logistic noise on the logits, annealed to 0")
    balance: float = Field(
        1.0, ge=0, le=1, description="gradients of a gate are divided by its unit's cost to this power (0: not at all)"
    )
    drift: float = Field(
        80.0,
        gt=0,
        description="how far (in logits) a gate travels over the search when its gradient always points the same way; "
        "meant for SGD at a learning rate of 0.1 with momentum 0.9",
    )
    gate_learning_rate: float = Field(
        1.0, gt=0, description="learning rate of the gate heads, relative to the recipe's"
    )
    initial_logit: float = Field(2.0, description="mean initial logit of a gate")
    initial_spread: float = Field(0.5, ge=0, description="standard deviation of the initial logits within a layer")
    hidden: int = Field(16, ge=1, description="hidden width of a gate head")
    consensus_share: float = Field(
        0.02, gt=0, le=1, description="share of the search over which the consensus averages (at least 5 steps)"
    )
    revisit_every: int = Field(8, ge=1, description="a closed layer runs once in so many steps, so that it can re-open")


class ConsensusGating(nn.Module):
    """`model` with gate heads (see the module's docstring). Training mode searches, eval mode executes the consensus.

    Args:
        model: the dense network; taken over, and cut in place at the end of the search.
        example_inputs: one small batch on the model's device, for tracing.
        keep: fraction of the dense cost that the result may cost, in (0, 1].
        steps: optimizer steps of the whole training.
        tolerance: the result costs at least `keep - tolerance`.
        seed: of the initial logits and of the noise.
        options: a `GatingOptions`; default all defaults.
        cost: what `keep` is a fraction of: "macs", "params", "latency" or "energy".
        table: measured by `methods.calibrate`, for latency and energy.
        round_to: groups of channels keep a multiple of so many, or stay as they are.

    Raises:
        ValueError: `keep`, `steps` or `round_to` out of range, or no table for a measured cost.
        Skip: nothing in the network can be gated.
        BudgetError: `keep` lies below what the rest of the network costs.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Tensor,
        *,
        keep: float,
        steps: int,
        tolerance: float = 0.02,
        seed: int = 0,
        options: GatingOptions | None = None,
        cost: CostKind = "macs",
        table: CostTable | None = None,
        round_to: int = 1,
    ) -> None:
        super().__init__()
        if not 0.0 < keep <= 1.0:
            raise ValueError(f"keep = {keep}: allowed is a fraction of the dense cost above 0 and at most 1")
        if steps < 1:
            raise ValueError(f"steps = {steps}: allowed is at least 1")
        if round_to < 1:
            raise ValueError(f"round_to = {round_to}: allowed is at least 1")
        budget.check_table(cost, table)
        self.round_to = round_to
        self.predicted_cost: float | None = None  # fraction of the dense cost, set where the network is cut
        self.options = options or GatingOptions()
        self.keep, self.steps, self.tolerance = keep, steps, tolerance
        self.search_steps = max(1, step_of(self.options.search_share, steps))
        self.steps_done = 0
        self.searching = True
        self.masked_max_abs_diff: float | None = None
        self._example_inputs = example_inputs
        self._history: list[tuple[int, list[float]]] = []

        self.structure = trace(model, example_inputs)
        self.gated = gated_units(self.structure, self.options)
        if not self.gated.any():
            reasons = "; ".join(f"{name}: {why}" for name, why in self.structure.fixed[:3])
            raise Skip(f"nothing in this network can be gated ({reasons or 'no convolution, no residual branch'})")
        device = example_inputs.device
        self._cost = budget.make_cost(cost, self.structure, model, table, device)
        least = budget.floor(self.structure, self.gated, self._cost, round_to)
        if keep < least:
            raise budget.BudgetError(f"keep = {keep:g} lies below what cannot be gated: the floor is {least:.3f}")

        generator = torch.Generator().manual_seed(seed)
        self._noise_generator = torch.Generator(device).manual_seed(seed + 1)
        self._macs = budget.MacCost(self.structure, device)
        units = self.structure.units
        weights = price_weights(self._cost, self.options.balance)
        self._state = GateState(units, device, weights, self._noise_generator, per_sample=self._per_sample)
        self._gain = self._state.gradients.gain = min(MAX_GAIN, self.options.drift / self.search_steps)
        wrap(model, self.structure, self.gated, self._state, self.options, example_inputs, generator)
        self.network = model
        self.register_buffer("logit_mean", torch.full((units,), self.options.initial_logit, device=device))
        self.register_buffer("consensus", torch.sigmoid(self.logit_mean))
        self.register_buffer("shift", torch.zeros((), device=device))
        self._gated_device = self.gated.to(device)
        self._initialise_means()

    @property
    def _bundles(self) -> bool:
        return self._cost.staircase or self.round_to > 1

    @property
    def _per_sample(self) -> bool:
        return self.options.execution == "per_sample"

    def _initialise_means(self) -> None:
        for head in self.heads():
            self.logit_mean[head.units] = head.last.bias.detach().float()
        self.consensus.copy_(torch.where(self._gated_device, torch.sigmoid(self.logit_mean), 1.0))

    def heads(self) -> list[GateHead]:
        """The gate heads that are left, in execution order."""
        return [m for m in self.network.modules() if isinstance(m, GateHead)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of the network under its gates (training mode) or under its consensus (eval mode)."""
        if self.searching:
            self._state.begin(len(inputs), searching=self.training, shift=self.shift, consensus=self._open())
        return self.network(inputs)

    def penalty(self) -> Tensor | float:
        """Budget and polarization loss of the batch that went through `forward` last; 0 after the search."""
        if not self.searching or self._stretch() == "open":
            return 0.0
        votes = self._state.votes(default=self.consensus)[self._gated_device]
        ramp = 1.0 - annealed(self._progress(), 1.0, 0.0)
        polarization = self.options.polarization_weight * ramp * polarization_loss(votes)
        # A mean over units: each unit feels 1 / len(votes) of it, while the task's gradient is brought to `gain` per unit.
        total = with_gradient_gain(polarization, self._gain * len(votes))
        if self.options.target == "loss":
            cost = self._cost(self._state.votes(default=self.consensus))
            excess = self.options.budget_weight * budget_loss(cost, self.target())
            total = total + with_gradient_gain(excess, self._gain * len(votes))
        return total

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Call after every optimizer step: updates the consensus, tightens the budget, ends the search when it is time."""
        self.steps_done += 1
        if not self.searching:
            return
        self._state.gradients.update()
        self._update_consensus()
        if self.steps_done % max(1, self.search_steps // HISTORY_ROWS) == 0:
            self._history.append((self.steps_done, self.consensus.tolist()))
        if self.steps_done >= self.search_steps:
            self._cut(optimizer)
            return
        self._project()
        stretch = self._stretch()
        self._state.noise = 0.0 if stretch == "open" else annealed(self._progress(), self.options.noise, 0.0)
        self._state.hold_open = stretch == "open"
        self._state.visit_closed = self.steps_done % self.options.revisit_every == 0

    def finish(self) -> nn.Module:
        """The plain, physically smaller network.

        Raises:
            RuntimeError: the search is not over; says how many steps are missing.
        """
        if self.searching:
            missing = self.search_steps - self.steps_done
            raise RuntimeError(
                f"finish() before the search is over: {self.steps_done} of {self.search_steps} search steps were taken, "
                f"call step(optimizer) {missing} more times"
            )
        return self.network

    def target(self) -> float:
        """The budget in force now: annealed from 1 to `keep`."""
        return annealed(self._progress(), 1.0, self.keep)

    def kept_cost(self) -> float | None:
        """MACs of the units open now, as a fraction of dense; None after the search (count the network)."""
        return float(self._macs(self._open().float())) if self.searching else None

    def history(self) -> dict[str, Any]:
        """Consensus of every gated unit over the search: steps, and per group or branch one row per recorded step."""
        steps = [step for step, _ in self._history]
        rows = [row for _, row in self._history]

        def part(units: slice) -> list[list[float]]:
            return [[round(c, 2) for c in row[units]] for row in rows]

        return {
            "steps": steps,
            "search_steps": self.search_steps,
            "channels": {g.name: part(g.units) for g in self.structure.groups if self.gated[g.start]},
            "layers": {b.name: part(slice(b.unit, b.unit + 1)) for b in self.structure.branches if self.gated[b.unit]},
        }

    def _stretch(self) -> str:
        return "open" if self.steps_done < self.options.open_share * self.search_steps else "tighten"

    def _progress(self) -> float:
        """0 when the gates are released, 1 when the full budget is reached."""
        begin = self.options.open_share * self.search_steps
        end = max(begin + 1.0, (1.0 - self.options.settle_share) * self.search_steps)
        return (self.steps_done - begin) / (end - begin)

    def _open(self) -> Tensor:
        """(U,) bool: what the consensus keeps; units without a gate are open."""
        if self._stretch() == "open":
            return torch.ones_like(self._gated_device)
        return (self.logit_mean > self.shift) | ~self._gated_device

    @torch.no_grad()
    def _update_consensus(self) -> None:
        means = self._state.logit_means(default=self.logit_mean)
        votes = self._state.votes(default=self.consensus)
        m = 1.0 - 1.0 / max(5.0, self.options.consensus_share * self.search_steps)
        self.logit_mean.mul_(m).add_(means, alpha=1.0 - m)
        self.consensus.mul_(m).add_(votes, alpha=1.0 - m)

    @torch.no_grad()
    def _project(self) -> None:
        """Shift all logits so that the units above 1/2 cost the budget in force: one global threshold."""
        if self.options.target != "projection" or self._stretch() == "open":
            return
        candidates = self.logit_mean[self._gated_device].sort().values
        low, high = 0, len(candidates) - 1
        target = self.target()
        while low < high:  # the lowest threshold that meets the target; cost falls as the threshold rises
            middle = (low + high) // 2
            opened = (self.logit_mean > candidates[middle]) | ~self._gated_device
            low, high = (low, middle) if float(self._cost(opened.float())) <= target else (middle + 1, high)
        # Half-way between the last closed and the first open unit, so that polarization parts them both ways.
        self.shift.copy_(candidates[low : low + 2].mean())

    def _cut(self, optimizer: torch.optim.Optimizer) -> None:
        """End of the search: rank what is undecided, meet the budget exactly, remove the rest."""
        # A unit hurts the more the likelier it is open; with bundles of channels these add up.
        scores = torch.sigmoid(self.logit_mean - self.shift) if self._bundles else self.logit_mean
        keep = budget.select(self.structure, scores, self.keep, self.tolerance, self.gated, self._cost, self.round_to)
        self.predicted_cost = float(self._cost(keep.float().to(self._cost.device)))
        unwrap(self.network)
        self.network, self.masked_max_abs_diff = surgery.remove_checked(
            self.network, self.structure, keep, self._example_inputs, optimizer
        )
        self.searching = False


def gated_units(structure: Structure, options: GatingOptions) -> Tensor:
    """(U,) bool: the units that get a gate under `options`."""
    gated = torch.zeros(structure.units, dtype=torch.bool)
    ends = torch.cat([structure.layers[b.end].out_units for b in structure.branches] or [torch.empty(0, dtype=int)])
    for group in structure.groups:
        in_stream = bool(torch.isin(torch.arange(group.start, group.start + group.width), ends).any())
        gated[group.units] = options.channels and (options.streams or not in_stream)
    for branch in structure.branches:
        gated[branch.unit] = options.layers
    return gated


def price_weights(cost: budget.Cost, balance: float) -> Tensor:
    """(U,) weight of each gate's gradient: (median cost of a unit / cost of this unit) ** balance.

    A layer's gate collects the gradient of all its channels, so it would always decide first; and of two units that
    matter equally the dearer one should go.
    """
    prices = cost.prices()
    prices = prices.clamp_min(1e-12)
    return (prices.median() / prices).pow(balance)
