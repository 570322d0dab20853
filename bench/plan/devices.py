"""GPUs that a plan can assume: how fast they train, and what they and the rest of their node draw.

Nothing here is measured by greenprune. Throughput: images of 224 x 224 pixels a second that ResNet-50 trained on, as its
vendor published, in multiply-accumulates (4.09 G an image, three times that for a training step, two operations each). A
training loop that the vendor did not tune reaches a part of that (`REACHED`). Power: a share of the board's limit (`DRAWN`).
The rest of a node (processors, memory, fans, network): a share (`REST`) of what the vendor's machine of eight GPUs may draw at
most beyond its GPUs, for each GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.plan.figures import Bounded

FLOP_PER_MAC_TRAINED = 6  # a multiplication and an addition, forward, and twice that backward
LAYER_S = Bounded(0.15e-3, 0.08e-3, 0.5e-3)
"""To start the kernels of a layer with what belongs to it: forward, backward and optimizer. No GPU is quicker than that."""

RESNET50_MACS = 4.09e9
REACHED = Bounded(0.6, 1.0, 0.3)  # of the published throughput, best case in the middle
DRAWN = Bounded(0.6, 0.25, 1.0)  # of the board's limit
RESTING = 0.2  # of what a board draws in training, by one that a job has and nothing uses: of an A100 about 50 W
REST = Bounded(0.5, 0.25, 1.0)  # of the most that the rest of the node may draw
EXAMPLES = "NVIDIA/DeepLearningExamples, PyTorch/Classification/ConvNets/resnet50v1.5, pytorch-21.03"


@dataclass(frozen=True)
class Gpu:
    """One kind.

    Attributes:
        mixed_flop_per_s, float32_flop_per_s: operations a second in a training step of large layers, in bfloat16 or float16,
            and in float32 as PyTorch does it by default for convolutions; `low` is the quickest.
        board_w: that one draws.
        rest_w: that the rest of the node draws for each.
        scaling: part of eight times the throughput of one that eight reach together on one network.
        source: of these.
    """

    name: str
    mixed_flop_per_s: Bounded
    float32_flop_per_s: Bounded
    board_w: Bounded
    rest_w: Bounded
    scaling: float
    source: str

    def flop_per_s(self, precision: str) -> Bounded:
        return self.float32_flop_per_s if precision == "float32" else self.mixed_flop_per_s

    def together(self, gpus: int) -> float:
        """Part of `gpus` times the throughput of one that they reach; what it is for eight, in proportion for others."""
        return 1.0 if gpus == 1 else max(0.5, 1.0 - (1.0 - self.scaling) * (gpus - 1) / 7)


def published(
    name: str, *, mixed: float, float32: float, limit_w: float, machine_w: float, scaling: float, source: str
) -> Gpu:
    """Of images a second (mixed precision, float32), the board's limit, and the most that a machine of eight draws."""
    flop = FLOP_PER_MAC_TRAINED * RESNET50_MACS
    return Gpu(
        name,
        REACHED.times(mixed * flop),
        REACHED.times(float32 * flop),
        DRAWN.times(limit_w),
        REST.times((machine_w - 8 * limit_w) / 8),
        scaling,
        f"{source}; {limit_w:g} W a board, {machine_w / 1000:g} kW at most for a machine of eight (NVIDIA's data sheets)",
    )


ANY = Gpu(
    "any",
    Bounded(10e12, 30e12, 5e12),
    Bounded(10e12, 30e12, 5e12),
    Bounded(250.0, 100.0, 500.0),
    Bounded(100.0, 25.0, 400.0),
    0.85,
    "no one GPU: 10 TFLOP/s (5 to 30), a fraction of what large ones can do at large layers, and 250 W (100 to 500)",
)

GPUS: Mapping[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        ANY,
        published(
            "v100", mixed=1200, float32=367, limit_w=300, machine_w=3500, scaling=8322 / (8 * 1200),
            source=f"1,200 images/s in mixed precision, 367 in float32, 8,322 on eight ({EXAMPLES}, DGX-1 16 GB)",
        ),
        published(
            "a100", mixed=2470, float32=938, limit_w=400, machine_w=6500, scaling=16621 / (8 * 2470),
            source=f"2,470 images/s in mixed precision, 938 in TF32, 16,621 on eight ({EXAMPLES}, DGX A100 80 GB)",
        ),
        published(
            "h100", mixed=2 * 2470, float32=2 * 938, limit_w=700, machine_w=10200, scaling=16621 / (8 * 2470),
            source=f"twice an A100 (Lambda 2022: about 2 x for vision), which is 2,470 images/s ({EXAMPLES})",
        ),
    )
}  # fmt: skip


def gpu_of(
    name: str, *, watts: float | None = None, tflops: float | None = None, rest_watts: float | None = None
) -> Gpu:
    """The GPU called `name`, with what is known better: of the board, of a training step, and of the rest of the node.

    Raises:
        UserError: there is none of that name, or a figure is not above 0 (of the rest: at least 0).
    """
    if name not in GPUS:
        raise UserError(f"--gpu {name}: is unknown; allowed: {', '.join(GPUS)}{did_you_mean(name, list(GPUS))}")
    for option, value, least in (
        ("gpu-watts", watts, "above 0"),
        ("gpu-tflops", tflops, "above 0"),
        ("node-watts", rest_watts, ""),
    ):
        if value is not None and not (0 < value < 1e6 or (value == 0 and not least)):
            raise UserError(f"--{option} {value:g}: allowed is a number {least or 'at least 0'} and below 1000000")
    gpu = GPUS[name]
    said = []
    if watts is not None:
        gpu = replace(gpu, board_w=Bounded(watts, watts, watts))
        said.append(f"{watts:g} W a board as you say")
    if tflops is not None:
        rate = Bounded(tflops * 1e12, tflops * 1e12, tflops * 1e12)
        gpu = replace(gpu, mixed_flop_per_s=rate, float32_flop_per_s=rate)
        said.append(f"{tflops:g} TFLOP/s as you say")
    if rest_watts is not None:
        gpu = replace(gpu, rest_w=Bounded(rest_watts, rest_watts, rest_watts))
        said.append(f"{rest_watts:g} W for the rest of a node as you say")
    return replace(gpu, source="; ".join([*said, gpu.source])) if said else gpu


def gpu_step_s(
    layers: int, macs: int, batch_size: int, gpu: Gpu = ANY, precision: str = "auto", gpus: int = 1
) -> Bounded:
    """One dense training step, by the assumptions above: of its kernels or its arithmetic, what takes longer.

    Args:
        layers: convolution and linear layers.
        macs: forward multiply-accumulates for one image.
        batch_size: of all GPUs together.
    """
    flop = FLOP_PER_MAC_TRAINED * macs * batch_size / (gpus * gpu.together(gpus))
    rate = gpu.flop_per_s(precision)
    pairs = zip((LAYER_S.value, LAYER_S.low, LAYER_S.high), (rate.value, rate.low, rate.high), strict=True)
    return Bounded(*(max(layers * each_s, flop / per_s) for each_s, per_s in pairs))
