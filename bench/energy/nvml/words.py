"""Sentences on windows that are too short for a counter."""

from __future__ import annotations

SHORT_PERIODS = 50  # a window of fewer counter periods is flagged: its error is about one period in that many


def still(duration_s: float, period_s: float) -> str:
    """Why a counter that did not move tells nothing."""
    if duration_s < period_s:
        return too_short(duration_s, period_s)
    return f"the energy counter stood still for {duration_s:.1f} s"


def too_short(duration_s: float, stale_s: float) -> str:
    """Why a window shorter than `stale_s` tells nothing."""
    return (
        f"{duration_s * 1e3:.0f} ms is shorter than the {stale_s * 1e3:.0f} ms between two updates of the "
        "energy counter; repeat the work in one window, or align the window"
    )


def short(duration_s: float, stale_s: float, what: str) -> list[str]:
    """A warning for a window of fewer than `SHORT_PERIODS` times `stale_s`."""
    if duration_s >= SHORT_PERIODS * stale_s:
        return []
    return [
        f"{duration_s:.2f} s is only {duration_s / stale_s:.1f} times {what} ({stale_s * 1e3:.0f} ms): expect an error "
        f"of up to {100 * min(1.0, stale_s / duration_s):.0f} %; {SHORT_PERIODS} times are enough"
    ]
