"""Watts of one busy core of a processor, from its name.

The figure is the processor's TDP, from CodeCarbon's table, by its number of cores: what a core draws, with its share of
caches and memory controllers, when all are busy at the base clock.

The lower bound is half of it: integer work, and two threads that share one core. The upper bound is twice the most that
the package may draw at its turbo clocks, by the number of cores: a few busy cores at the turbo clock carry the rest of
the package alone. What a package may draw (`turbo_w`):

- Intel Core of the 10th generation and later, Core Ultra: the makers' "maximum turbo power" is 2 to 4.2 times the base
  power, and 253 W at most (ark.intel.com: i9-13900K 125 W base, 253 W turbo; i7-12700K 125/190; i9-13900 65/219; i9-13900T
  35/106; i7-12700H 45/115; i7-1355U 15/55; Core Ultra 7 155H 28/115).
- older Intel Core: the second power limit is 1.25 times TDP by default, and boards lift it; twice.
- AMD Ryzen: the socket may draw 1.35 times TDP (AM4, AM5: 105 W TDP, 142 W PPT; 170 W, 230 W); laptops' are set by their
  makers up to 2.2 times.
- Xeon: the second power limit is 1.2 times TDP by default. EPYC and Threadripper: configurable up to 1.25 times.

Processors that a cloud has to itself have no published TDP; they have that of the sibling with the same cores that is on
sale. Where the machine is virtual (it then shows some cores of a larger chip, and TDP by cores would be far off), 6 W with
bounds of 2 and 15 W. Server chips lie between 360 W / 96 cores = 3.8 W (EPYC 9654) and 270 W / 40 = 6.8 W (Xeon 8380); a
virtual core is often half a core. A virtual machine on a desktop or laptop (WSL, by the name of the processor) has the
upper bound of what is not known at all: 0.5 W, of the smallest boards, to 40 W, one core of a desktop at its turbo clock.
"""

from __future__ import annotations

import contextlib
import csv
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

import psutil
from greenprune.bench.energy import codecarbon_data
from greenprune.bench.text import plural

DEFAULT_CORE_W, DEFAULT_CORE_LOW_W, DEFAULT_CORE_HIGH_W = 6.0, 2.0, 15.0
UNKNOWN_CORE_LOW_W, UNKNOWN_CORE_HIGH_W = 0.5, 40.0
LOW_FACTOR = 0.5
FEW_CORES_FACTOR = 2.0

_FILLER = {"cpu", "processor", "apu", "core", "genuine", "gen", "soc", "x", "series"}
_COUNTS = "single|dual|two|triple|three|quad|four|six|hexa|eight|octa|twelve|sixteen"

SIBLINGS = {
    "AMD EPYC 7571": "AMD EPYC 7551",
    "AMD EPYC 7R32": "AMD EPYC 7642", "AMD EPYC 7V12": "AMD EPYC 7742", "AMD EPYC 7K62": "AMD EPYC 7642",
    "AMD EPYC 7B13": "AMD EPYC 7763", "AMD EPYC 7V13": "AMD EPYC 7763", "AMD EPYC 7J13": "AMD EPYC 7763",
    "AMD EPYC 7T83": "AMD EPYC 7763", "AMD EPYC 7V73X": "AMD EPYC 7773X", "AMD EPYC 9R14": "AMD EPYC 9654",
    "AMD EPYC 9B14": "AMD EPYC 9654", "AMD EPYC 9V74": "AMD EPYC 9654", "AMD EPYC 9V84": "AMD EPYC 9654",
    "AMD EPYC 9J14": "AMD EPYC 9654", "AMD EPYC 9V33X": "AMD EPYC 9684X", "AMD EPYC 9T24": "AMD EPYC 9654",
    "AMD EPYC 9B45": "AMD EPYC 9755", "AMD EPYC 9V45": "AMD EPYC 9755", "AMD EPYC 9R45": "AMD EPYC 9755",
    "Intel Xeon Platinum 8252C": "Intel Xeon Gold 6246", "Intel Xeon Platinum 8369B": "Intel Xeon Platinum 8358",
    "Intel Xeon Platinum 8473C": "Intel Xeon Platinum 8470", "Intel Xeon Platinum 8475B": "Intel Xeon Platinum 8468",
    "Intel Xeon Platinum 8480C": "Intel Xeon Platinum 8480+",
    "Intel Xeon Platinum 8480CL": "Intel Xeon Platinum 8480+",
    "Intel Xeon Platinum 8481C": "Intel Xeon Platinum 8480+", "Intel Xeon Platinum 8488C": "Intel Xeon Platinum 8468",
    "Intel Xeon Platinum 8490C": "Intel Xeon Platinum 8490H", "Intel Xeon Platinum 8559C": "Intel Xeon Platinum 8558",
    "Intel Xeon Platinum 8573C": "Intel Xeon Platinum 8570",
    "Intel Xeon Platinum 8575C": "Intel Xeon Platinum 8568Y+",
    "Intel Xeon Platinum 8581C": "Intel Xeon Platinum 8592+",
}  # fmt: skip
"""Processors made for one operator, and the one on sale with the same generation and cores, whose TDP they are given."""

PUBLISHED_W = {
    "w9-3495x": 350.0, "w9-3475x": 300.0, "w7-3465x": 300.0, "w7-3455": 270.0, "w7-3445": 270.0, "w5-3435x": 270.0,
    "w5-3425": 270.0, "w7-2495x": 225.0, "w7-2475x": 225.0, "w5-2465x": 200.0, "w5-2455x": 200.0, "w5-2445": 175.0,
    "w3-2435": 165.0, "w3-2425": 130.0, "w3-2423": 120.0,
}  # fmt: skip
"""Base power in W of Xeons for workstations, by their number, which CodeCarbon's table lacks (ark.intel.com)."""

INTEL_SUFFIX_W = {
    "": 65.0, "f": 65.0, "k": 125.0, "kf": 125.0, "ks": 150.0, "t": 35.0, "te": 35.0, "e": 65.0, "h": 45.0, "hk": 45.0,
    "hx": 55.0, "p": 28.0, "u": 15.0, "v": 17.0,
}  # fmt: skip
"""Base power in W that Intel Cores of a suffix mostly have (ark.intel.com, 10th to 14th generation and Core Ultra)."""

CORE_W = {
    "Neoverse-N1": (210 / 80, "Ampere Altra Q80-30: 210 W over 80 cores (Ampere)"),
    "Neoverse-V2": (500 / 144, "NVIDIA Grace: 500 W over 144 cores, memory included (NVIDIA)"),
    "Ampere-1": (350 / 192, "AmpereOne A192: 350 W over 192 cores (Ampere)"),
    "A64FX": (170 / 48, "Fujitsu A64FX: 170 W over 48 cores (Fujitsu)"),
}
"""Watts of a core where Linux names the core and not the chip."""

ARM_PARTS = {
    (0x41, 0xD03): "Cortex-A53", (0x41, 0xD04): "Cortex-A35", (0x41, 0xD05): "Cortex-A55", (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72", (0x41, 0xD09): "Cortex-A73", (0x41, 0xD0A): "Cortex-A75", (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1", (0x41, 0xD0D): "Cortex-A77", (0x41, 0xD40): "Neoverse-V1", (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE", (0x41, 0xD44): "Cortex-X1", (0x41, 0xD49): "Neoverse-N2", (0x41, 0xD4A): "Neoverse-E1",
    (0x41, 0xD4F): "Neoverse-V2", (0x41, 0xD83): "Neoverse-V3AE", (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD8E): "Neoverse-N3", (0x46, 0x001): "A64FX", (0x48, 0xD01): "Kunpeng-920", (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1", (0x61, 0x022): "Apple M1", (0x61, 0x023): "Apple M1", (0x61, 0x024): "Apple M1 Pro",
    (0x61, 0x025): "Apple M1 Pro", (0x61, 0x028): "Apple M1 Max", (0x61, 0x029): "Apple M1 Max",
    (0x61, 0x032): "Apple M2", (0x61, 0x033): "Apple M2", (0x61, 0x034): "Apple M2 Pro", (0x61, 0x035): "Apple M2 Pro",
    (0x61, 0x038): "Apple M2 Max", (0x61, 0x039): "Apple M2 Max",
}  # fmt: skip
"""Implementer and part in /proc/cpuinfo (Arm's and the makers' manuals; `lscpu` has the same table)."""

_VIRTUAL_MAKERS = ("qemu", "kvm", "vmware", "xen", "virtualbox", "innotek", "google", "amazon ec2", "parallels")


@dataclass(frozen=True)
class CorePower:
    """Watts of one busy core, with bounds, and where they come from."""

    power_w: float
    low_w: float
    high_w: float
    origin: str


def core_power(model: str, cores: int, *, virtual: bool, table: Iterable[tuple[str, float]]) -> CorePower:
    """Watts per busy core of a processor with `cores` physical cores in a socket.

    `table`: names of processors and their TDP in W.
    """
    if virtual:
        high_w = UNKNOWN_CORE_HIGH_W if _is_client(model) else DEFAULT_CORE_HIGH_W
        default = (DEFAULT_CORE_W, DEFAULT_CORE_LOW_W, high_w)
        return CorePower(*default, f"a default: {model or 'the processor'} shows a virtual machine only part of itself")
    if model in CORE_W:
        power_w, origin = CORE_W[model]
        return CorePower(power_w, power_w * LOW_FACTOR, power_w * FEW_CORES_FACTOR * turbo_w(model, 1.0), origin)
    table = list(table)
    tdp_w, sibling = find_tdp_w(model, table), None
    if tdp_w is None and (sibling := _sibling(model)) is not None:
        tdp_w = find_tdp_w(sibling, table)
    if tdp_w is None and cores >= 1 and (tdp_w := _published_w(model)) is not None:
        return _by_cores(
            model, tdp_w, cores, f"its maker's figure: {model}, {tdp_w:.0f} W over {plural(cores, 'core')}"
        )
    if tdp_w is None and cores >= 1 and (tdp_w := _usual_w(model)) is not None:
        origin = f"not in CodeCarbon's table: {model}, {tdp_w:.0f} W over {plural(cores, 'core')} as others of its suffix have"
        return _by_cores(model, tdp_w, cores, origin)
    if tdp_w is None or cores < 1:
        unknown = (DEFAULT_CORE_W, UNKNOWN_CORE_LOW_W, UNKNOWN_CORE_HIGH_W)
        return CorePower(*unknown, f"a default: {model or 'the processor'} is not in CodeCarbon's table")
    as_which = f" as its sibling {sibling}" if sibling else ""
    origin = f"CodeCarbon's TDP table: {model},{as_which} {tdp_w:.0f} W over {plural(cores, 'core')}"
    return _by_cores(model, tdp_w, cores, origin)


def turbo_w(model: str, tdp_w: float) -> float:
    """The most that the package may draw for longer than a moment; rules and sources at the top of this file."""
    words = _words(model)
    if "intel" in words and "xeon" in words:
        return 1.2 * tdp_w
    if "intel" in words:
        return max(1.35 * tdp_w, min(4.2 * tdp_w, 253.0)) if _generation(words) >= 10 else 2.0 * tdp_w
    if "ryzen" in words and "threadripper" not in words:
        return 1.35 * tdp_w if tdp_w >= 65 else 2.2 * tdp_w
    return 1.25 * tdp_w


def find_tdp_w(model: str, table: Iterable[tuple[str, float]]) -> float | None:
    """TDP of the processor whose name has the same words as `model`; None when none has, or when they disagree."""
    wanted = _words(model)
    if not any(any(letter.isdigit() for letter in word) for word in wanted):
        return None  # "AMD EPYC", "Intel Xeon Processor": a family
    found = {tdp_w for name, tdp_w in table if _words(name) == wanted}
    return found.pop() if len(found) == 1 else None


def codecarbon_tdp_table() -> list[tuple[str, float]]:
    """CodeCarbon's list of processors with their TDP in W.

    Entries without a believable number are left out (version 3.3.2 has one of "27.29.5").
    """
    table = []
    with codecarbon_data.path_of(codecarbon_data.PROCESSORS).open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            with contextlib.suppress(TypeError, ValueError):
                table.append((str(row["Name"]), float(row["TDP"])))
    return [(name, tdp_w) for name, tdp_w in table if 0 < tdp_w <= 1000]


def cpu_model(info: str | None = None) -> tuple[str, bool, int]:
    """Name of the processor, whether this is a virtual machine, and the number of sockets.

    `info`: what /proc/cpuinfo holds, for tests; by default it is read.
    """
    if info is None:
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
                info = f.read()
        except OSError:
            return _name_without_proc(), False, 1
        virtual = _virtual_maker()
    else:
        virtual = False
    flags = re.search(r"^flags\s*:\s*(.*)$", info, re.MULTILINE)
    sockets = len(set(re.findall(r"^physical id\s*:\s*(\d+)$", info, re.MULTILINE))) or 1
    return _name(info), virtual or bool(flags and "hypervisor" in flags.group(1).split()), sockets


def this_core_power() -> CorePower:
    """Watts per busy core of this machine."""
    model, virtual, sockets = cpu_model()
    cores = (psutil.cpu_count(logical=False) or os.cpu_count() or 1) // sockets
    return core_power(model, cores, virtual=virtual, table=[] if virtual else codecarbon_tdp_table())


def _name(info: str) -> str:
    name = re.search(r"^model name\s*:\s*(.*)$", info, re.MULTILINE)
    if name and not name.group(1).startswith("ARMv"):
        return name.group(1).strip()
    # Arm names its cores by number; of a chip with several kinds the last listed are the large ones.
    implementers = re.findall(r"^CPU implementer\s*:\s*(0x[0-9a-fA-F]+)$", info, re.MULTILINE)
    parts = re.findall(r"^CPU part\s*:\s*(0x[0-9a-fA-F]+)$", info, re.MULTILINE)
    if implementers and parts:
        key = int(implementers[-1], 16), int(parts[-1], 16)
        return ARM_PARTS.get(key, f"Arm implementer {implementers[-1]} part {parts[-1]}")
    name = name or re.search(r"^cpu\s*:\s*(.*)$", info, re.MULTILINE)  # POWER
    return name.group(1).strip() if name else ""


def _name_without_proc() -> str:
    if platform.system() == "Darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    return platform.processor()


def _virtual_maker() -> bool:
    """By what the firmware says; Arm has no flag for it. Rented whole machines of Amazon are called "....metal"."""
    told = []
    for name in ("sys_vendor", "product_name"):
        with (
            contextlib.suppress(OSError),
            open(f"/sys/class/dmi/id/{name}", encoding="utf-8", errors="replace") as file,
        ):
            told.append(file.read().strip().lower())
    text = " ".join(told)
    return ".metal" not in text and any(maker in text for maker in _VIRTUAL_MAKERS)


def _by_cores(model: str, tdp_w: float, cores: int, origin: str) -> CorePower:
    power_w, most_w = tdp_w / cores, turbo_w(model, tdp_w) / cores
    return CorePower(power_w, power_w * LOW_FACTOR, most_w * FEW_CORES_FACTOR, origin)


def _published_w(model: str) -> float | None:
    return next((PUBLISHED_W[word] for word in _words(model) if word in PUBLISHED_W), None)


def _is_client(model: str) -> bool:
    """Whether it is a processor of desktops and laptops, of which a virtual machine is mostly shown all."""
    words = _words(model)
    return not words & {"xeon", "epyc"} and (
        bool(words & {"ryzen", "threadripper", "athlon", "pentium", "celeron"}) or _generation(words) > 0
    )


def _usual_w(model: str) -> float | None:
    """Base power of an Intel Core of the 10th generation or later by its suffix; None for any other processor."""
    words = _words(model)
    if "intel" not in words or _generation(words) < 10:
        return None
    for word in words:
        number = re.fullmatch(r"1\d{4}([a-z]*)|1\d{3}([pu])|\d{3}([a-z]+)", word)
        if number:
            suffix = next((found for found in number.groups() if found is not None), "")
            return INTEL_SUFFIX_W.get(suffix)
    return None


def _sibling(model: str) -> str | None:
    words = _words(model)
    return next((sibling for own, sibling in SIBLINGS.items() if _words(own) == words), None)


def _generation(words: frozenset[str]) -> int:
    """Of an Intel Core; Core Ultra and chips named without a generation (N100) count as late, unknown ones as 0."""
    if "ultra" in words or any(re.fullmatch(r"n\d{2,3}|[3579]|\d{3}[uh]", word) for word in words):
        return 14
    for word in words:
        number = re.fullmatch(r"(\d{4,5})([a-z]\w*)?", word)
        if number:
            digits = number.group(1)
            # 8700K is of the 8th, 12700K of the 12th; 1185G7 and 1065G7, of four digits, are of the 11th and 10th.
            return int(digits[:2]) if len(digits) == 5 or digits[0] == "1" else int(digits[0])
    return 0


def _words(model: str) -> frozenset[str]:
    """`12th Gen Intel(R) Core(TM) i7-12700K`, `Intel(R) Core(TM) i7-12700K CPU @ 3.60GHz`, `Intel Core i7-12700K`: the same.

    What says nothing of which processor it is goes: trade marks, generations in front, numbers of cores, clocks, and
    the graphics on the same chip.
    """
    text = re.sub(r"\((?:r|tm|c)\)-", " ", model.lower().replace("®", " ").replace("™", " "))
    text = re.sub(r"\((?:r|tm|c)\)|@.*|\b\d+(?:st|nd|rd|th) gen\b", " ", text)
    text = re.sub(r"\s(?:with|w/)\s*radeon.*|\bradeon\b.*", " ", text)
    text = re.sub(rf"\b(?:\d+|{_COUNTS})[- ](?:compute )?cores?\b.*", " ", text)
    text = re.sub(r"\b(i[3579]|fx)-", r"\1 ", text)
    text = re.sub(r"\b(e[357]-\w+) 0\b", r"\1", text)  # of the first generation of these, whose version is told as 0
    return frozenset(text.replace(",", " ").split()) - _FILLER
