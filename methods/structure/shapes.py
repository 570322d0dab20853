"""Sizes that are written into the code of a network, and how they follow when channels go.

Two ways: integer attributes of the module that is at work (`num_heads`, `all_head_size`, split sizes), and calls of `view`
and the like, whose numbers are replaced in the source (`rewriting`). Which of a module's attributes are meant is found out
by trying, see `fitting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from greenprune.methods.structure.flow.labels import _chunks
from greenprune.methods.structure.flow.sites import Note
from greenprune.methods.structure.rewriting import NewSizes, original, rewrite
from greenprune.methods.structure.units import FIXED, Attribute, Shapes, SizedCall, has_channels
from torch import Tensor, nn

Tables = Mapping[tuple[int, int, int], Tensor]
"""(note, part, dimension) -> the unit of each entry; part -1 is what went in, others are what came out."""

_CALLS = ("view", "_unsafe_view", "reshape", "_reshape_alias", "expand")
_SPLITS = ("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes")


@dataclass(frozen=True)
class Candidates:
    """What of one module might have to change."""

    module: str
    kind: str  # its class
    attributes: tuple[Attribute, ...]
    calls: tuple[SizedCall, ...]
    units: frozenset[int]  # that the sizes depend on


def find(model: nn.Module, notes: Sequence[Note], tables: Tables) -> list[Candidates]:
    """One entry for each module in which a labelled dimension was given a size."""
    names = {module: name for name, module in model.named_modules()}
    result = []
    of_module: dict[nn.Module, list[int]] = {}
    for i, note in enumerate(notes):
        if note.module in names and not has_channels(note.module):
            of_module.setdefault(note.module, []).append(i)
    for module, own in of_module.items():
        mine = set(own)
        found = [
            t
            for key, t in tables.items()
            if key[0] in mine and bool((t != FIXED).any()) and not _merged(notes, tables, key)
        ]
        if not found:
            continue
        calls: dict[Any, SizedCall | None] = {}
        for i in own:
            call = _sized_call(i, notes[i], tables)
            if call is not None:
                key = call.call
                calls[key] = call if key not in calls or _same(calls[key], call) else None
        units = frozenset(int(u) for t in found for u in torch.unique(t).tolist() if u != FIXED)
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        rewritable = tuple(c for c in calls.values() if c is not None)
        result.append(Candidates(names[module], kind, tuple(_attributes(module, found)), rewritable, units))
    return result


def _same(a: SizedCall | None, b: SizedCall) -> bool:
    return a is not None and [(i, t.tolist(), s) for i, t, s in a.sizes] == [(i, t.tolist(), s) for i, t, s in b.sizes]


def _attributes(module: nn.Module, tables: Sequence[Tensor]) -> Iterator[Attribute]:
    """The integers of a module, and of lists in it, that are the size of a labelled dimension."""
    by_size: dict[int, Tensor] = {}
    for table in tables:
        by_size.setdefault(len(table), table)
    for name, value in vars(module).items():
        if name.startswith("__"):
            continue
        if type(value) is int and value in by_size:
            yield Attribute(name, None, by_size[value])
        elif isinstance(value, (list, tuple)) and 0 < len(value) <= 8:
            for index, item in enumerate(value):
                if type(item) is int and item in by_size:
                    yield Attribute(name, index, by_size[item])


def _sized_call(index: int, note: Note, tables: Tables) -> SizedCall | None:
    if note.call is None:
        return None
    if note.operation in _SPLITS:
        sizes = []
        for part, (shape, _) in enumerate(note.after):
            table = tables.get((index, part, note.dim))
            sizes.append((part, torch.full((shape[note.dim],), FIXED) if table is None else table, False))
        if all(bool((t == FIXED).all()) for _, t, _ in sizes):
            return None
        return SizedCall(note.call, len(sizes), tuple(sizes))
    if note.operation not in _CALLS:
        return None
    (old, _), (new, _) = note.before, note.after[0]
    explicit: dict[int, tuple[Tensor, bool]] = {}
    if note.operation == "expand":
        for d in range(len(new)):
            if (index, 0, d) in tables:
                explicit[d] = (tables[index, 0, d], False)
    else:
        for olds, news in _chunks(old, new):
            labelled = [d for d in news if _labelled(tables, (index, 0, d))]
            if not labelled:
                continue
            first = min((d for d in olds if _labelled(tables, (index, -1, d))), default=olds[0] if olds else 0)
            # The number of images may be merged with the channels: then what is there is scaled.
            scaled = len(news) == 1 and any(old[d] > 1 for d in olds if d < first)
            for d in news:
                if d >= labelled[0]:
                    table = tables.get((index, 0, d))
                    explicit[d] = (torch.full((new[d],), FIXED) if table is None else table, scaled)
    if not explicit:
        return None
    return SizedCall(note.call, len(new), tuple((d, t, s) for d, (t, s) in sorted(explicit.items())))


def _merged(notes: Sequence[Note], tables: Tables, key: tuple[int, int, int]) -> bool:
    """Whether a dimension holds something else around the channels, such as the images of a batch: no size of theirs."""
    note, part, dim = key
    if notes[note].operation not in _CALLS[:-1]:
        return False
    old, new = notes[note].before[0], notes[note].after[0][0]
    for olds, news in _chunks(old, new):
        one, several, other = (news, olds, (note, -1)) if part >= 0 else (olds, news, (note, 0))
        if dim in one and len(one) == 1 and len(several) > 1:
            shape = old if part >= 0 else new
            labelled = [d for d in several if _labelled(tables, (*other, d))]
            return bool(labelled) and any(shape[d] > 1 for d in several if d < labelled[0])
    return False


def _labelled(tables: Tables, key: tuple[int, int, int]) -> bool:
    return key in tables and bool((tables[key] != FIXED).any())


def follow(model: nn.Module, shapes: Sequence[Shapes], keep: Tensor) -> None:
    """Bring the sizes in the code of `model` in line with what `keep` (U + 1,) bool leaves, in place.

    Raises:
        CannotRewriteError: see `rewriting`.
    """
    for shape in shapes:
        try:
            module = model.get_submodule(shape.module)
        except AttributeError:
            continue  # it went with its branch
        for attribute in shape.attributes:
            _set(module, attribute, int(keep[attribute.units].sum()))
        if shape.calls and any(not bool(keep[t].all()) for c in shape.calls for _, t, _ in c.sizes):
            changes = []
            for call in shape.calls:
                sizes: dict[int, int | tuple[int, int]] = {}
                for position, table, scaled in call.sizes:
                    left = int(keep[table].sum())
                    sizes[position] = (left, call.full[position]) if scaled else left
                changes.append(NewSizes(call.call, call.rank, sizes))
            module.__class__ = rewrite(original(type(module)), changes)


def _set(module: nn.Module, attribute: Attribute, value: int) -> None:
    if attribute.index is None:
        setattr(module, attribute.name, value)
        return
    old = getattr(module, attribute.name)
    items = [value if i == attribute.index else item for i, item in enumerate(old)]
    setattr(module, attribute.name, type(old)(items) if type(old) in (list, tuple) else tuple(items))
