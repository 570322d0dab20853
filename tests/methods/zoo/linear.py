"""Networks of Torch-Pruning's tests that are made of linear layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WideDeep(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in ((width, 32), (32, 16)):
            layers += [nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU(), nn.Dropout(0.2)]
        self.deep = nn.Sequential(*layers, nn.Linear(16, 1))
        self.wide, self.out = nn.Linear(width, 3), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], -1)
        return torch.sigmoid(self.out(torch.concat([self.wide(x), self.deep(x)], dim=-1)))


class Scaled(nn.Module):
    """A layer of one's own: divides by the length of its input, scales, shifts, and has a linear layer inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.scale, self.bias = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.randn(width))
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.div(x, x.pow(2).sum(dim=1, keepdim=True).sqrt())
        return self.fc(x * self.scale + self.bias)


class OwnLayer(nn.Module):
    def __init__(self, width: int = 64, *, unused: bool = False) -> None:
        super().__init__()
        self.first, self.own, self.last = nn.Linear(32, width), Scaled(width), nn.Linear(width, 10)
        if unused:
            self.unused = nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.own(F.relu(self.first(x))))


class Perceptron(nn.Module):
    """Linear layers with a shortcut."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(32, width), nn.Linear(width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return self.c(F.relu(self.b(x)) + x)


class TwoInputs(nn.Module):
    """Two inputs with a layer each; returns both hidden layers and the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(32, 32), nn.Linear(16, 24), nn.Linear(56, 10)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b = F.relu(self.first(x1)), F.relu(self.second(x2))
        return a, b, F.relu(self.last(torch.cat([a, b], dim=1)))


class Reshaped(nn.Module):
    """A linear layer whose output becomes maps of a width that is read from the layer behind it."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 16 * width)
        self.up_1 = nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1)
        self.up_2 = nn.ConvTranspose2d(width // 2, width // 4, 4, stride=2, padding=1)
        self.last = nn.Linear(width // 4 * 256, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.linear(x)).view(-1, self.up_1.in_channels, 4, 4)
        x = F.relu(self.up_2(F.relu(self.up_1(x))))
        return self.last(torch.flatten(x, 1))
