"""What the batches of a search agree on: the moving averages of the gates, and what the budget in force keeps of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from greenprune.methods.budget.select import BudgetError
from greenprune.methods.cost.kinds import MEASURED
from greenprune.methods.gating import fading, shrinking
from greenprune.methods.gating import record as gating_record
from greenprune.methods.gating.gradients import with_gradient_gain
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.gating.mathematics import annealed, budget_loss, disagreement_loss, polarization_loss, threshold
from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.gating.schedule import SearchSchedule
from greenprune.methods.gating.selection import Terms, select
from greenprune.methods.gating.shrinking import GONE, OPEN, UNDECIDED
from greenprune.methods.gating.state import GateState
from greenprune.methods.structure.units import Branch, Structure
from torch import Tensor, nn

SURE_LOGIT = 4.0
"""Of the consensus on a unit whose choice is final."""


class Consensus(nn.Module):
    """The part of `ConsensusGating` that is about units: nothing here knows the network that they belong to.

    Attributes:
        consensus, logit_mean: (U,) moving averages of what the heads say, as a probability and as a logit.
        shift: of all logits, so that the units above 1/2 cost the budget in force.
        decided: (U,) GONE, UNDECIDED or OPEN.
        run: (U,) for how many steps each gate has agreed, see `shrinking.agreement`.
        chosen: (U,) bool, the final selection once the full budget is reached (target = projection).
        reachable: (U,) bool, a selection on budget that what was decided leaves possible.
        steps_done: optimizer steps so far.
        structure, gated: the units of the dense network, and (U,) bool which of them have a gate.
        terms: what the result may cost.
    """

    consensus: Tensor
    logit_mean: Tensor
    shift: Tensor
    decided: Tensor
    run: Tensor

    def __init__(
        self,
        structure: Structure,
        gated: Tensor,
        terms: Terms,
        options: GatingOptions,
        schedule: SearchSchedule,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.structure, self.gated, self.terms = structure, gated, terms
        self.options, self.schedule = options, schedule
        self.steps_done = 0
        self.chosen: Tensor | None = None
        self.reachable: Tensor | None = None
        self.search_steps = schedule.search_steps
        self.rows: list[tuple[int, list[float]]] = []  # of the history
        self.polarized_share: float | None = None
        units = structure.units
        self.register_buffer("logit_mean", torch.full((units,), options.initial_logit, device=device))
        self.register_buffer("shift", torch.zeros((), device=device))
        # int32, not bool: DistributedDataParallel broadcasts buffers, and gloo knows no bool.
        self.register_buffer("decided", torch.where(gated, UNDECIDED, OPEN).to(device, torch.int32))
        self.register_buffer("run", torch.zeros(units, dtype=torch.int32, device=device))
        self.register_buffer("consensus", torch.ones(units, device=device))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Consensus:
        """Whatever precision the network is brought to, its consensus is kept in float32."""
        exact = {name: getattr(self, name) for name in ("logit_mean", "shift", "consensus")}
        super()._apply(fn, recurse)
        for name, value in exact.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self

    def begin_with(self, heads: list[GateHead]) -> None:
        """Start from what the heads say before they have learned anything."""
        for head in heads:
            self.logit_mean[head.units] = head.last.bias.detach().float()
        self.consensus.copy_(torch.where(self.decided == UNDECIDED, torch.sigmoid(self.logit_mean), 1.0))

    def _held_open(self) -> bool:
        return self.schedule.holds_open(self.steps_done)

    def _progress(self) -> float:
        return self.schedule.progress(self.steps_done)

    def _open(self) -> Tensor:
        """(U,) bool: what the consensus keeps; units without a gate are open."""
        if self._held_open():
            return self.decided >= UNDECIDED
        if self.chosen is not None:
            return self.chosen & (self.decided != GONE)
        return torch.where(self.decided == UNDECIDED, self.logit_mean > self.shift, self.decided == OPEN)

    def _standing(self) -> Tensor:
        """(U,) the moving average that a batch executes in part, as logits after the shift."""
        return (
            self.logit_mean - self.shift if self.chosen is None else torch.where(self._open(), SURE_LOGIT, -SURE_LOGIT)
        )

    def _closing(self) -> list[Branch]:
        return fading.closing(self.structure, self.decided, self._open())

    def _prepare(self, state: GateState, gain: float) -> None:
        """How the next forward pass treats the gates; follows from the steps done."""
        is_open = self._held_open()
        state.noise = 0.0 if is_open else annealed(self._progress(), self.options.noise, 0.0)
        state.memory = 0.0 if is_open else annealed(self._progress(), 0.0, self.options.memory)
        state.hold_open = is_open
        state.executed = fading.executed(self.structure, self.decided, self._open())
        state.gradients.gain = gain if self.chosen is None else 0.0
        state.visit_closed = self.steps_done % self.options.revisit_every == 0

    def history(self) -> dict[str, Any]:
        """Consensus of every gated unit over the search: steps, and per group or branch one row per recorded step.

        Units keep the numbering of the dense network; what was removed or opened for good stays at 0 or 1.
        `polarized_share`: fraction of the gates with a consensus below 0.1 or above 0.9 at the end of the search (a channel
        that went with its layer counts as 0); None before. With a budget of time or joules `leaves` has what each layer
        leaves where it closes.
        """
        whole: dict[str, Any] = {"search_steps": self.search_steps, "polarized_share": self.polarized_share}
        if self.terms.cost.kind in MEASURED:
            whole["leaves"] = gating_record.leaves(self.structure)
        return gating_record.history(self.structure, self.gated, self.rows) | whole

    @torch.no_grad()
    def _average(self, votes: Tensor, logits: Tensor) -> None:
        """Take what the heads said since the last step, (U,) each, into the moving averages."""
        m = self.schedule.consensus_memory
        self.logit_mean.mul_(m).add_(logits, alpha=1.0 - m)
        self.consensus.mul_(m).add_(votes, alpha=1.0 - m)
        self.consensus.masked_fill_(self.decided == OPEN, 1.0)  # exactly, whatever the moving average rounds to
        if not self._held_open():
            self.run.copy_(shrinking.agreement(self.run, self.consensus, self.options.settled))
            if self._progress() < 1.0:
                self.run.clamp_(max=0)  # while the threshold still rises, "on" is only what the loose budget affords
        if self.steps_done % self.schedule.history_every == 0:
            self.rows.append((self.steps_done, self.consensus.tolist()))

    def target(self) -> float:
        """The budget in force now: annealed from 1 to `keep`."""
        return annealed(self._progress(), 1.0, self.terms.keep)

    def _loss(self, batch: Tensor | None, gain: float) -> Tensor | float:
        """Budget and polarization loss; 0 while all gates are held open.

        Args:
            batch: (U,) mean votes of the last batch, differentiable; default the consensus.
            gain: what the gradient of each gate is brought to.
        """
        if self._held_open():
            return 0.0
        every = self.consensus if batch is None else batch
        votes = every[self.gated.to(every.device)]
        settling = max(0.0, self._progress() - 1.0)  # the full budget is reached, what is left is to agree
        ramp = annealed(self._progress(), 0.0, 1.0) + self.options.settle_polarization * settling
        if self.chosen is None:
            divided = polarization_loss(votes)
        else:
            divided = disagreement_loss(votes, self._open().to(votes)[self.gated.to(votes.device)])
        polarization = self.options.polarization_weight * ramp * divided
        # A mean over units: each unit feels 1 / len(votes) of it, while the task's gradient is brought to `gain` per unit.
        total = with_gradient_gain(polarization, gain * len(votes))
        if self.options.target == "loss":
            excess = self.options.budget_weight * budget_loss(self.terms.cost(every), self.target())
            total = total + with_gradient_gain(excess, gain * len(votes))
        return total

    @torch.no_grad()
    def _project(self) -> None:
        """Shift all logits so that the units above 1/2 cost the budget in force: one global threshold."""
        if self.options.target != "projection" or self._held_open() or self.chosen is not None:
            return
        undecided, opened, near = self.decided == UNDECIDED, self.decided == OPEN, float(self.shift)
        found = threshold(self.terms.cost, self.logit_mean, undecided, opened, self.target(), near)
        if found is not None:
            self.shift.copy_(found)

    def _choose(self) -> None:
        """The full budget is reached: what the threshold keeps now is final, all that is left is to agree on it.

        If gates went on learning they would rise at the threshold, as the loss wants all of them open, past saturated
        ones that hardly follow; the threshold would rise with them and close the most valuable units.
        """
        if self.chosen is None and self.options.target == "projection":
            # Where no selection meets the budget yet the search goes on; if that stays so its end says it.
            with contextlib.suppress(BudgetError):
                self.chosen = self._selection().to(self.decided.device)

    def _selection(self) -> Tensor:
        """(U,) bool, on the CPU: what stays when the search ends now; see `select`."""
        if self.chosen is not None:
            return (self.chosen & (self.decided != GONE)).cpu()
        return select(self.structure, self.terms, self.logit_mean, self.shift, self.decided, self.reachable)

    def _agreed(self, final: Tensor) -> tuple[Tensor, Tensor]:
        """(U,) bool each: the units to remove and those to open for good, while the selection `final` stays possible."""
        closed, opened = shrinking.agreed(self.decided, self.run, self.schedule.patience, self._open(), final)
        closed &= ~fading.leaving(self.structure, self.decided)  # at the end of the search, when they have faded
        return closed & ~shrinking.inside_undecided_remnants(self.structure, self.decided), opened
