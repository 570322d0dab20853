"""What the gates of a network decide in one forward pass, and what its heads said."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from greenprune.methods.gating.gradients import GradientScale
from greenprune.methods.gating.heads import GateHead, Hearing, Word, by_example
from greenprune.methods.gating.mathematics import logistic_noise, majority_needed
from greenprune.methods.ranks import together
from greenprune.methods.structure import outputs
from greenprune.methods.structure.inputs import Inputs
from torch import Tensor


class Site(Protocol):
    """A wrapper around a layer (`greenprune.methods.gating.wrappers.Gated`), as far as the state knows it."""

    head: GateHead | None

    def prepare(self) -> None: ...


class GateState:
    """What the gates of one forward pass decided; shared by all wrappers of a network.

    Where the heads have no say (gates are held open, or the choice is final) they are heard while the network runs, and
    their words are worked out together when it has run: the many small operations of all heads in a row take a fraction of
    the time that they take between convolutions, each of which sweeps the caches. So do the masks, beforehand.

    Attributes:
        gates: (U + 1,) or, per sample, (B, U + 1): 1 open, 0 closed, straight-through; the last one is always open.
        sites: the wrappers of the network, in execution order.
        prepared: by wrapper, what its layer's output is multiplied by; or scale and shift of a batch norm.
    """

    def __init__(
        self, units: int, device: torch.device, scale: Tensor, generator: torch.Generator, *, per_sample: bool
    ) -> None:
        self.units, self.device, self.generator = units, device, generator
        self.per_sample = per_sample
        self.noise = 0.0
        self.memory = 0.0  # how much of the moving average a batch executes, see `gates.majority`
        self.standing = torch.zeros(units, device=device)  # the moving average, after the shift
        self.hold_open = True  # ignore what the heads say, but let them learn
        self.executed: Tensor | None = None  # (U,) bool: units that run open, whatever heads and consensus say
        self.visit_closed = False  # execute closed branches, so that their gates see a gradient
        self.searching = False
        self.closed: set[int] = set()  # branch units that the batch skips
        self.skippable: set[int] = set()  # branch units whose modules may be left out; found by trying
        self.batch = 0
        self.scales = True  # whether what branches give grows with the batch, in its first dimension; found by trying
        self._key: tuple[Any, ...] = ()  # of the inputs, see `Inputs.key`
        # (branch unit or name of a module in one, inputs) -> shapes of its output, and the batch that they were seen with.
        self.shapes: dict[tuple[int | str, tuple[Any, ...]], tuple[Any, int]] = {}
        self.shaped: set[int] = set()  # skippable branches in which everything has to keep its shape; found by trying
        self.gradients = GradientScale(scale)
        self.sites: list[Site] = []
        self.prepared: dict[Site, Tensor | tuple[Tensor | None, Tensor | None]] = {}
        self._deferred = self._learning = False
        self._concluded = False
        self.reentrant = (
            False  # whether layers of this pass ran without gradients: they will run again in the backward pass
        )
        self._leaf: Tensor | None = None  # the gates that these see
        self._waiting: dict[GateHead, Tensor] = {}  # what deferred heads looked at
        self._hearing: Hearing | None = None
        self._spoken: list[tuple[Tensor, Word]] = []  # this forward pass: units, and what was said about them
        self._tally = torch.zeros(3, units, device=device)  # since the last step: sums of votes, of logits, and images
        self._needed: dict[GateHead, Tensor] = {}
        self.shift = torch.zeros((), device=device)

    def __deepcopy__(self, memo: dict[int, Any]) -> GateState:
        """Everything but the graph of the last forward pass."""
        result = object.__new__(type(self))
        memo[id(self)] = result
        passing: dict[str, Any] = {"_hearing": None, "_waiting": {}, "_needed": {}, "_leaf": None, "prepared": {}}
        generator = torch.Generator(self.generator.device)
        generator.set_state(self.generator.get_state())
        for name, value in (vars(self) | passing | {"generator": generator}).items():
            value = value.detach() if isinstance(value, Tensor) else value
            vars(result)[name] = value if value is generator else copy.deepcopy(value, memo)
        return result

    def begin(
        self,
        inputs: Inputs,
        *,
        searching: bool,
        shift: Tensor,
        consensus: Tensor,
        votes: Tensor | None = None,
        final: bool = False,
    ) -> None:
        """Start a forward pass. The gates are the consensus; while `searching` until the heads have spoken.

        Args:
            votes: (U,), of units on which no head speaks; default the consensus.
            final: the consensus is a choice that no batch changes any more.
        """
        self._count()
        batch = inputs.batch_size
        self.searching, self.shift, self.batch = searching, shift, batch
        self._key = inputs.key if self.scales else (*inputs.key, batch)
        self.closed = set()
        self.prepared.clear()
        self._waiting, self._hearing = {}, None
        self._concluded, self.reentrant, self._leaf = False, False, None
        self._learning = searching and torch.is_grad_enabled()
        self._deferred = searching and (self.hold_open or (final and self.memory == 1.0 and not self.per_sample))
        consensus, votes = self._executed(consensus), consensus if votes is None else votes
        gates = torch.cat([consensus.float(), consensus.new_ones(1, dtype=torch.float32)])
        self.gates = gates.expand(batch, -1) if searching and self.per_sample else gates
        if not searching or (self._deferred and not self.hold_open and not self.visit_closed):
            self._close(range(self.units), consensus)
        if not searching:
            return
        heads = [site.head for site in self.sites if site.head is not None]
        teach = self.hold_open or not self._deferred
        self._hearing = Hearing(heads, self.gates, votes.float(), self.gradients, gates_teach=teach)
        self.gates = self._hearing.gates
        if self._deferred:
            for site in self.sites:
                site.prepare()
            return
        self._needed = self._needed_to_open(heads)

    def _executed(self, opened: Tensor) -> Tensor:
        return opened if self.executed is None else opened | self.executed

    def _needed_to_open(self, heads: list[GateHead]) -> dict[GateHead, Tensor]:
        """What votes, or per sample logits, must exceed: (units,) or (B, units) for each head."""
        # For all units at once, whichever heads will speak, and for the images of all processes of a distributed training:
        # so all of them draw the same.
        shape = (self.batch * together.size(), self.units) if self.per_sample else (self.units,)
        noise = logistic_noise(shape, self.noise, self.generator) if self.noise > 0.0 else None
        if self.per_sample:
            needed = self.standing.new_zeros((self.batch, self.units)) if noise is None else -together.share(noise)
        else:
            needed = majority_needed(self.standing, self.memory, noise)
        if not heads:
            return {}
        if self.executed is not None:
            needed = needed.masked_fill(self.executed, -torch.inf)
        parts = needed.index_select(-1, torch.cat([head.units for head in heads]))
        return dict(zip(heads, parts.split([len(head.units) for head in heads], dim=-1), strict=True))

    def note_mode(self) -> None:
        """A layer is called."""
        if self._learning and not self._concluded and not torch.is_grad_enabled():
            self.reentrant = True

    @property
    def recomputing(self) -> bool:
        """Whether the layers that run are those that reentrant checkpointing runs again, in the backward pass."""
        return self.reentrant and self._concluded

    @property
    def current(self) -> Tensor:
        """The gates, as (U + 1,) or (B, U + 1).

        Reentrant checkpointing runs a backward pass of its own for each stretch. It must not reach the heads, which learn
        once from all of them: so it ends at a leaf, whose gradient they take over.
        """
        if not self.recomputing:
            return self.gates
        if self._leaf is None:
            self._leaf = self.gates.detach()
            if self._hearing is not None and self.gates.requires_grad:
                self._leaf.requires_grad_()
                self._hearing.late.append(self._leaf)
        return self._leaf

    def hear(self, head: GateHead, branches: tuple[int, ...], x: Tensor) -> None:
        """Ask a head about its units, by its layer's input. The last `len(branches)` of its units are branches."""
        if self._concluded:  # the layer runs again, in the backward pass: it was heard already
            return
        if self._deferred:
            self._waiting[head] = by_example(head.pooled(x), self.batch)
            return
        assert self._hearing is not None
        (word,) = self._hearing.listen([(head, by_example(head.pooled(x), self.batch))], self.shift)
        self._spoken.append((head.units, word))
        opened = self._hearing.decide(head, word, self._needed[head])
        if branches and not self.visit_closed:
            opened = opened if opened.ndim == 1 else together.any_of(opened.any(0))
            self._close(branches, opened[-len(branches) :])

    def conclude(self) -> None:
        """The network has run: work out what the heads said that could wait."""
        if self._waiting:
            assert self._hearing is not None
            words = self._hearing.listen([*self._waiting.items()], self.shift)
            self._spoken += [(head.units, word) for head, word in zip(self._waiting, words, strict=True)]
        self._waiting, self._concluded = {}, True

    def _close(self, units: Iterable[int], opened: Tensor) -> None:
        closed = {unit for unit, is_open in zip(units, opened.tolist(), strict=True) if not is_open} & self.skippable
        # A branch is skipped once it is known what shape it would have given; until then it runs, masked.
        self.closed |= {unit for unit in closed if (unit, self._key_in((unit,))) in self.shapes}

    def keeps_shapes(self, branches: Iterable[int]) -> bool:
        """Whether what is skipped in these branches has to have the shapes that it would have."""
        return any(branch in self.shaped for branch in branches)

    def note_shape(self, of: int | str, branches: Iterable[int], output: Any) -> None:
        """What a branch, or a module in `branches`, gives has these shapes under the inputs of this pass."""
        self.shapes[of, self._key_in(branches)] = _shapes(output), self.batch

    def zeros(self, of: int | str, branches: Iterable[int], like: Tensor) -> Any:
        """What a branch that is skipped, or a module in it, would give, of zeros; of the type of `like`."""
        shapes, batch = self.shapes[of, self._key_in(branches)]
        return _zeros(shapes, self.batch, batch, like)

    def _key_in(self, branches: Iterable[int]) -> tuple[Any, ...]:
        return (*self._key, self.batch) if self.keeps_shapes(branches) else self._key

    @property
    def votes(self) -> Tensor | None:
        """(U,) mean over the batch of each unit's p, what `begin` was given where no head spoke. Differentiable.

        None where the last forward pass was no part of a search.
        """
        return None if self._hearing is None else self._hearing.votes

    def tied_to(self, output: Any) -> Any:
        """`output`, depending (with weight 0) on everything the heads said, even on layers that were then skipped.

        `DistributedDataParallel` finds the parameters in use from the output alone, and the penalty uses all heads.
        """
        if self._hearing is None or not torch.is_grad_enabled():
            return output
        nothing = 0.0 * self._hearing.votes.sum()
        return outputs.with_first(output, lambda tensor: tensor + nothing.to(tensor.dtype))

    @torch.no_grad()
    def _count(self) -> None:
        """Put the votes of the last forward pass on the tally (a step may consist of several)."""
        if self._spoken and self._learning:
            units = torch.cat([units for units, _ in self._spoken])
            votes = torch.cat([word.votes for _, word in self._spoken])
            logits = torch.cat([word.logits for _, word in self._spoken], dim=1)
            images = float(len(logits))
            self._tally.index_add_(
                1, units, torch.stack([votes * images, logits.sum(0), torch.full_like(votes, images)])
            )
        self._spoken = []

    def take(self, votes: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Once a step, after backward: the means over all images since the last step, of all processes; then forget them.

        Where `torch.distributed` is at work, votes and gate gradients are added up over its processes, so that all of
        them take the same decisions.

        Args:
            votes, logits: (U,), what to return for units on which no head spoke.

        Returns:
            (U,) mean p and (U,) mean logit, the latter before the shift.
        """
        self._count()
        tally, gradients = self._tally, self.gradients.sums
        if together.several():
            total = together.summed(torch.cat([tally.flatten(), gradients]))
            tally = total[: tally.numel()].view_as(tally)
            gradients = total[tally.numel() :] / together.size()
        self.gradients.update(gradients)
        spoke = tally[2] > 0
        images = tally[2].clamp_min(1.0)
        means = torch.where(spoke, tally[0] / images, votes), torch.where(spoke, tally[1] / images + self.shift, logits)
        self._tally.zero_()
        return means


def _shapes(output: Any) -> Any:
    """`output` with the shapes of its tensors in their place."""
    if isinstance(output, Tensor):
        return output.shape
    return tuple(_shapes(value) for value in output) if isinstance(output, (tuple, list)) else None


def _zeros(shapes: Any, batch: int, noted: int, like: Tensor) -> Any:
    """Zeros of `shapes`, which were noted with `noted` examples, for `batch` examples."""
    if isinstance(shapes, torch.Size):
        return like.new_zeros((shapes[0] * batch // noted, *shapes[1:]))
    return None if shapes is None else tuple(_zeros(s, batch, noted, like) for s in shapes)
