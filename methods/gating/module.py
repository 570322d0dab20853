"""Consensus gating as a module: wraps a network, learns which channels and layers to keep, leaves a plain smaller one.

    gating = ConsensusGating(model, example_inputs, keep=0.5, cost="macs", steps=total_steps)
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.1, momentum=0.9)
    for x, y in loader:
        loss = F.cross_entropy(gating(x), y) + gating.penalty()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        gating.step(optimizer)
    small = gating.finish()

The search runs in three stretches: all gates open (early in training a residual branch is noise, and the task gradient
would close it), then the budget tightens, then the choice is final and the gates agree on it. What they have agreed on for
long enough is removed on the way. At the end of the search the rest is cut to the budget, and the network trains on.
A closed layer that can leaves a thin one (`remnant`): what will not stay of it fades while the search lasts (`fading`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from greenprune.methods.budget import select as budget
from greenprune.methods.cost.kinds import CostKind
from greenprune.methods.cost.measured_cost import CostTable
from greenprune.methods.gating import checkpoint, fading, importance, setup, shrinking
from greenprune.methods.gating import record as gating_record
from greenprune.methods.gating.consensus import Consensus
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.gating.schedule import SearchSchedule
from greenprune.methods.gating.selection import Terms
from greenprune.methods.gating.shrinking import GONE, OPEN, UNDECIDED
from greenprune.methods.gating.state import GateState
from greenprune.methods.gating.wiring import find_skippable, refuse_changed, unwrap, wrap
from greenprune.methods.gating.wrappers import Gated
from greenprune.methods.ranks import together
from greenprune.methods.structure import outputs, surgery
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.remnant import kind_of
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn
from torch.func import functional_call

STORED = ("steps_done", "kept", "reachable", "chosen", "masked_max_abs_diff", "polarized_share", "predicted_cost")
"""What a stored search holds of the attributes, besides weights, buffers and history."""

MAX_GAIN = 0.2
"""Of a gate's gradient; keeps a gate from crossing from open to closed in a few steps when the search is short."""


class ConsensusGating(Consensus):
    """`model` with gate heads (see the module's docstring). Training mode searches, eval mode executes the consensus.

    **Parameters are replaced** when `step` removes something; it then returns True. The optimizer it is given is brought
    up to date (parameters, momentum and the like, in its own groups), so schedulers need nothing. What else holds
    parameters must be made anew, see distributed training.

    **Several batches for one step** (gradient accumulation): forward, `penalty` and backward for each, then
    `optimizer.step()` and `step` once; the votes of all of them count. Divide each loss, penalty included, by their number.

    **float16 autocast** (`torch.amp.GradScaler`) needs nothing: `scaler.scale(loss + gating.penalty()).backward()`, then
    `scaler.step(optimizer)`, `scaler.update()` and `step(optimizer)`. What the loss is multiplied by is read off the gradient
    of the penalty, so add it to the loss as it is. A step that overflowed teaches nothing.

    **Resuming.** `state_dict()`, taken after `step`, holds everything that matters: weights, steps done, what is decided
    and since when the rest agrees, consensus, logit means, shift, the scale of the gate gradients, the state of the noise
    and the history. Load it into a `ConsensusGating` built from the dense model with the same arguments: that one takes on
    the shape (also that of a finished search). Only then make the optimizer and load its state. On a CPU the result is bit
    for bit that of the uninterrupted run; random numbers of the network's own (dropout) and data order are the caller's.

    **Distributed training**: `ddp = DistributedDataParallel(gating, find_unused_parameters=True)` (a layer that the batch
    closes has no gradient). Call `ddp(x)`, but `penalty` and `step` of `gating`, on all ranks, with shares of a batch of one
    size. Wherever `torch.distributed` is initialized, votes and gate gradients are those of the whole batch, of all ranks, so
    they all execute and decide alike. When `step` returns True wrap again: `ddp = DistributedDataParallel(gating, ...)`, same
    optimizer. Forgetting it is an error at the next step.

    **torch.compile**: `torch.compile(gating)` is fine. The search runs uncompiled (which layers run is decided batch by
    batch); once the network is cut it compiles as a whole. Give the constructor the model itself, not a compiled one.

    Args:
        model: the dense network; taken over, and cut in place.
        example_inputs: one small batch on the model's device, for tracing: a tensor, a tuple of positional arguments, a dict
            of keyword arguments, or `Inputs(args, kwargs)`.
        keep: fraction of the dense cost that the result may have, in (0, 1].
        steps: optimizer steps of the whole training.
        tolerance: the result costs at least `keep - tolerance`. Where the units of the network are too coarse for that
            the constructor warns (`reach.CoarseBudget`), and the result is the nearest below.
        seed: of the initial logits and of the noise.
        options: a `GatingOptions`; default all defaults.
        cost: what `keep` is a fraction of: "macs", "params", "latency" or "energy".
        table: measured by `greenprune.methods.calibrate`, for latency and energy.
        round_to: groups of channels keep a multiple of so many, or stay as they are.

    Raises:
        ValueError: `keep`, `steps` or `round_to` out of range; no table for a measured cost; `example_inputs` that the
            model does not take; a compiled model.
        Skip: nothing in the network can be gated, or gates would make it another function.
        BudgetError: `keep` lies below what the rest of the network costs.
    """

    executed_macs = 0  # its own operations are those of gate heads, and the layers that carry them count these

    def __init__(
        self,
        model: nn.Module,
        example_inputs: ExampleInputs,
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
        setup.check_arguments(keep, steps, round_to)
        budget.check_table(cost, table)
        inputs = setup.check_inputs(model, example_inputs)
        options = options or GatingOptions()
        structure = setup.remnant_structure(trace(model, inputs), model, options, keep, cost, table)
        gated = setup.gated_units(structure, options)
        device = inputs.device
        terms = Terms(budget.make_cost(cost, structure, model, table, device), keep, tolerance, round_to)
        nearest = setup.check_budget(structure, gated, keep, tolerance, terms.cost, round_to)
        super().__init__(structure, gated, terms, options, SearchSchedule(options, steps), device)
        self.nearest = nearest  # where `keep` can only be undershot, see `reach.check_budget`
        self.left = structure  # the network as it is now, numbered as `structure`
        self.cost, self.steps = cost, steps
        self.searching = True
        self.predicted_cost: float | None = None  # fraction of the dense cost, set where the network is cut
        self.masked_max_abs_diff: float | None = None  # the largest of all removals so far
        self.kept: Tensor | None = None  # the selection of the final cut
        self._example_inputs = inputs
        self._compare_ranks = False
        self._macs = budget.MacCost(structure, device)

        weights = setup.price_weights(self.terms.cost, options.balance)
        noise = torch.Generator(device).manual_seed(seed + 1)
        self.state = GateState(structure.units, device, weights, noise, per_sample=options.execution == "per_sample")
        self._gain = self.state.gradients.gain = min(MAX_GAIN, options.drift / self.search_steps)
        expected = surgery.evaluate(model, inputs)
        wrap(model, structure, gated, self.state, options, device, torch.Generator().manual_seed(seed))
        self.state.sites = [m for m in model.modules() if isinstance(m, Gated)]
        find_skippable(model, structure, gated, self.state, inputs)
        refuse_changed(model, structure.units, self.state, inputs, expected)
        self.network = model
        self.begin_with(self.heads())
        self.register_load_state_dict_pre_hook(ConsensusGating._take_shape)

    def heads(self) -> list[GateHead]:
        """The gate heads that are left, in execution order."""
        return [m for m in self.network.modules() if isinstance(m, GateHead)]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network returns, under its gates (training mode) or under its consensus (eval mode)."""
        return self._search(args, kwargs) if self.searching else self.network(*args, **kwargs)

    @torch.compiler.disable
    def _search(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.state.standing = self._standing()
        self.state.begin(
            self._example_inputs.like(args, kwargs),
            searching=self.training, shift=self.shift, consensus=self._open(), votes=self.consensus,
            final=self.chosen is not None,
        )  # fmt: skip
        shown = {} if self.training else fading.replaced(self.network, self._closing())  # what removal would leave
        output = functional_call(self.network, shown, args, kwargs) if shown else self.network(*args, **kwargs)
        self.state.conclude()
        tied = self.training and (together.several() or self.state.reentrant)
        return self.state.tied_to(output) if tied else output

    @torch.compiler.disable
    def penalty(self) -> Tensor | float:
        """Budget and polarization loss of the batch that went through `forward` last; 0 after the search.

        Add it to the loss as it is, at every step: its gradient says what a `GradScaler` multiplied the loss by.
        """
        return self.state.gradients.watched(self._loss(self.state.votes, self._gain)) if self.searching else 0.0

    @torch.compiler.disable
    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Call after every optimizer step: updates the consensus, tightens the budget, shrinks the network, ends the search.

        Returns:
            True when parameters were replaced or removed (see the class).

        Raises:
            ValueError: `optimizer` is not the one that trains this network.
            RuntimeError: the ranks of a distributed training have come apart.
        """
        if self._compare_ranks:
            together.compare(self.parameters())
            self._compare_ranks = False
        if self.searching:
            setup.check_optimizer(self, optimizer)
        self.steps_done += 1
        if not self.searching:
            return False
        self._average(*self.state.take(self.consensus, self.logit_mean))
        if self.steps_done >= self.search_steps:
            self._cut(optimizer)
            self._compare_ranks = True
            return True
        if self.steps_done == self.schedule.listening_step:
            self.state.gradients.forget_importance()
        if self.steps_done == self.schedule.release_step:
            self._order_gates()
        self._project()
        if self._progress() >= 1.0:
            self._choose()
        if not self._held_open():
            fading.step(self.network, self._closing(), self.search_steps - self.steps_done)
        self._prepare(self.state, self._gain)
        due = self.options.shrink and not self._held_open() and self.steps_done % self.schedule.shrink_every == 0
        self._compare_ranks = due and self._shrink(optimizer)
        return self._compare_ranks

    def _order_gates(self) -> None:
        """The gates are released: each starts where what was learned of its unit puts it, by the biases of the heads."""
        known, prices = self.state.gradients.importance, self.terms.cost.prices()
        logits = importance.ordered(self.structure, known, self.logit_mean, self.decided, prices, self.options)
        if logits is not None:
            with torch.no_grad():
                for head in self.heads():
                    head.last.bias += (logits - self.logit_mean)[head.units]
            self.logit_mean.copy_(logits)

    def finish(self) -> nn.Module:
        """The plain, physically smaller network.

        Raises:
            RuntimeError: the search is not over; says how many steps are missing.
        """
        if self.searching:
            done, steps = self.steps_done, self.search_steps
            more = "once more" if steps - done == 1 else f"{steps - done} more times"
            said = f"{done} of {steps} search steps were taken, call step(optimizer) {more}"
            raise RuntimeError(f"finish() before the search is over: {said}")
        return self.network

    def kept_cost(self) -> float | None:
        """MACs of the units open now, as a fraction of dense; None after the search (count the network)."""
        return float(self._macs(self._open().float())) if self.searching else None

    @torch.no_grad()
    def _shrink(self, optimizer: torch.optim.Optimizer) -> bool:
        """Remove what has agreed on "off", drop the gates of what has agreed on "on"; whether there was any."""
        try:
            self.reachable = self._selection()
        except budget.BudgetError:
            return False  # no selection meets the budget yet; if that stays so the end of the search says it
        closed, opened = self._agreed(self.reachable.to(self.decided.device))
        if not (closed.any() or opened.any()):
            return False
        expected = surgery.precisely(self, self._example_inputs)
        self.decide(torch.where(closed, GONE, torch.where(opened, OPEN, self.decided)), optimizer)
        got = surgery.precisely(self, self._example_inputs)
        self._note_difference(outputs.difference(expected, got).absolute)
        return True

    def decide(self, decided: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
        """Bring network, gates and optimizer in line with `decided` (U,)."""
        keep, undecided = decided != GONE, decided == UNDECIDED
        self.network, self.left = shrinking.remove_units(self.network, self.left, keep, undecided, optimizer)
        self.state.sites = [m for m in self.network.modules() if isinstance(m, Gated)]
        there = shrinking.present(self.left, len(decided)).to(decided.device)
        self.decided.copy_(decided.masked_fill(~there, GONE))  # channels inside a removed layer went with it
        self.consensus.masked_fill_(self.decided == GONE, 0.0).masked_fill_(self.decided == OPEN, 1.0)
        self.state.shapes.clear()  # they may have changed with the channels; a pass with all branches tells
        self.state.skippable, skippable = set(), self.state.skippable
        surgery.evaluate(self, self._example_inputs)
        self.state.skippable = skippable

    def _cut(self, optimizer: torch.optim.Optimizer) -> None:
        """End of the search: rank what is undecided, meet the budget exactly, remove the rest."""
        self.polarized_share = gating_record.polarized_share(self.consensus.cpu()[self.gated])
        self.kept = self._selection()
        self.predicted_cost = float(self.terms.cost(self.kept.float().to(self.terms.cost.device)))
        surgery.forget(optimizer, [p for head in self.heads() for p in head.parameters()])
        unwrap(self.network)
        checked = surgery.remove_checked(self.network, self.left, self.kept, self._example_inputs, optimizer)
        self.network, difference = checked
        self._note_difference(difference)
        self.searching = False

    def _note_difference(self, found: float) -> None:
        known = self.masked_max_abs_diff or 0.0
        self.masked_max_abs_diff = math.nan if math.isnan(known + found) else max(known, found)

    def get_extra_state(self) -> dict[str, Any]:
        """What `state_dict` holds besides weights and buffers; plain data and tensors, fit for `torch.load`."""
        own = {name: getattr(self, name) for name in STORED} | {"rows": [(step, list(row)) for step, row in self.rows]}
        return {"made_with": self._made_with(), **own, **checkpoint.collect(self.state)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Part of `load_state_dict`; `_take_shape` came before."""
        for name in STORED:
            setattr(self, name, state[name])
        self.kept = None if self.kept is None else self.kept.cpu()
        self.chosen = None if self.chosen is None else self.chosen.to(self.decided.device)
        self.rows = [(step, list(row)) for step, row in state["rows"]]
        checkpoint.restore(self.state, state)
        self._prepare(self.state, self._gain)

    def _made_with(self) -> dict[str, Any]:
        plain = {name: getattr(self.terms, name) for name in ("keep", "tolerance", "round_to")}
        plain |= {"cost": self.cost, "steps": self.steps, "units": self.structure.units}
        remnants = {b.end: kind_of(b.remnant) for b in self.structure.branches if b.remnant is not None}
        return plain | {"options": self.options.model_dump(), "closed layers": remnants}

    def _take_shape(self, state: dict[str, Any], prefix: str, *_: object) -> None:
        """Before `load_state_dict` copies anything: cut the network to the shape that `state` was taken from."""
        stored = state.get(f"{prefix}_extra_state")
        if stored is None:
            return  # load_state_dict says what is missing
        decided = state[f"{prefix}decided"].to(self.decided.device)
        checkpoint.check(self._made_with(), stored["made_with"], self.decided, decided, self.searching)
        self._shrink_to(decided, stored["kept"])

    def _shrink_to(self, decided: Tensor, kept: Tensor | None) -> None:
        """Remove what another gating of this network has removed: `decided` (U,) and, after its search, all but `kept` (U,)."""
        if not self.searching:
            return
        self.decide(decided.to(self.decided.device), None)
        if kept is not None:
            unwrap(self.network)
            self.network = surgery.remove(self.network, self.left, kept.cpu())
            self.searching = False

    def shrink_copy(self, copy: nn.Module) -> None:
        """Remove from `copy` what this gating has removed, so that a moving average of its weights can go on.

            averaged = AveragedModel(gating)          # a deep copy
            ...
            if gating.step(optimizer):
                gating.shrink_copy(averaged)
            averaged.update_parameters(gating)

        Args:
            copy: a deep copy of this gating, made at any time, or a module that holds one. Its own weights, less what is
                removed, stay.

        Raises:
            ValueError: there is no gating in `copy`, or one of another network.
        """
        found = next((m for m in copy.modules() if isinstance(m, ConsensusGating)), None)
        if found is None or found._made_with() != self._made_with():
            raise ValueError("shrink_copy: expected a deep copy of this gating, or a module that holds one")
        found._shrink_to(self.decided, self.kept)
        for name in STORED:
            setattr(found, name, getattr(self, name))
