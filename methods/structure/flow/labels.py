"""Which element every position of a tensor belongs to, dimension by dimension, and what operations make of that.

A tensor's labels are a few *blocks*: an array of elements over some of its dimensions, in ascending order of these. A
convolution's output (B, C, H, W) has one block, (C,) over dimension 1. After `view(B, N, heads, width)` there is a block
over two dimensions. Along a dimension outside every block nothing can be removed.

The sets of `Elements` only ever grow, so an array over several dimensions becomes one over fewer as soon as it is constant
along one of them (`Labeller.tidy`): then what is removed goes as whole rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from greenprune.methods.structure.flow.elements import Elements, Ids

MAX_ENTRIES = 20_000_000
"""Of one array: beyond, what it labels is taken as fixed."""


@dataclass(frozen=True)
class Block:
    """Elements of the positions along `dims`; `ids.shape` are the sizes of these dimensions."""

    dims: tuple[int, ...]
    ids: Ids


Labels = tuple[Block, ...]
Shape = tuple[int, ...]


class Labeller:
    """Labels under the operations that all others are made of. `where` says which module is at work, for reasons."""

    def __init__(self, elements: Elements, where: Callable[[], str]) -> None:
        self.elements = elements
        self._where = where
        self.rectangles: list[Ids] = []
        """Arrays of which only whole rows along one dimension can go, whichever; decided in the end (`settle`)."""

    def fix(self, ids: Ids, what: str) -> None:
        self.elements.fix(ids, f"{what} in {self._where()}")

    def tidy(self, labels: Iterable[Block]) -> Labels:
        """The roots of all elements; without dimensions along which they are the same, and without what is fixed."""
        result = []
        for block in labels:
            ids, dims = self.elements.find(block.ids), list(block.dims)
            if not len(dims) or not ids.any():
                continue
            if len(dims) > 1:
                for axis in reversed(range(len(dims))):
                    if len(dims) > 1 and (ids == ids.take([0], axis)).all():
                        ids = np.squeeze(ids.take([0], axis), axis)
                        del dims[axis]
            result.append(Block(tuple(dims), ids))
        return tuple(sorted(result, key=lambda b: b.dims))

    def moved(self, labels: Labels, to: Sequence[int]) -> Labels:
        """Dimension i becomes dimension `to[i]`."""
        result = []
        for block in labels:
            dims = [to[d] for d in block.dims]
            order = np.argsort(dims)
            result.append(Block(tuple(dims[i] for i in order), block.ids.transpose(order)))
        return tuple(result)

    def forbid(self, labels: Labels, dim: int, what: str) -> Labels:
        """Nothing can be removed along `dim` alone: of a block over several dimensions only whole rows of the others."""
        result = []
        for block in self.tidy(labels):
            if dim not in block.dims:
                result.append(block)
            elif len(block.dims) == 1:
                self.fix(block.ids, what)
            else:
                result.append(self.row(block, block.dims.index(dim)))
        return tuple(result)

    def row(self, block: Block, axis: int) -> Block:
        """The block without its dimension number `axis`, along which all become one."""
        first = block.ids.take([0], axis)
        self.elements.union(block.ids, first)
        return Block(tuple(d for i, d in enumerate(block.dims) if i != axis), first.squeeze(axis))

    def alone(self, labels: Labels, dim: int) -> Ids | None:
        """(size,) the elements along `dim`, with all that a block couples to them; None where there are none."""
        for block in self.tidy(labels):
            if dim in block.dims:
                while len(block.dims) > 1:
                    block = self.row(block, 1 if block.dims[0] == dim else 0)
                return self.elements.find(block.ids)
        return None

    def without(self, labels: Labels, dim: int) -> Labels:
        """The blocks that do not touch `dim`."""
        return tuple(b for b in labels if dim not in b.dims)

    def combine(self, tensors: Sequence[tuple[Shape, Labels]], what: str) -> tuple[Shape, Labels]:
        """Elementwise: positions that meet belong together. Shapes are broadcast.

        Positions that meet one that is not labelled cannot be removed; a single one that is broadcast over many neither.
        """
        shape = np.broadcast_shapes(*(s for s, _ in tensors))
        rank = len(shape)
        aligned: list[tuple[Shape, Labels]] = []
        for own, labels in tensors:
            shift = rank - len(own)
            own = (1,) * shift + tuple(own)
            labels = tuple(Block(tuple(d + shift for d in b.dims), b.ids) for b in self.tidy(labels))
            kept = []
            for block in labels:
                for axis in reversed(range(len(block.dims))):
                    if own[block.dims[axis]] == 1 and shape[block.dims[axis]] != 1:
                        if len(block.dims) == 1:
                            self.fix(block.ids, f"{what} broadcasts a single channel over several")
                        ids = block.ids.squeeze(axis)
                        block = Block(tuple(d for i, d in enumerate(block.dims) if i != axis), ids)
                if block.dims:
                    kept.append(block)
            aligned.append((own, tuple(kept)))
        result: list[Block] = []
        for dims in _components(b.dims for _, labels in aligned for b in labels):
            arrays = [self._spread(b, dims) for _, labels in aligned for b in labels if set(b.dims) & set(dims)]
            sizes = tuple(shape[d] for d in dims)
            whole = np.broadcast_to(arrays[0], sizes)
            for array in arrays[1:]:
                self.elements.union(whole, array)
            block = Block(dims, np.ascontiguousarray(whole))
            for own, labels in aligned:
                if any(set(b.dims) & set(dims) for b in labels):
                    continue
                full = [d for d in dims if own[d] == shape[d] and shape[d] != 1]
                if not full:
                    continue  # broadcast along all of them
                (*tidied,) = self.tidy([block])
                if not tidied:
                    break
                block = tidied[0]
                for d in full:
                    if d in block.dims and len(block.dims) > 1:
                        block = self.row(block, block.dims.index(d))
                    elif d in block.dims:
                        self.fix(block.ids, f"{what} joins them with something of a fixed size")
            result.append(block)
        return shape, self.tidy(result)

    def _spread(self, block: Block, dims: tuple[int, ...]) -> Ids:
        index = tuple(slice(None) if d in block.dims else None for d in dims)
        return block.ids[index]

    def contract(
        self, a: tuple[Shape, Labels], b: tuple[Shape, Labels], a_dim: int, b_dim: int, what: str
    ) -> tuple[Labels, Labels]:
        """A sum of products over `a_dim` of `a` and `b_dim` of `b`; returns the labels that are left of each.

        What is zero adds nothing, so what is summed over may go, in both together. Of a block over several dimensions (the
        width of attention's heads) whole rows go.
        """
        both = []
        for shape, labels, dim in ((*a, a_dim), (*b, b_dim)):
            rows = tuple(self._drop(block, dim) if len(block.dims) > 1 else block for block in self.tidy(labels))
            both.append((rows, self.alone(rows, dim) if shape[dim] > 1 else None))
        (a_labels, a_ids), (b_labels, b_ids) = both
        if a_ids is not None and b_ids is not None:
            self.elements.union(a_ids, b_ids)
        elif a_ids is not None or b_ids is not None:
            ids = a_ids if a_ids is not None else b_ids
            assert ids is not None
            self.fix(ids, f"{what} multiplies them with something of a fixed size")
        return tuple(x for x in a_labels if x.dims != (a_dim,)), tuple(x for x in b_labels if x.dims != (b_dim,))

    def _drop(self, block: Block, dim: int) -> Block:
        return self.row(block, block.dims.index(dim)) if dim in block.dims else block

    def reshape(self, labels: Labels, old: Shape, new: Shape) -> Labels:
        """`view` from shape `old` to `new`. What a dimension is split into is a rectangle, see `rectangles`."""
        labels = self.tidy(labels)
        if not labels or not all(old) or not all(new):
            return ()
        result: list[Block] = []
        chunks = list(_chunks(old, new))
        plain = {o[0]: n[0] for o, n in chunks if len(o) == 1 and len(n) == 1}
        pending = []
        for block in labels:
            if all(d in plain for d in block.dims):
                result.append(Block(tuple(plain[d] for d in block.dims), block.ids))
            else:
                pending.append(block)
        touched = [[c for c in chunks if set(c[0]) & set(b.dims)] for b in pending]
        while pending:  # blocks whose chunks overlap are reshaped as one
            blocks, mine = [pending.pop(0)], list(touched.pop(0))
            grown = True
            while grown:
                grown = False
                for i, other in enumerate(touched):
                    if any(c in mine for c in other):
                        blocks.append(pending.pop(i))
                        mine += [c for c in touched.pop(i) if c not in mine]
                        grown = True
                        break
            result += self._reshape_blocks(blocks, sorted(mine), old, new)
        return self.tidy(result)

    def _reshape_blocks(
        self,
        blocks: list[Block],
        chunks: list[tuple[tuple[int, ...], tuple[int, ...]]],
        old: Shape,
        new: Shape,
    ) -> list[Block]:
        old_dims = tuple(d for o, _ in chunks for d in o)
        new_dims = tuple(d for _, n in chunks for d in n)
        sizes, new_sizes = tuple(old[d] for d in old_dims), tuple(new[d] for d in new_dims)
        if np.prod(sizes, dtype=float) > MAX_ENTRIES:
            for block in blocks:
                self.fix(block.ids, "a view of very many entries")
            return []
        parts = [np.broadcast_to(self._spread(b, old_dims), sizes) for b in blocks]
        whole = parts[0] if len(parts) == 1 else self._paired(parts)
        ids = np.ascontiguousarray(whole).reshape(new_sizes)
        out = self.tidy([Block(new_dims, ids)])
        for block in out:
            if len(block.dims) > 1:
                self.rectangles.append(block.ids)
        return list(out)

    def _paired(self, parts: list[Ids]) -> Ids:
        """Several labels on one position: rows of the finest that can still go are kept, those of the others are fixed."""
        counts = [len(np.unique(p)) for p in parts]
        best = int(np.argmax(counts))
        for i, part in enumerate(parts):
            if i != best:
                self.fix(part, "a view that merges two kinds of channels")
        return parts[best]

    def settle(self) -> None:
        """Decide of every rectangle along which dimension its rows go: the one that leaves most to choose from."""
        for ids in self.rectangles:
            roots = self.elements.find(ids)
            axes = [a for a in range(ids.ndim) if ids.shape[a] > 1]
            kept = [a for a in axes if not (roots == roots.take([0], a)).all()]
            if len(kept) < 2:
                continue
            choices = {a: self._rows_left(roots, a) for a in kept}
            best = max(kept, key=lambda a: (choices[a], -a))
            first = roots
            for a in axes:
                if a != best:
                    first = first.take([0], a)
            self.elements.union(roots, first)

    def _rows_left(self, roots: Ids, axis: int) -> int:
        """How many rows along `axis` could be removed one by one."""
        rows = np.moveaxis(roots, axis, 0).reshape(roots.shape[axis], -1)
        free = [i for i, row in enumerate(rows) if (row != 0).all()]
        # rows that share an element go together
        seen: dict[int, int] = {}
        sets = 0
        for i in free:
            touched = {seen[e] for e in np.unique(rows[i]).tolist() if e in seen}
            if not touched:
                sets += 1
            for e in np.unique(rows[i]).tolist():
                seen.setdefault(e, i)
        return sets


def _components(groups: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Sets of dimensions that blocks tie together, each in ascending order."""
    result: list[set[int]] = []
    for dims in groups:
        touching = [s for s in result if s & set(dims)]
        result = [s for s in result if not s & set(dims)]
        result.append(reduce(set.union, touching, set(dims)))
    return [tuple(sorted(s)) for s in result]


def _chunks(old: Shape, new: Shape) -> Iterable[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Runs of dimensions of both shapes that hold the same entries, as short as possible."""
    i = j = 0
    while i < len(old) or j < len(new):
        start_i, start_j = i, j
        a = b = 1
        if i < len(old):
            a, i = old[i], i + 1
        if j < len(new):
            b, j = new[j], j + 1
        while a != b:
            if a < b and i < len(old):
                a, i = a * old[i], i + 1
            elif j < len(new):
                b, j = b * new[j], j + 1
            else:
                break
        yield tuple(range(start_i, i)), tuple(range(start_j, j))
