"""What several networks of the list are made of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv(i: int, o: int, k: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


class Head(nn.Module):
    """Two linear layers on the mean over the image."""

    def __init__(self, width: int, classes: int = 10) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width // 2), nn.Linear(width // 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, 1)
        return self.out(self.hidden(x.view(x.size(0), -1)))
