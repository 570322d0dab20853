"""What people do with a network while it is searched: other precisions, copies, averages, optimizers, checkpointing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating, GatingOptions
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from tests.methods.traces import trace

X, Y = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 4, 0])


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.na = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.b, self.nb = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.nb(self.b(F.relu(self.na(self.a(x))))))


class Small(nn.Module):
    """A stem without a norm, two residual blocks, a linear layer; `run` calls each block."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor] = lambda block, x: block(x)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.ModuleList([Block(16), Block(16)])
        self.head = nn.Linear(16, 5)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = self.run(block, x)
        return self.head(x.mean((2, 3)))


def build(model: nn.Module | None = None, x: Any = X, steps: int = 16, **more: Any) -> ConsensusGating:
    torch.manual_seed(0)
    model = Small() if model is None else model
    return ConsensusGating(model, x, keep=0.6, steps=steps, tolerance=0.2, options=GatingOptions(**more))


def step(gating: ConsensusGating, optimizer: Any, x: Any = X, *, dtype: torch.dtype = torch.float32) -> bool:
    x = x.to(dtype) if x.is_floating_point() else x
    loss = F.cross_entropy(gating(x).float(), Y[: len(x)]) + gating.penalty()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return gating.step(optimizer)


def search(gating: ConsensusGating, make: Callable[..., Any], **more: Any) -> Any:
    optimizer = make(gating.parameters())
    while gating.searching:
        step(gating, optimizer, **more)
    return optimizer


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("execution", ["majority", "per_sample"])
def test_half_precision(dtype: torch.dtype, execution: str) -> None:
    gating = build(Small().to(dtype), X.to(dtype), execution=execution)
    assert {p.dtype for head in gating.heads() for p in head.parameters()} == {torch.float32}
    search(gating, sgd, dtype=dtype)
    small = gating.finish()
    assert {p.dtype for p in small.parameters()} == {dtype}
    assert gating.masked_max_abs_diff is not None
    assert gating.masked_max_abs_diff < 1e-4


def test_brought_to_half_precision_later() -> None:
    gating = build().bfloat16()
    assert gating.logit_mean.dtype == torch.float32
    search(gating, sgd, dtype=torch.bfloat16)
    assert next(gating.finish().parameters()).dtype == torch.bfloat16


def test_a_copy_in_the_middle_goes_on_alike() -> None:
    gating = build(steps=40)
    optimizer = sgd(gating.parameters())
    for _ in range(5):
        step(gating, optimizer)
    loss = F.cross_entropy(gating(X), Y) + gating.penalty()  # a graph is open
    other = copy.deepcopy(gating)
    del loss
    its_own = sgd(other.parameters())
    its_own.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(11):
        step(gating, optimizer)
        step(other, its_own)
    a, b = gating.finish().state_dict(), other.finish().state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(copy.deepcopy(gating).eval()(X), gating.eval()(X))


def test_a_moving_average_is_shrunk_alike() -> None:
    gating = build(steps=48, settled=0.45, patience_share=0.01)
    averaged = AveragedModel(gating)
    optimizer = sgd(gating.parameters())
    for _ in range(20):
        if step(gating, optimizer):
            gating.shrink_copy(averaged)
        averaged.update_parameters(gating)
    small, mean = gating.finish(), averaged.module.finish()
    assert {n: p.shape for n, p in small.named_parameters()} == {n: p.shape for n, p in mean.named_parameters()}
    assert not torch.equal(small.head.weight, mean.head.weight)
    assert averaged.eval()(X).shape == (6, 5)
    with pytest.raises(ValueError, match="expected a deep copy of this gating"):
        gating.shrink_copy(nn.Linear(2, 2))


class Factored(torch.optim.Optimizer):
    """Keeps means of squares over rows and over columns, by those names, as one Adafactor does; and something odd."""

    def __init__(self, parameters: Any, *, odd: bool = False) -> None:
        super().__init__(parameters, {"lr": 0.01})
        self.odd, self.began = odd, 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    self.began += 1
                    state["step"] = torch.zeros(())
                    if self.odd:
                        state["basis"] = torch.eye(len(p) + 1)
                if p.ndim > 1:
                    squares = p.grad.square()
                    for name, mean in (("exp_avg_sq_row", squares.mean(-1)), ("exp_avg_sq_col", squares.mean(-2))):
                        known = state.get(name)
                        state[name] = mean if known is None else known.lerp(mean, 0.1)
                p.add_(p.grad, alpha=-group["lr"])


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-3),
    "rprop": lambda p: torch.optim.Rprop(p, lr=1e-3),
    "asgd": lambda p: torch.optim.ASGD(p, lr=1e-2),
    "factored": Factored,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimizer_is_cut_along(name: str) -> None:
    gating = build(layers=False)
    optimizer = search(gating, OPTIMIZERS[name])
    small = gating.finish()
    weight = min((b.a.weight for b in small.blocks), key=len)
    assert len(weight) < 16
    state = optimizer.state[weight]
    assert state, "the state of a cut weight was lost"
    step(gating, optimizer)
    for p in small.parameters():
        for value in optimizer.state.get(p, {}).values():
            if isinstance(value, Tensor) and value.ndim:
                assert all(a in (*p.shape, 1) for a in value.shape)


def test_state_that_nobody_can_cut_is_begun_anew() -> None:
    gating = build(steps=30, layers=False)
    optimizer = Factored(gating.parameters(), odd=True)
    for _ in range(5):
        step(gating, optimizer)
    began = optimizer.began
    while gating.searching:
        step(gating, optimizer)
    step(gating, optimizer)
    assert optimizer.began > began
    for block in gating.finish().blocks:
        assert len(optimizer.state[block.a.weight]["basis"]) == len(block.a.weight) + 1


def test_another_optimizer_is_refused() -> None:
    gating = build()
    gating(X).sum().backward()
    count = len(list(gating.parameters()))
    with pytest.raises(ValueError, match=rf"16 of the 16 parameters.*, and {count} of the network's {count} are not"):
        gating.step(sgd(Small().parameters()))
    with pytest.raises(ValueError, match=r"0 of the \d+ parameters.*are not in it"):
        gating.step(sgd([p for n, p in gating.named_parameters() if ".head." not in n or n.startswith("network.head")]))
    more = nn.Linear(2, 2)
    assert not gating.step(sgd([*gating.parameters(), *more.parameters()]))


def test_reentrant_checkpointing_changes_nothing() -> None:
    def heads_learn(run: Callable[[nn.Module, Tensor], Tensor]) -> list[Tensor]:
        torch.manual_seed(0)
        gating = build(Small(run), steps=60)
        optimizer = sgd(gating.parameters())
        for _ in range(19):
            step(gating, optimizer)
        return [head.last.weight.detach().clone() for head in gating.heads()] + [gating.logit_mean, gating.consensus]

    plain = heads_learn(lambda block, x: block(x))
    for reentrant in (True, False):
        found = heads_learn(lambda m, x: checkpoint(m, x, use_reentrant=reentrant) if torch.is_grad_enabled() else m(x))  # noqa: B023
        for a, b in zip(plain, found, strict=True):
            assert torch.allclose(a, b, atol=1e-3), reentrant


class Reads(nn.Module):
    """A forward that reads attributes of its layers and calls them by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.up, self.head = (
            nn.Conv2d(3, 8, 3, stride=2),
            nn.ConvTranspose2d(8, 6, 3, stride=2),
            nn.Linear(6, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        size = [s // self.a.stride[0] * self.up.stride[0] for s in x.shape[2:]]
        x = x.to(self.a.weight.dtype).reshape(len(x), self.a.in_channels, *x.shape[2:])
        x = self.up(F.relu(self.a(x)), output_size=size)
        return self.head(input=F.relu(x).mean((2, 3)))


def test_what_a_forward_reads_of_a_layer() -> None:
    gating = build(Reads())
    search(gating, sgd)
    assert len(gating.finish().a.weight) < 8


class Normed(nn.BatchNorm2d):
    """A norm with an activation, as timm has."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x)) + 0.1


def test_a_norm_that_does_more_keeps_doing_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Normed(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    expected = copy.deepcopy(model).train()(X)
    gating = build(model)
    assert torch.allclose(gating.train()(X), expected, atol=1e-5)
    search(gating, sgd)
    assert gating.masked_max_abs_diff is not None
    assert gating.masked_max_abs_diff < 1e-4


class Video(nn.Module):
    """Frames folded into the batch, and unfolded again; in `forward` of a sequence its steps come first."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.a, self.block, self.mix, self.head = nn.Conv2d(3, 8, 3), Block(8), nn.Linear(8, 12), nn.Linear(12, 5)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[:2]
        y = self.block(F.relu(self.a(x.flatten(0, 1)))).mean((2, 3)).view(batch, frames, -1)
        y = y.transpose(0, 1) if self.first else y
        return self.head(F.relu(self.mix(y)).mean(0 if self.first else 1))


@pytest.mark.parametrize("first", [False, True])
def test_frames_folded_into_the_batch(first: bool) -> None:
    x = torch.randn(6, 3, 3, 8, 8)
    gating = build(Video(first=first), x)
    optimizer = sgd(gating.parameters())
    while gating.searching:
        step(gating, optimizer, x[: 6 if gating.steps_done % 2 else 5])
    assert gating.finish()(x).shape == (6, 5)
    assert gating.masked_max_abs_diff is not None
    assert gating.masked_max_abs_diff < 1e-4


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_weights_that_are_calculated_are_left_alone(norm: Callable[[nn.Module], nn.Module]) -> None:
    model = Small()
    norm(model.blocks[0].a)
    model(X)
    gating = build(model)
    fixed = dict(gating.structure.fixed)
    assert "computed from other parameters" in fixed["blocks.0.a"]
    assert "blocks.1.a" not in fixed
    search(gating, sgd)
    assert gating.masked_max_abs_diff is not None
    assert gating.masked_max_abs_diff < 1e-4


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.inp, self.wide, self.rnn = nn.Linear(3, 8), nn.Linear(8, 16), kind(8, 8, batch_first=True)
        self.narrow, self.head = nn.Linear(16, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.narrow(F.relu(self.wide(self.inp(x))))
        return self.head(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent_layers_fix_what_they_read_and_no_more(kind: type[nn.RNNBase]) -> None:
    structure = trace(Recurrent(kind), torch.randn(2, 4, 3))
    assert {g.name for g in structure.groups} == {"inp", "wide"}
    assert kind.__name__ in dict(structure.fixed)["narrow"]
