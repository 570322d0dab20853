"""1×1 convolutions with a stride, written without it, because they corrupt memory on some CPUs.

With torch 2.13 and 2.15 on CPUs with AVX-512, three threads or more, a 1×1 convolution of stride 2 or 4 over fewer than
16 input channels in channels_last format damages the heap in forward and backward (float32 and bfloat16; often, not
always, a segmentation fault). Dense networks have wider layers there, but pruning makes them narrow. Taking every
second pixel first and convolving with stride 1 is the same map.
"""

from __future__ import annotations

from torch import Tensor, nn


class Subsample(nn.Module):
    """Every `stride`-th pixel: (B, C, H, W) to (B, C, ceil(H / stride), ceil(W / stride)), a view without a copy."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride]

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


def avoid_cpu_trap(model: nn.Module) -> nn.Module:
    """Give every strided 1×1 convolution inside `model` stride 1 and put a `Subsample` in front; returns `model`.

    In place: the convolutions and their parameters stay the same objects, but such a layer `name` is now `name.1`.
    What the network computes, and its count of multiply-accumulates, do not change.
    """
    replacements: dict[nn.Module, nn.Module] = {}  # a convolution may be used in several places
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and _strided_pointwise(child):
                replacements[child] = nn.Sequential(Subsample(child.stride[0]), child)
                child.stride = (1, 1)
            if child in replacements:
                setattr(parent, name, replacements[child])
    return model


def _strided_pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and conv.padding in ((0, 0), "valid") and conv.stride[0] == conv.stride[1] > 1
