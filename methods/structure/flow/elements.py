"""Elements that can only be removed together: disjoint sets over numbered channels, in numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

FIXED = 0
"""The element that stands for everything that cannot be removed."""


class Elements:
    """Disjoint sets. Element 0 is `FIXED`; whoever is joined with it keeps the reason why.

    The root of a set is its smallest element, so the root of what is fixed is always 0.
    """

    def __init__(self) -> None:
        self._parent: Ids = np.zeros(1, dtype=np.int64)
        self._why = np.full(1, -1, dtype=np.int64)
        self._reasons: list[str] = []

    def __len__(self) -> int:
        return len(self._parent)

    def new(self, count: int) -> Ids:
        """`count` elements, each in a set of its own."""
        start = len(self._parent)
        ids = np.arange(start, start + count, dtype=np.int64)
        self._parent = np.concatenate([self._parent, ids])
        self._why = np.concatenate([self._why, np.full(count, -1, dtype=np.int64)])
        return ids

    def find(self, ids: Ids) -> Ids:
        """The root of each element; shape as `ids`."""
        roots = self._parent[ids]
        while True:
            above = self._parent[roots]
            if (above == roots).all():
                break
            roots = above
        self._parent[ids] = roots
        return roots

    def union(self, a: Ids, b: Ids) -> None:
        """Join each element of `a` with its partner in `b` (broadcast against each other)."""
        a, b = (x.ravel() for x in np.broadcast_arrays(a, b))
        while True:
            a_roots, b_roots = self.find(a), self.find(b)
            apart = a_roots != b_roots
            if not apart.any():
                return
            low = np.minimum(a_roots, b_roots)[apart]
            high = np.maximum(a_roots, b_roots)[apart]
            to_fixed = low == FIXED
            if to_fixed.any():
                fixed = np.where(a_roots == FIXED, a, b)[apart][to_fixed]
                for reason in np.unique(self._why[fixed]):
                    self._fix_roots(high[to_fixed][self._why[fixed] == reason], int(reason))
            else:
                np.minimum.at(self._parent, high, low)

    def fix(self, ids: Ids, reason: str) -> None:
        """None of these can be removed, nor what is joined with them."""
        roots = self.find(ids.ravel())
        roots = np.unique(roots[roots != FIXED])
        if len(roots):
            if reason not in self._reasons:
                self._reasons.append(reason)
            self._fix_roots(roots, self._reasons.index(reason))

    def _fix_roots(self, roots: Ids, reason: int) -> None:
        everyone = self.find(np.arange(len(self._parent)))
        members = np.isin(everyone, roots) & (everyone != FIXED)
        self._why[members] = reason
        self._parent[members] = FIXED

    def is_fixed(self, ids: Ids) -> npt.NDArray[np.bool_]:
        return self.find(ids) == FIXED

    def reason(self, ids: Ids) -> str | None:
        """Why the first of these that is fixed is so; None: none is."""
        fixed = ids.ravel()[self.is_fixed(ids.ravel())]
        known = self._why[fixed]
        known = known[known >= 0]
        return self._reasons[int(known[0])] if len(known) else None
