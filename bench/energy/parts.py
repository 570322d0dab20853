"""Which part of the machine a source of energy covers, by its name, and which sources may be added up.

One rule, in one place: what covers the whole machine is shown apart and enters no sum, because it contains the parts; so does
what its power meters tell of a part, which others count too. Parts of one kind add up. Kinds never do.
"""

from __future__ import annotations

from typing import Literal

Part = Literal["gpu", "cpu", "ram", "machine"]

MACHINE = "machine:"
"""Begins the name of every source that covers the whole machine, such as "machine:power_meter" or "machine:psys", and of every
power meter of a part of it, such as "machine:module-0"."""

JETSON = "jetson:"
"""Begins the name of a rail of a Jetson module; the rest is the rail's own name."""

NODE = "@"
"""Before the name of the node, where several nodes worked together: "nvml:0@node07"."""

_GPU = ("nvml", "amd", "intel-gpu")


def part_of(source: str) -> Part:
    """The part of the machine that the source called `source` covers.

    What is neither GPU nor memory counts as CPU: CodeCarbon's reports know three parts. A rail that feeds CPU and GPU alike
    counts as the GPU's.
    """
    source = source.partition(NODE)[0]
    if source.startswith(MACHINE):
        return "machine"
    if source.startswith(_GPU) or (source.startswith(JETSON) and "GPU" in source):
        return "gpu"
    if source == "ram" or source.startswith("rapl:dram") or (source.startswith(JETSON) and "DD" in _rail(source)):
        return "ram"
    return "cpu"


def on_node(source: str, node: str) -> str:
    """The name of a source of a node; "": there is one node alone."""
    return f"{source}{NODE}{node}" if node else source


def adds_up(source: str) -> bool:
    """Whether a source's joules may be added to those of the others of its kind."""
    return part_of(source) != "machine"


def measures_cpu(source: str) -> bool:
    """Whether a source is a sensor of the CPU's cores, so that they need no model."""
    return source.startswith("rapl:package") or (source.startswith(JETSON) and "CPU" in source)


def measures_memory(source: str) -> bool:
    """Whether a source is a sensor of the memory, so that it needs no model."""
    return source.startswith("rapl:dram") or (source.startswith(JETSON) and part_of(source) == "ram")


def _rail(source: str) -> str:
    """The rail's name without the "VDD" that most of them begin with; what is left of a memory's rail has a "DD"."""
    return source.removeprefix(JETSON).removeprefix("VDD").replace("VDD2", "DDR")
