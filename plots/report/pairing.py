"""Which run of each side is compared, where a folder holds the same run of several machines."""

from __future__ import annotations

import pandas as pd


def of_one_machine(ours: pd.DataFrame, theirs: pd.DataFrame, identity: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each run of either side once: of a machine that both sides have it of, where there is one.

    Args:
        ours, theirs: a row for each run, with the columns of `identity`, `machine` and `valid`.
        identity: columns by which runs belong together.
    """
    there = set(_rows(theirs, identity))
    both = pd.Series([row in there for row in _rows(ours, identity)], index=ours.index, dtype=bool)
    common = both.groupby(ours["machine"]).transform("sum")  # where both have several, the one with most runs
    ours = _last(ours.assign(_both=both, _common=common), ["valid", "_both", "_common"], identity)
    chosen = set(_rows(ours, identity))
    same = [row in chosen for row in _rows(theirs, identity)]
    return ours, _last(theirs.assign(_same=same), ["_same"], identity)


def _rows(runs: pd.DataFrame, identity: list[str]) -> list[tuple[object, ...]]:
    return list(runs[[*identity, "machine"]].itertuples(index=False, name=None))


def _last(runs: pd.DataFrame, by: list[str], identity: list[str]) -> pd.DataFrame:
    """The best of each run by these columns, which are then taken away again where they are ours."""
    kept = runs.sort_values(by, kind="stable").drop_duplicates(identity, keep="last").sort_index()
    return kept.drop(columns=[name for name in by if name.startswith("_")])
