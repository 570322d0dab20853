"""How numbers are written for people. Every number that a person reads in a table or a sentence passes here."""

from __future__ import annotations

import math
from collections.abc import Callable

NOTHING = "–"
"""Stands for a figure that is not known."""


def mean_sd(mean: float, sd: float, decimals: int) -> str:
    """`12.34 ± 0.05`; without ± where no standard deviation is known (one run)."""
    if not math.isfinite(mean):
        return NOTHING
    text = f"{mean:.{decimals}f}"
    return f"{text} ± {sd:.{decimals}f}" if math.isfinite(sd) else text


def bounded(value: float, low: float, high: float, write: Callable[[float], str]) -> str:
    """`0.52 [0.50, 0.54]`; without brackets where no bounds are known."""
    if not math.isfinite(value):
        return NOTHING
    return f"{write(value)} [{write(low)}, {write(high)}]" if not math.isnan(low + high) else write(value)


def signed_points(points: float) -> str:
    """`+0.12` or `−1.30`: points of per cent."""
    return signed(points, 2)


def signed(value: float, decimals: int) -> str:
    """With a real minus sign; what rounds to zero has no sign."""
    text = f"{value:+.{decimals}f}".replace("-", "−")
    return text[1:] if float(text[1:]) == 0 else text


def listed(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def plural(count: int, noun: str, nouns: str = "") -> str:
    """`1 run`, `3 runs`, `1,200 images`. `nouns`: the plural, where it has no s at its end."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def told_count(count: object, noun: str) -> str:
    """The same of what a record says, where anything may stand in the place of a number."""
    return plural(count, noun) if isinstance(count, int) else f"{count} {noun}s"


def three_digits(value: float) -> str:
    """Three significant digits without an exponent: `0.0123`, `1.20`, `12.3`, `1,234`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def short(value: float) -> str:
    """Three significant digits, with an exponent below a thousandth: kilowatt-hours of a short command need one."""
    return three_digits(value) if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
