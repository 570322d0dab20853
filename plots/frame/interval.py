"""What several seeds say of a mean."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats


def mean_with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and its 95 % interval (Student's t); bounds NaN with one value, all NaN with none."""
    mean = float(values.mean()) if len(values) else math.nan
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half
