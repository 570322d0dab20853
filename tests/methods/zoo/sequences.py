"""Recurrent layers, adapters, outputs in a dict."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.methods.zoo.parts import conv


class Recurrent(nn.Module):
    """A linear layer, a recurrent one, and a head on the last step."""

    def __init__(self, kind: type[nn.Module], width: int = 32) -> None:
        super().__init__()
        self.into, self.rnn = nn.Linear(16, width), kind(width, width, batch_first=True)
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.rnn(torch.relu(self.into(x)))
        return self.out(torch.relu(self.hidden(x[:, -1])))


class DictOutput(nn.Module):
    """Logits and features, by name."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.a, self.b, self.head = conv(3, width), conv(width, 2 * width), nn.Linear(2 * width, 10)
        self.norm_a, self.norm_b = nn.BatchNorm2d(width), nn.BatchNorm2d(2 * width)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.norm_b(self.b(torch.relu(self.norm_a(self.a(x))))))
        features = x.mean((2, 3))
        return {"features": features, "logits": self.head(features)}


class Adapted(nn.Module):
    """A frozen linear layer with a trained product of two thin ones beside it."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x)) * 2.0


def adapt(network: nn.Module, names: tuple[str, ...] = ("q_proj", "v_proj")) -> nn.Module:
    """Put adapters on all linear layers of these names."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if name in names and isinstance(child, nn.Linear):
                setattr(module, name, Adapted(child))
    return network
