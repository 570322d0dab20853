"""Energy of GPU, CPU and memory over windows of a program. Usable alone: `from bench.energy import EnergyMeter`."""

from bench.energy.meter import EnergyMeter
from bench.energy.reading import Reading, SourceReading

__all__ = ["EnergyMeter", "Reading", "SourceReading"]
