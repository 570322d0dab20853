"""Small networks and data that the tests of `methods` share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from greenprune.bench.models import build
from torch import Tensor, nn


def network(name: str = "resnet20", classes: int = 10, seed: int = 0) -> nn.Module:
    """A network whose batch norms do something: statistics and affine parameters away from 0 and 1."""
    model = build(name, classes, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.5, 1.5, generator=generator)
                m.bias.uniform_(-0.5, 0.5, generator=generator)
                m.running_mean.uniform_(-0.5, 0.5, generator=generator)
                m.running_var.uniform_(0.5, 2.0, generator=generator)
    return model


def calibrated(name: str, seed: int = 0, size: int = 32) -> tuple[nn.Module, Tensor]:
    """A network in eval mode whose norms and layer scales do something, with logits of ordinary size, and two images.

    Its batch norms know the statistics of a batch that the images come from, up to a random error.
    """
    model, generator = build(name, 10, seed=seed), torch.Generator().manual_seed(seed)
    x = images(16, size, seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for parameter in model.parameters():  # scales, shifts, layer scales: whatever starts at one value
            if (parameter == parameter.flatten()[0]).all():
                start = float(parameter.flatten()[0])
                uniform(parameter, *((0.6, 1.4) if start == 1.0 else (-0.3, 0.3)))
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        model.eval()  # no dropout, no stochastic depth
        for m in norms:
            m.train().momentum = 1.0
        model(x)
        for m in norms:
            m.momentum = 0.1
            m.running_mean += 0.2 * torch.randn(m.running_mean.shape, generator=generator) * m.running_var.sqrt()
            m.running_var *= torch.rand(m.running_var.shape, generator=generator) * 0.6 + 0.7
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        size_of_logits = model.eval()(x[:2]).abs().max()
        last.weight *= 5.0 / size_of_logits
        last.bias *= 5.0 / size_of_logits
    return model, x[:2]


def images(count: int = 4, size: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def batches(steps: int, batch: int = 8, size: int = 16, seed: int = 2) -> list[tuple[Tensor, Tensor]]:
    """A learnable toy task: the label is the brightest of ten vertical stripes."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for _ in range(steps):
        y = torch.randint(10, (batch,), generator=generator)
        x = 0.5 * torch.randn(batch, 3, size, size, generator=generator)
        x += (torch.arange(size) * 10 // size == y[:, None]).float()[:, None, None, :]
        result.append((x, y))
    return result


class PlainConvs(nn.Module):
    """No batch norm, no residual branch: masks must go to the convolutions themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.last = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.last(x.mean((2, 3)))


class OneLinear(nn.Module):
    """Nothing to prune."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.mean((2, 3)))


class _Block(nn.Module):
    """Its shortcut is registered first and executed last: stored optimizer states go by the order of registration."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.shortcut(x) + y)


class SmallResidual(nn.Module):
    """Quick to train: four residual blocks (removable layers) and two plain convolutions (one feeds gated channels on)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(_Block(12, 12, 1), _Block(12, 12, 1), _Block(12, 24, 2), _Block(24, 24, 1))
        self.last = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.stem(x)).mean((2, 3)))
