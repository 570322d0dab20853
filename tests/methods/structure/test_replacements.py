"""What replaces a module whose branch is removed: it takes what the module took, and others find in it what they found."""

from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods.structure.passes import Seen
from greenprune.methods.structure.retracing import find_constants, retraced
from greenprune.methods.structure.surgery import evaluate, masked, remove
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn

from tests.methods.structure.odd import conv, head

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (conv(8, 8) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.b(F.relu(self.a(x)))
        if mask is not None:
            y = y * mask
        x = x + y
        return x + self.d(F.relu(self.c(x)))


class Handing(nn.Module):
    """Hands its argument on, and asks nothing about it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = Scaled(), conv(8, 8), conv(8, 8), conv(8, 8)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.b(F.relu(self.a(x, mask)))
        return x + self.d(F.relu(self.c(x)))


class Scaled(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(8, 8, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        return y if mask is None else y * mask


class Around(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stem, self.block, self.head = conv(3, 8), block, head(8)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.head(self.block(self.stem(x), mask))


def without(structure: Structure, end: str) -> Tensor:
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[next(b.unit for b in structure.branches if b.end == end)] = False
    return keep


@pytest.mark.parametrize("end", ["block.b", "block.d"])
@pytest.mark.parametrize("block", [Masked, Handing])
def test_an_argument_that_the_example_lacks_still_counts_when_a_branch_is_gone(block: type, end: str) -> None:
    torch.manual_seed(0)
    model, mask = Around(block()).eval(), torch.rand(2, 1, 16, 16)
    structure = trace(model, X)
    keep, inputs = without(structure, end), {"x": X, "mask": mask}
    with masked(model, structure, keep):
        expected = evaluate(model, inputs)
    assert (expected - evaluate(model, inputs)).abs().max() > 1e-3
    small = remove(model, structure, keep)
    torch.testing.assert_close(evaluate(small, inputs), expected)
    assert isinstance(small.block, torch.fx.GraphModule) == (
        block is Handing or end == "block.b"
    )  # no code asks for it


def test_an_argument_of_code_that_cannot_stay_is_checked() -> None:
    torch.manual_seed(0)
    block, x = Masked().eval(), torch.randn(2, 8, 16, 16)
    fixed = find_constants(block, "d", (Seen(0, tuple(x.shape), floating=True),), {})
    assert fixed == {"mask": None}
    small = retraced(block, "d", fixed)
    assert torch.equal(small(x), x + block.b(F.relu(block.a(x))))
    with pytest.raises(AssertionError, match="mask"):
        small(x, mask=torch.ones(2, 1, 1, 1))
    stored = io.BytesIO()
    torch.save(small, stored)
    stored.seek(0)
    assert torch.equal(torch.load(stored, weights_only=False)(x), small(x))


class Whole(nn.Module):
    """Adds its branches itself, and others use more of it than its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c, self.d = conv(3, 8), *(conv(8, 8) for _ in range(4))
        self.head, self.n_classes = head(8), 10

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.b(F.relu(self.a(x)))
        return self.head(x + self.d(F.relu(self.c(x))))

    def predict(self, x: Tensor) -> Tensor:
        return self(x).argmax(1)


def test_a_network_keeps_its_methods_when_it_loses_a_branch_of_its_own() -> None:
    torch.manual_seed(0)
    model = Whole().eval()
    structure = trace(model, X)
    keep = without(structure, "d")
    with masked(model, structure, keep):
        expected = evaluate(model, X)
    small = remove(model, structure, keep)
    torch.testing.assert_close(evaluate(small, X), expected)
    assert torch.equal(small.predict(X), expected.argmax(1))
    assert small.n_classes == 10


class FrozenNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.a, self.b = nn.BatchNorm2d(8), conv(8, 8), conv(8, 8)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.norm(x)
        return x + self.b(F.relu(self.a(x)))

    def train(self, mode: bool = True) -> FrozenNorm:
        super().train(mode)
        self.norm.eval()
        return self


def test_a_block_that_keeps_its_norm_out_of_training_does_so_without_its_branch() -> None:
    torch.manual_seed(0)
    model = Around(FrozenNorm()).eval()
    structure = trace(model, X)
    small = remove(model, structure, without(structure, "block.b")).train()
    small(X)
    assert not small.block.norm.training
    assert not small.block.norm.running_mean.any()
