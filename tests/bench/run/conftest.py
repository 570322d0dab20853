"""The stand-in for the NVML library, as in the room of the meter."""

from tests.bench.energy.conftest import gpu_script, standin

__all__ = ["gpu_script", "standin"]
