"""What the meters are compared on: a row of the table each."""

from __future__ import annotations

from dataclasses import dataclass, field

NO_COUNTER: dict[str, object] = {"ERRORS": "nvmlDeviceGetTotalEnergyConsumption@0-1e9=3", "ARCH": 4}
SECOND = "GPU-a0000001-1111-2222-3333-444444444441"  # UUID of the stand-in's second device, see nvml.c
_QUERIES = ("GetTotalEnergyConsumption", "GetFieldValues", "GetPowerUsage")
LOST = ";".join(
    f"nvmlDevice{name}@0-1e9=15" for name in ("GetHandleByIndex_v2", "GetHandleByUUID", "GetUUID", *_QUERIES)
)
UNSUPPORTED = ";".join(f"nvmlDevice{name}@0-1e9=3" for name in _QUERIES)
MIRRORED = ("package-0-die-0", "package-0-die-1", "package-0-die-2", "package-0-die-3")
DIES = ("package-0-die-0", "package-0-die-1")


@dataclass(frozen=True)
class Case:
    """A row of the table: the stand-in's settings, and windows in which nothing but time passes."""

    name: str
    settings: dict[str, object]
    window_s: float
    windows: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    low_w: float = 300.0  # of the cards that should be counted: constant, or a square wave
    high_w: float = 300.0
    period_s: float = 1.0
    reset_after_s: float | None = None  # from the start of the window
    meanwhile: dict[str, str] = field(default_factory=dict)
    """Settings of the stand-in from when the tool is ready; {now} is its clock then, {in_1_s} a second later."""
    rapl: tuple[str, ...] = ()
    """Counters of a processor in place of a GPU: each counts `low_w`, but for mirrors, which have the same name before
    their last number. The true joules are those of `low_w` alone."""
    range_uj: int = 65_532_610_987
    stopped_s: float = 0.0  # for how long the tool and all its processes are stopped in each window, as by Ctrl-Z


CASES = (
    Case("constant 300 W for 3 s, sampled power", {"TRACE": 300, **NO_COUNTER}, 3.0, windows=2),
    Case(
        "square wave 100/300 W for 3 s, sampled power",
        {"TRACE": "square:100,300,0.6", **NO_COUNTER},
        3.0,
        windows=2,
        low_w=100.0,
        period_s=0.6,
    ),
    Case("counter reset inside a window of 1.33 s", {"TRACE": 300}, 1.33, reset_after_s=0.7),
    Case("windows of 20 ms on a 100 ms counter", {"TRACE": 300}, 0.02, windows=50),
    Case("windows of 0.25 s on a 100 ms counter", {"TRACE": 300}, 0.25, windows=12),
    # 5.03 and not 5: a window of a whole number of periods is right by chance, whatever the tool does.
    Case("windows of 5.03 s on a 100 ms counter", {"TRACE": 300}, 5.03, windows=4),
    Case(
        "CUDA_VISIBLE_DEVICES=GPU-<uuid> of the second of two",
        {"TRACE_0": 100, "TRACE_1": 300, "DEVICES": 2},
        2.0,
        environment={"CUDA_VISIBLE_DEVICES": SECOND},
    ),
    Case(
        'CUDA_VISIBLE_DEVICES="": the GPU is hidden',
        {"TRACE": 300},
        2.0,
        environment={"CUDA_VISIBLE_DEVICES": ""},
        low_w=0.0,
        high_w=0.0,
    ),
    Case(
        "the counter's period becomes 1 s instead of 0.1 s",
        {"TRACE": 300},
        3.3,
        windows=4,
        meanwhile={"PERIOD_MS": "100,{now}:1000"},
    ),
    Case(
        "the counter's updates become irregular, 20 to 780 ms apart",
        {"TRACE": 300},
        3.3,
        windows=4,
        meanwhile={"PERIOD_MS": "100,{now}:400", "JITTER": "0.95"},
    ),
    Case("the counter stands still after 1 s of 3", {"TRACE": 300}, 3.0, meanwhile={"FREEZE_AT": "{in_1_s}"}),
    Case("one of two GPUs is lost; joules of the healthy one", {"TRACE": 300, "DEVICES": 2, "ERRORS_0": LOST}, 2.03),
    Case(
        "one of two GPUs is lost; CUDA_VISIBLE_DEVICES names the other",
        {"TRACE": 300, "DEVICES": 2, "ERRORS_0": LOST},
        2.03,
        environment={"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    ),
    Case(
        "one of two GPUs supports neither counter nor power",
        {"TRACE": 300, "DEVICES": 2, "ERRORS_0": UNSUPPORTED},
        2.03,
    ),
    Case(
        "GH200: the counter is the module's, 300 W",
        {"TRACE": 200, "MODULE_W": 100, "SCOPES": 1, "NAME": "NVIDIA GH200 480GB"},
        2.03,
        windows=2,
    ),
    Case("RAPL: four dies mirror the socket's 40 W", {}, 2.0, low_w=40.0, high_w=40.0, rapl=MIRRORED),
    Case("RAPL: two dies of 40 W each that are not mirrors", {}, 2.0, low_w=80.0, high_w=80.0, rapl=DIES),
    Case(
        "RAPL: stopped for 3 s while a small counter goes round",
        {},
        4.0,
        low_w=400.0,
        high_w=400.0,
        rapl=("package-0",),
        range_uj=999_000_000,
        stopped_s=3.0,
    ),
)
