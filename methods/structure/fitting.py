"""Which sizes in the code follow the channels, found by trying.

An attribute that has the size of a labelled dimension may mean it (`num_heads`) or not (a window that happens to be as
large). All modules of one class use theirs alike, so what is tried is a way for each class: nothing, its attributes (all,
or all but one or two), its code rewritten, or both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from greenprune.methods.structure.shapes import Candidates
from greenprune.methods.structure.units import Attribute, Shapes, Structure

MOST_ATTRIBUTES = 6
"""Of one class: with more, only all of them and none are tried."""


@dataclass(frozen=True)
class Way:
    """What is done about the sizes in the modules of one class: these attributes, by name and index, and the code."""

    attributes: frozenset[tuple[str, int | None]] = frozenset()
    rewritten: bool = False


Ways = Mapping[str, Way]
"""By class; what is not in it is left as it is."""

Attempt = Callable[[tuple[Shapes, ...], Sequence[str]], str | None]
"""(shapes, names of groups to cut) -> why that goes wrong, or None."""


def shapes_of(candidates: Sequence[Candidates], ways: Ways) -> tuple[Shapes, ...]:
    result = []
    for candidate in candidates:
        way = ways.get(candidate.kind, Way())
        attributes = tuple(a for a in candidate.attributes if _key(a) in way.attributes)
        calls = candidate.calls if way.rewritten else ()
        if attributes or calls:
            result.append(Shapes(candidate.module, attributes, calls))
    return tuple(result)


def choose(structure: Structure, candidates: Sequence[Candidates], attempt: Attempt) -> dict[str, Way]:
    """The ways that let most groups be cut."""
    groups = {g.name: set(range(g.start, g.start + g.width)) for g in structure.groups}
    kinds: dict[str, list[Candidates]] = {}
    for candidate in candidates:
        kinds.setdefault(candidate.kind, []).append(candidate)
    everywhere = {kind: Way(_common(own)) for kind, own in kinds.items() if _common(own)}
    if not kinds or attempt((), list(groups)) is None:
        return {}
    if everywhere and attempt(shapes_of(candidates, everywhere), list(groups)) is None:
        return everywhere
    touched = {
        name: frozenset(kind for kind, own in kinds.items() if any(units & c.units for c in own))
        for name, units in groups.items()
    }
    ways = everywhere
    for kind in sorted(kinds, key=lambda k: min((len(t) for t in touched.values() if k in t), default=0)):
        # One group for each combination of classes it touches: what exists inside one module first, streams last.
        examples: dict[tuple[bool, int, frozenset[str]], str] = {}
        for group in structure.groups:
            classes = touched[group.name]
            if kind in classes:
                examples.setdefault((len(group.producers) > 1, len(classes), classes), group.name)
        tried = [examples[key] for key in sorted(examples, key=lambda key: key[:2])][:4]
        best, most = Way(), -1.0
        for way in _ways(kinds[kind]):
            score = _score(tried, shapes_of(candidates, ways | {kind: way}), attempt, most)
            if score > most:
                best, most = way, score
            if most >= sum(_weights(tried)):
                break
        ways = {**ways, kind: best}
    return ways


def _weights(tried: Sequence[str]) -> list[float]:
    """The group that touches the fewest classes tells most: more than all others."""
    return [2.0**-i for i in range(len(tried))]


def _score(tried: Sequence[str], shapes: tuple[Shapes, ...], attempt: Attempt, most: float) -> float:
    """The weights of the groups that can be cut; no further than it is clear that they are no more than `most`."""
    score, left = 0.0, sum(_weights(tried))
    for name, weight in zip(tried, _weights(tried), strict=True):
        left -= weight
        score += weight if attempt(shapes, [name]) is None else 0.0
        if score + left <= most:
            break
    return score


def _ways(modules: Sequence[Candidates]) -> Iterator[Way]:
    keys = sorted({_key(a) for c in modules for a in c.attributes}, key=str)
    rewritable = any(c.calls for c in modules)
    yield Way()
    yield from (Way(some) for some in dict.fromkeys((_common(modules), frozenset(keys))) if some)
    if rewritable:
        yield Way(rewritten=True)
    if 2 <= len(keys) <= MOST_ATTRIBUTES:
        for left_out in (1, 2) if len(keys) > 2 else (1,):
            for some in combinations(keys, len(keys) - left_out):
                yield Way(frozenset(some))
    if keys and rewritable:
        yield Way(frozenset(keys), rewritten=True)


def _common(modules: Sequence[Candidates]) -> frozenset[tuple[str, int | None]]:
    """The attributes that all modules of a class have in common; one that fits in some of them fits by chance."""
    return frozenset.intersection(*(frozenset(_key(a) for a in c.attributes) for c in modules))


def _key(attribute: Attribute) -> tuple[str, int | None]:
    return attribute.name, attribute.index
