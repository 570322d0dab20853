"""Which of several energy counters are one and the same.

AMD processors of several dies show a RAPL counter for each die, and every one of them is that of the whole socket. Added up
they count the socket several times. Two counters of one thing are equal bit for bit whenever they are read, those of two
things never are: after two equal looks with a movement in between nothing is left to chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

ENOUGH_LOOKS = 3  # equal ones, at different values
FAR_UJ = 1_000_000  # counters that moved so far between two equal looks need no third one
APART_UJ = 100_000_000  # counters that differ by more are two: no socket uses as much between two updates
SAME_RATE = 0.002  # of the movement, by which the difference of two counters that are updated in turn may vary
RATE_LOOKS = 6


@dataclass
class _Pair:
    equal_looks: int = 0
    first_equal_uj: int = 0
    last_equal_uj: int = 0
    close_looks: int = 0
    first_uj: int = 0
    least_uj: int = 0  # of the difference
    most_uj: int = 0
    verdict: bool | None = None  # True: mirrors


class Mirrors:
    """Watches the counters of one socket."""

    def __init__(self, ranges_uj: Sequence[int]) -> None:
        """`ranges_uj`: after which each counter begins at 0 again. Counters of unlike ranges are two."""
        self._ranges_uj = ranges_uj
        self._pairs = {pair: _Pair() for pair in itertools.combinations(range(len(ranges_uj)), 2)}
        for (i, j), pair in self._pairs.items():
            if ranges_uj[i] != ranges_uj[j]:
                pair.verdict = False

    @property
    def settled(self) -> bool:
        """Whether every pair is known."""
        return all(pair.verdict is not None for pair in self._pairs.values())

    def look(self, first_uj: Sequence[int], second_uj: Sequence[int]) -> None:
        """All counters were read one after the other, and then once more: mirrors lie between one another's values."""
        for (i, j), pair in self._pairs.items():
            if pair.verdict is None:
                self._compare(
                    pair,
                    self._ranges_uj[i],
                    (first_uj[i], second_uj[i]),
                    (first_uj[j], second_uj[j]),
                )

    def groups(self, *, suspected: bool = False) -> list[list[int]]:
        """The counters by what they count. `suspected`: together with those that have never been seen to differ."""
        groups: list[list[int]] = []
        for i in range(len(self._ranges_uj)):
            own = next((group for group in groups if self._one(group[0], i, suspected)), None)
            if own is None:
                groups.append([i])
            else:
                own.append(i)
        return groups

    def _one(self, i: int, j: int, suspected: bool) -> bool:
        pair = self._pairs[(i, j)]
        return pair.verdict is True or (
            suspected and pair.verdict is None and pair.equal_looks > 0 and pair.least_uj == pair.most_uj == 0
        )

    def _compare(self, pair: _Pair, range_uj: int, a: tuple[int, int], b: tuple[int, int]) -> None:
        # What the counter may have moved on between the two reads of `a` is no difference.
        ahead_uj, moved_uj = (b[0] - a[0]) % range_uj, (a[1] - a[0]) % range_uj
        difference_uj = 0 if ahead_uj <= moved_uj else min(ahead_uj, range_uj - ahead_uj)
        if difference_uj > APART_UJ:
            pair.verdict = False
            return
        signed_uj = difference_uj if ahead_uj <= range_uj // 2 else -difference_uj
        if pair.close_looks == 0:
            pair.first_uj = a[0]
        pair.close_looks += 1
        pair.least_uj, pair.most_uj = min(pair.least_uj, signed_uj), max(pair.most_uj, signed_uj)
        if a[0] == b[0] and (pair.equal_looks == 0 or a[0] != pair.last_equal_uj):
            if pair.equal_looks == 0:
                pair.first_equal_uj = a[0]
            pair.equal_looks += 1
            pair.last_equal_uj = a[0]
        far = (pair.last_equal_uj - pair.first_equal_uj) % range_uj >= FAR_UJ
        if pair.equal_looks >= ENOUGH_LOOKS or (pair.equal_looks >= 2 and far):
            pair.verdict = True
            return
        # Mirrors that are updated in turn are hardly ever equal, but never drift apart.
        moved_uj = (a[0] - pair.first_uj) % range_uj
        spread_uj = pair.most_uj - pair.least_uj
        if pair.close_looks >= RATE_LOOKS and moved_uj >= FAR_UJ and 0 < spread_uj <= SAME_RATE * moved_uj:
            pair.verdict = True
