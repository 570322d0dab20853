"""Apple's processors: named, and not supported.

`powermetrics` needs root and calls its own figures estimates that must not be compared between machines (its manual page);
the library below it (IOReport) is private and undocumented. Neither is a measurement that could carry an uncertainty.
"""

from __future__ import annotations

from greenprune.bench.energy.sensors.place import Found, Place, absent, row

NAME = "apple"
REASON = (
    "Apple silicon is not supported: macOS has no documented energy counter (powermetrics needs root, and its manual calls "
    "its figures estimates); CPU energy is modelled"
)
INTEL_MAC = "Intel Macs are not supported: macOS shows no RAPL; CPU energy is modelled"


def find(place: Place) -> Found:
    """No source, ever; a reason where it is an Apple machine."""
    if place.platform != "darwin":
        return absent(NAME, "measured", "no Apple machine")
    if place.machine != "arm64":
        return Found(unusable=[row(NAME, "measured", INTEL_MAC)])
    return Found(unusable=[row(NAME, "measured", REASON)])
