"""Energy of GPU, CPU and memory over windows of a program. Usable alone: `from greenprune.bench.energy import EnergyMeter`."""

from greenprune.bench.energy.meter import EnergyMeter
from greenprune.bench.energy.reading import Reading, SourceReading

__all__ = ["EnergyMeter", "Reading", "SourceReading"]
