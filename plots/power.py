"""Power over time, as it lies beside a record.

`power.parquet` has one row for each sample: time_s (from the start of the training), source ("nvml:0", "cpu"), kind (of
energy), power_w (watts, held until the source's next sample) and phase (the method's name for what it was doing).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

POWER_FILE = "power.parquet"
POWER_COLUMNS = ("time_s", "source", "kind", "power_w", "phase")


def read_power(place: Path) -> pd.DataFrame | None:
    """The samples beside the record in the folder `place`, in the order of time.

    None where there are none or where they cannot be read: a picture that is missing shall not cost the report.
    """
    path = place / POWER_FILE
    if not path.is_file():
        return None
    try:
        samples = pd.read_parquet(path, columns=list(POWER_COLUMNS))
        samples = samples.astype({"time_s": float, "power_w": float, "source": str, "kind": str, "phase": str})
    except (OSError, ValueError, KeyError, TypeError):  # pyarrow's own errors are ValueErrors, KeyErrors or OSErrors
        return None
    return samples.sort_values("time_s", kind="stable").reset_index(drop=True) if len(samples) else None


def stretches(samples: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Each phase with its beginning and end in seconds, in the order of time. Each ends where the next one begins."""
    changed = samples["phase"] != samples["phase"].shift()
    begins_s = list(samples["time_s"][changed])
    ends_s = [*begins_s[1:], float(samples["time_s"].iloc[-1])]
    return list(zip(samples["phase"][changed], begins_s, ends_s, strict=True))


def thinned(samples: pd.DataFrame, points: int) -> pd.DataFrame:
    """At most about `points` rows of one source: the mean power of equally long stretches, so that no joule is lost."""
    if len(samples) <= points:
        return samples
    first_s, last_s = samples["time_s"].iloc[0], samples["time_s"].iloc[-1]
    width_s = (last_s - first_s) / points or 1.0
    bins = ((samples["time_s"] - first_s) / width_s).astype(int).clip(upper=points - 1)
    return samples.groupby(bins)[["time_s", "power_w"]].mean().reset_index(drop=True)
