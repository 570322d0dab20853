"""A stand-in for AMD's module amdsmi, and what is found with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.sources import amd

from tests.bench.energy.sources.trees import place

STEP_UJ = 15.259


class AmdSmiLibraryException(Exception):  # noqa: N818  (amdsmi's own name)
    pass


class AmdSmi:
    """The functions that are used, with cards whose counters the test moves. A value that is an exception is raised."""

    def __init__(self, *cards: dict[str, Any]) -> None:
        self.cards = [dict(card) for card in cards]

    def amdsmi_init(self) -> None:
        pass

    def amdsmi_get_processor_handles(self) -> list[int]:
        return list(range(len(self.cards)))

    def amdsmi_get_gpu_device_bdf(self, handle: int) -> str:
        return self._value(handle, "bdf", f"0000:{handle + 3:02x}:00.0")

    def amdsmi_get_gpu_asic_info(self, handle: int) -> dict[str, Any]:
        return {"market_name": self._value(handle, "name", "AMD Instinct MI210"), "asic_serial": self._serial(handle)}

    def amdsmi_get_gpu_device_uuid(self, handle: int) -> str:
        return self._value(handle, "uuid", f"{handle:02x}ff74a1-0000-1000-80d0-000000000000")

    def amdsmi_get_gpu_enumeration_info(self, handle: int) -> dict[str, Any]:
        return {"hip_id": self._value(handle, "hip_id", handle), "hip_uuid": f"GPU-{self._serial(handle)[2:].lower()}"}

    def amdsmi_get_gpu_kfd_info(self, handle: int) -> dict[str, Any]:
        return {"node_id": self._value(handle, "node_id", handle + 1), "current_partition_id": 0}

    def amdsmi_get_power_cap_info(self, handle: int) -> dict[str, Any]:
        return {"power_cap": 560_000_000}

    def amdsmi_get_energy_count(self, handle: int) -> dict[str, Any]:
        count = self._value(handle, "count", 1000)
        key = self._value(handle, "key", "energy_accumulator")
        return {key: count, "counter_resolution": self._value(handle, "step_uj", STEP_UJ), "timestamp": 0}

    def amdsmi_get_power_info(self, handle: int) -> dict[str, Any]:
        power_w = self._value(handle, "power_w", "N/A")
        return {"current_socket_power": "N/A", "average_socket_power": power_w, "power_limit": 560}

    def use(self, handle: int, energy_j: float) -> None:
        self.cards[handle]["count"] = self.cards[handle].get("count", 1000) + round(energy_j * 1e6 / STEP_UJ)

    def _serial(self, handle: int) -> str:
        return self._value(handle, "serial", f"0x4B2C1A9F8D3E6F7{handle:X}")

    def _value(self, handle: int, key: str, default: Any) -> Any:
        value = self.cards[handle].get(key, default)
        if isinstance(value, Exception):
            raise value
        return value


def meter(device: str | None = None, **rest: Any) -> EnergyMeter:
    return EnergyMeter(device, **({"environ": {"GREENPRUNE_SYSFS": "/nonexistent"}} | rest))


def names(tmp_path: Path, **rest: Any) -> list[str]:
    return [s.name for s in amd.find(place(tmp_path, **rest)).sources]
