"""Power over time, as it lies beside a record.

`power.parquet` has rows of each source: time_s (from the beginning of the run), source ("nvml:0", "cpu"), kind (of energy),
power_w (mean watts from the source's row before to time_s; null: nobody looked) and phase (what was going on; "" between).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

POWER_FILE = "power.parquet"
POWER_COLUMNS = ("time_s", "source", "kind", "power_w", "phase")
AFTER_TRAINING = ("evaluation", "inference")
"""Phases with which the training is over."""


def read_power(place: Path) -> pd.DataFrame | None:
    """The rows of the training beside the record in the folder `place`, in the order of time.

    None where there are none or where they cannot be read: a picture that is missing shall not cost the report.
    """
    path = place / POWER_FILE
    if not path.is_file():
        return None
    try:
        rows = pd.read_parquet(path, columns=list(POWER_COLUMNS))
        rows = rows.astype({"time_s": float, "power_w": float, "source": str, "kind": str, "phase": str})
    except (OSError, ValueError, KeyError, TypeError):  # pyarrow's own errors are ValueErrors, KeyErrors or OSErrors
        return None
    rows = rows.sort_values("time_s", kind="stable")
    after = rows["time_s"][rows["phase"].str.startswith(AFTER_TRAINING)]
    if len(after):
        rows = rows[rows["time_s"] < after.min()]
    named = rows["time_s"][rows["phase"] != ""]
    if not len(named):
        return None
    return rows[(rows["time_s"] >= named.min()) & (rows["time_s"] <= named.max())].reset_index(drop=True)


def stretches(rows: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Each phase with its beginning and end in seconds, in the order of time; by the source that has most rows."""
    busiest = rows["source"].value_counts().index[0]
    one = rows[rows["source"] == busiest]
    begins_s = one["time_s"].shift(fill_value=one["time_s"].iloc[0])  # a row begins where the one before it ends
    number = (one["phase"] != one["phase"].shift()).cumsum()
    found = [
        (str(one["phase"][index].iloc[0]), float(begins_s[index].iloc[0]), float(one["time_s"][index].iloc[-1]))
        for index in (part.index for _, part in one.groupby(number, sort=True))
    ]
    return [stretch for stretch in found if stretch[0]]


def thinned(rows: pd.DataFrame, points: int) -> pd.DataFrame:
    """At most about `points` rows of one source: neighbours become one with the same joules; a gap stays a gap."""
    each = -(-len(rows) // points)
    if each <= 1:
        return rows[["time_s", "power_w"]].reset_index(drop=True)
    steps_s = rows["time_s"].diff().fillna(0.0)
    bins = [i // each for i in range(len(rows))]
    joined = pd.DataFrame({"time_s": rows["time_s"], "energy_j": rows["power_w"] * steps_s, "step_s": steps_s})
    groups = joined.groupby(bins)
    power_w = groups["energy_j"].sum(min_count=1) / groups["step_s"].sum()
    power_w = power_w.where(rows["power_w"].notna().groupby(bins).all())
    return pd.DataFrame({"time_s": groups["time_s"].last(), "power_w": power_w}).reset_index(drop=True)
