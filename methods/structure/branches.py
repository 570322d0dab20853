"""Residual branches: an addition whose one operand leads around the layers of the other.

They are found in what one forward pass executed (`passes`), so decorators, keyword arguments and control flow hide none:
`x + f(x)`, `x += gamma * f(x)`, `torch.add`, `(x + f(x)) * s`, and each term of `x + f(x) + g(x)`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from greenprune.methods.structure.emptying import Unknown, silences
from greenprune.methods.structure.macs import COUNTED
from greenprune.methods.structure.passes import Call, Operation, Pass, Seen
from greenprune.methods.structure.retracing import Untraceable, find_constants, lost
from greenprune.methods.structure.units import CHANNEL_MODULES, Branch, Silence
from torch import nn

Bits = int
"""A set of operations: bit i stands for operation i."""


_RESHAPING = ("view", "_unsafe_view", "permute", "transpose", "roll", "constant_pad_nd", "slice", "expand", "unsqueeze")
"""Operations that a zero of one entry would not pass."""

_COPYING = ("clone", "detach", "alias", "_to_copy", "lift_fresh")
"""Operations that give what they were given."""


@dataclass(frozen=True)
class _Term:
    """One of the terms of a sum: what leads to it alone, and where it comes out."""

    own: Bits
    all: Bits
    output: int


def find_branches(model: nn.Module, seen: Pass) -> tuple[list[Branch], list[tuple[str, str]]]:
    """Residual branches in the order of execution, and (name, reason) of what looks like one and cannot be removed.

    The branches have no units yet (-1).

    Args:
        model: in eval mode.
        seen: one forward pass of it.
    """
    found: list[Branch] = []
    refused: list[tuple[str, str]] = []
    look = _Look(model, seen)
    for addition, operands in look.sums():
        name = look.holder(addition)
        for result in look.branches(addition, operands):
            if isinstance(result, str):
                refused.append((name, result))
            elif not _within(result, name) and any(set(b.modules) < set(result.modules) for b in found):
                refused.append((name, "it begins before the module that adds it and holds other residual branches"))
            else:
                found.append(result)
    return found, list(dict.fromkeys(refused))


class _Look:
    """A forward pass, looked at for sums."""

    def __init__(self, model: nn.Module, seen: Pass) -> None:
        self.model, self.seen = model, seen
        self.ancestors, self.users = seen.ancestors(), seen.users()
        self.given: Bits = sum(1 << i for i, o in enumerate(seen.operations) if o.name == "input")
        with_calls = {call.parent for call in seen.calls}
        # Modules that called none of their own, and layers that did (a norm with its activation in it).
        self.leaves = {
            i for i, c in enumerate(seen.calls) if i not in with_calls or isinstance(c.module, CHANNEL_MODULES)
        }
        self.counts: dict[str, int] = {}
        for call in seen.calls:
            self.counts[call.name] = self.counts.get(call.name, 0) + 1

    def holder(self, operation: int) -> str:
        call = self.seen.operations[operation].call
        return "" if call < 0 else self.seen.calls[call].name

    def sums(self) -> Iterator[tuple[int, list[int]]]:
        """Every sum of tensors: its last addition, and the operations whose results are its terms."""
        within: set[int] = set()
        found: dict[int, list[int]] = {}
        for i, operation in enumerate(self.seen.operations):
            operands = _operands(operation)
            if operands is None:
                continue
            terms: list[int] = []
            for operand in operands:
                if operand in found and self.users[operand] == [i] and operand not in self.seen.outputs:
                    terms += found[operand]
                    within.add(operand)
                else:
                    terms.append(operand)
            found[i] = terms
        yield from ((i, terms) for i, terms in found.items() if i not in within)

    def branches(self, addition: int, operands: list[int]) -> Iterator[Branch | str]:
        """What of a sum can be left out, and why the rest of what looks like a branch cannot."""
        terms = [self._term(operands, i) for i in range(len(operands))]
        layers = [self._layers(term.own) for term in terms]
        if not any(layers):
            return  # a bias, or functions without layers: nothing to save
        sizes = [len(self._leaves_in(term.own)) for term in terms]
        least = min(sizes)
        around = [i for i, size in enumerate(sizes) if size == least and terms[i].all & self.given]
        if not around:
            return  # something is added that does not depend on the input: no way around the layers
        if least > 0 and len(around) > 1:
            yield "both sides of the addition have as many layers: neither is a shortcut"
            return
        sum_of = self._additions(addition, set(operands))
        projected = all(any(self.seen.operations[o].name not in _COPYING for o in _each(terms[i].own)) for i in around)
        for i, term in enumerate(terms):
            if i not in around and layers[i] and term.all & self.given:
                found = self._branch(addition, term, sum_of)
                yield found if isinstance(found, str) else replace(found, projected=projected)

    def _term(self, operands: Sequence[int], which: int) -> _Term:
        output = operands[which]
        own = self.ancestors[output]
        for i, other in enumerate(operands):
            if i != which:
                own &= ~self.ancestors[other]
        return _Term(own, self.ancestors[output], output)

    def _additions(self, addition: int, terms: set[int]) -> Bits:
        """The additions of a sum, which are operations in no term."""
        bits, todo = 0, [addition]
        while todo:
            i = todo.pop()
            if i not in terms and not bits >> i & 1:
                bits |= 1 << i
                todo += [o for o in self.seen.operations[i].operands if o >= 0]
        return bits

    def _leaves_in(self, own: Bits) -> list[Call]:
        """The calls of modules without submodules at work of which something is in `own`."""
        return [call for call in map(self.seen.calls.__getitem__, sorted(self.leaves)) if own & _bits(call)]

    def _layers(self, own: Bits) -> list[Call]:
        """Those of convolutions, linear layers, attention and others with weights that are multiplied with."""
        return [c for c in self._leaves_in(own) if _has_weights(c.module)]

    def _branch(self, addition: int, term: _Term, sum_of: Bits) -> Branch | str:
        own = term.own
        if own & self.given:
            return "its two sides come from different inputs"
        inside = self._with_unused(own)
        shared = self._shared(inside, sum_of)
        if self._layers(shared & own):
            return "a result inside the branch is used outside of it as well"
        own, inside = own & ~shared, inside & ~shared  # a table of positions, for instance, stays
        term = _Term(own, term.all, term.output)
        whole = [i for i, call in enumerate(self.seen.calls) if self._inside(call, own, inside, addition)]
        called = [self.seen.calls[i] for i in whole if i in self.leaves]
        blocks = [self.seen.calls[i] for i in whole if self.seen.calls[i].parent not in whole]
        blocks = [c for c in blocks if self.counts[c.name] == 1]  # a dropout may serve others as well
        partly = [c for c in self._layers(own) if c not in called]
        if partly:
            return f"{partly[0].name} works inside and outside of it"
        for call in map(self.seen.calls.__getitem__, whole):
            if self.counts[call.name] > 1 and any(True for _ in call.module.parameters()):
                return f"{call.name} in it is called {self.counts[call.name]} times in one forward pass"
        end = self._end(called, [self.seen.calls[i] for i in whole], term)
        if end is None:
            return "not everything in it passes through one layer that could close it"
        if not blocks:
            return "no module belongs to it as a whole"
        if not any(isinstance(c.module, (*CHANNEL_MODULES, nn.MultiheadAttention)) for c in called):
            return "there is no layer in it of a known kind, whose input a gate could look at"
        constants = self._constants(addition, called, end)
        silent = self._silences(blocks, term, sum_of)
        if isinstance(constants, str) and isinstance(silent, str):
            return f"{constants}; and {silent}"
        # Code that asks for an argument stays if it can: it will do with every value of it what it did.
        stays = isinstance(constants, str) or (bool(constants) and not isinstance(silent, str))
        reads = {p for i in _each(own) for p in self.seen.operations[i].reads}
        prefixes = tuple(f"{c.name}." for c in blocks)
        return Branch(
            self.holder(addition),
            -1,
            tuple(dict.fromkeys(c.name for c in called)),
            end.name,
            tuple(dict.fromkeys(c.name for c in blocks)),
            () if stays else tuple(sorted(p for p in reads if not p.startswith(prefixes))),
            None if isinstance(constants, str) or stays else constants,
            None if isinstance(silent, str) else silent,
        )

    def _constants(self, addition: int, called: list[Call], end: Call) -> tuple[tuple[str, Any], ...] | str:
        """The arguments that the code around the branch is traced with, or why it cannot be taken out of the code."""
        number, name = self.seen.operations[addition].call, self.holder(addition)
        if name and not all(c.name.startswith(f"{name}.") for c in called):
            return "it begins before the module that adds it"
        if self.counts[name] > 1:
            return f"the module that adds it is called {self.counts[name]} times"
        call = self.seen.calls[number]
        reason = lost(call.module, outermost=not name)
        if reason is not None:
            return reason
        try:
            found = find_constants(
                call.module, end.name.removeprefix(f"{name}." if name else ""), call.args, call.kwargs
            )
        except Untraceable as error:
            return str(error)
        return tuple(found.items())

    def _silences(self, blocks: list[Call], term: _Term, sum_of: Bits) -> tuple[Silence, ...] | str:
        """What the modules of the branch can be replaced by, or why it cannot be emptied."""
        operations = self.seen.operations
        written = any(operations[i].in_place and operations[i].operands[0] == term.output for i in _each(sum_of))
        last = next((b for b in blocks if any(t.operation == term.output for t in _seen(b.output))), blocks[-1])
        try:
            within = sum(_bits(b) for b in blocks)
            shaped = any(operations[i].name in _RESHAPING for i in _each(term.own & ~within))
            return silences(blocks, whole=last.name if written else None, shaped=shaped)
        except Unknown as error:
            return str(error)

    def _with_unused(self, own: Bits) -> Bits:
        """`own`, and operations whose results lead nowhere but into it or nowhere at all (asking for a size, for example)."""
        inside, outputs = own, set(self.seen.outputs)
        for i in reversed(range(len(self.seen.operations))):
            if not inside >> i & 1 and i not in outputs and all(inside >> u & 1 for u in self.users[i]):
                inside |= 1 << i
        return inside & ~self.given

    def _shared(self, inside: Bits, sum_of: Bits) -> Bits:
        """What of `inside` is used elsewhere than in it and in the sum, directly or by way of others."""
        shared: Bits = 0
        for i in reversed(list(_each(inside))):
            left = inside & ~shared
            if i in self.seen.outputs or any(not left >> u & 1 and not sum_of >> u & 1 for u in self.users[i]):
                shared |= 1 << i
        return shared

    def _inside(self, call: Call, own: Bits, inside: Bits, addition: int) -> bool:
        """Whether all that a call did belongs to the branch."""
        bits = _bits(call)
        if bits:
            return bool(bits & own) and not bits & ~inside
        given = [t.operation for t in _seen((call.args, call.kwargs))]
        return any(o >= 0 and own >> o & 1 for o in given) and call.start <= addition

    def _end(self, called: list[Call], whole: list[Call], term: _Term) -> Call | None:
        """Where the branch can be closed: the last layer that everything in it passes through.

        Behind it zeros must stay zeros; where they do not (a norm of a kind of its own, which shifts), that one closes it.
        """
        ends = [c for c in called if any(True for _ in c.module.parameters()) and self._passes(c, term)]
        known = [c for c in ends if isinstance(c.module, CHANNEL_MODULES) and not isinstance(c.module, nn.PReLU)]
        last = known[-1] if known else None
        if last is not None and all(_keeps_zero(c) for c in called[called.index(last) + 1 :]):
            return last
        if ends:
            return ends[-1]
        around = [c for c in whole if any(True for _ in c.module.parameters()) and self._passes(c, term)]
        return around[-1] if around else None

    def _passes(self, call: Call, term: _Term) -> bool:
        """Whether no path into the branch reaches its output around what `call` gave."""
        gates = {t.operation for t in _seen(call.output) if t.floating}
        todo, done = [term.output], set(gates)
        while todo:
            i = todo.pop()
            if i in done:
                continue
            done.add(i)
            for operand in self.seen.operations[i].operands:
                if operand < 0:
                    continue
                if not term.own >> operand & 1:
                    if self.ancestors[operand] & self.given:
                        return False
                    continue
                todo.append(operand)
        return True


def _within(branch: Branch, holder: str) -> bool:
    return not holder or all(name.startswith(f"{holder}.") for name in branch.modules)


def _operands(operation: Operation) -> list[int] | None:
    """The tensors that an operation adds up, or None."""
    known = operation.operands
    if operation.name == "add" and len(known) == 2 and min(known) >= 0 and known[0] != known[1]:
        return list(known)
    return None


def _bits(call: Call) -> Bits:
    return (1 << call.stop) - (1 << call.start)


def _each(bits: Bits) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _seen(value: object) -> Iterator[Seen]:
    if isinstance(value, Seen):
        yield value
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from _seen(v)
    elif isinstance(value, dict):
        yield from _seen(list(value.values()))


def _has_weights(module: nn.Module) -> bool:
    if isinstance(module, COUNTED):
        return True
    return not isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and any(p.ndim > 1 for p in module.parameters())


@torch.no_grad()
def _keeps_zero(call: Call) -> bool:
    """Whether a module turns zeros into zeros, whatever its parameters are."""
    if not call.module.state_dict():
        return True
    given = [a for a in call.args if isinstance(a, Seen)]
    if len(given) != len(call.args) or call.kwargs:
        return False
    module = copy.deepcopy(call.module).float().cpu()
    with torch.random.fork_rng(devices=[]):
        for parameter in module.parameters():
            parameter.normal_()
        try:
            output = module(*(torch.zeros(g.shape) for g in given))
        except Exception:  # the user's code
            return False
    return isinstance(output, torch.Tensor) and not output.any()
