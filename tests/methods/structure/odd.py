"""Networks as users write them, made in a line, and what has to hold of each."""

import torch
from greenprune.methods import ConsensusGating, GatingOptions, ungateable
from greenprune.methods.gating.wiring import unwrap
from greenprune.methods.structure.surgery import evaluate, remove
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn


class Net(nn.Module):
    """A network from its modules and a function of itself and its input."""

    def __init__(self, forward, **modules: nn.Module) -> None:
        super().__init__()
        self._function = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self._function(self, x)


def conv(i: int, o: int, k: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


def normed(i: int, o: int) -> nn.Sequential:
    """A convolution with its norm and ReLU."""
    return nn.Sequential(conv(i, o), nn.BatchNorm2d(o), nn.ReLU())


def head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def exact(model: nn.Module, x: Tensor, seed: int = 0) -> Structure:
    """Asserts for random halves of all units that gates and removal agree; returns the structure."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    model.eval()
    dense = evaluate(model, x)
    gating = ConsensusGating(model, x, keep=1.0, steps=10, options=GatingOptions(streams=True))
    gating.steps_done = 3
    structure = gating.structure
    keep = torch.rand(structure.units, generator=generator) < 0.5
    for group in structure.groups:
        keep[group.start] = True
        keep[group.start + 1 : group.start + 2] = False
    gating.logit_mean.copy_(torch.where(keep, 5.0, -5.0))
    by_gates = evaluate(gating, x)
    unwrap(gating.network)
    removed = evaluate(remove(gating.network, structure, keep), x)
    assert (by_gates - removed).abs().max() <= 1e-5
    assert (removed - dense).abs().max() > 1e-4
    return structure


def reasons(model: nn.Module, x: Tensor) -> dict[str, str]:
    return {e.name: e.reason for e in ungateable(model, x)}


def groups(structure: Structure) -> list[str]:
    return [g.name for g in structure.groups]
