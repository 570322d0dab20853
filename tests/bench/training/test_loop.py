"""The training loop: what it looks at, what it charges, and that every method gets the same."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import greenprune.bench.training.ledger
import greenprune.bench.training.loop
import pytest
import torch
from greenprune.bench.data.batches import Batches
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.splits import Split
from greenprune.bench.energy import Reading
from greenprune.bench.suite.recipe import Training
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.training.loop import DivergedError, Progress, Trained, train
from greenprune.methods import MethodOptions, Phase, count_macs, registry
from greenprune.methods.dense import Dense
from torch import Tensor, nn

METHODS = sorted(registry())
EPOCHS, BATCH_SIZE, BATCHES = 3, 8, 5


class Meter:
    """Measures nothing, but knows whether its window runs."""

    running = False

    @contextlib.contextmanager
    def window(self, name: str) -> Iterator[Meter]:
        self.reading = Reading(name=name, duration_s=0.0)
        self.running = True
        yield self
        self.running = False

    def begin(self, name: str) -> Any:
        return SimpleNamespace(end=lambda: Reading(name=name, duration_s=0.0))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.running = False
        yield
        self.running = True

    def power_w(self) -> None:
        return None


class Untouchable:
    """A split that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("the test set was looked at")


class Spy(nn.Module):
    """Hands on what it sees, and notes the sum of every batch that is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.training:
            self.seen.append(float(x.double().abs().sum()))
        return x


def dataset() -> Dataset:
    """Noise, one image more than the batches of an epoch hold, and no test set."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
        return Split(images, torch.arange(count) % 10)

    untouchable: Any = Untouchable()
    middle = (0.5, 0.5, 0.5)
    return Dataset("noise", 10, split(BATCHES * BATCH_SIZE + 1), split(10), untouchable, middle, middle)


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def network(spy: Spy, blocks: int = 0) -> nn.Module:
    """With that many residual blocks, which a method can leave out."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            spy,
            nn.Conv2d(3, 16, 3, stride=4),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            *(Residual(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)) for _ in range(blocks)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 10),
        )


@dataclasses.dataclass
class Done:
    trained: Trained
    seen: list[float]
    reports: list[Progress]
    batches: Batches


def run(name: str, meter: Any = None, spy: Spy | None = None, steps: int = EPOCHS * BATCHES, **recipe: Any) -> Done:
    """Train the network with a method as the harness does."""
    data, meter, spy, reports = dataset(), meter or Meter(), spy or Spy(), list[Progress]()
    options = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "learning_rate": 0.05, "precision": "float32"} | recipe
    training = Training(**options)
    batches = Batches(
        data.train, batch_size=BATCH_SIZE, mean=data.mean, std=data.std, device="cpu", seed=1, augment=("crop-flip",)
    )
    method = registry()[name](keep=0.5, steps=steps, tolerance=0.1, seed=1)
    cpu = torch.device("cpu")
    model = network(spy, blocks=3 if name == "shallow" else 0)
    trained = train(method, model, data, batches, make_task("classification"), training, cpu, meter, reports.append)
    return Done(trained, spy.seen, reports, batches)


@pytest.fixture(scope="module", params=METHODS)
def done(request: pytest.FixtureRequest) -> Done:
    return run(request.param)


def test_every_method_sees_exactly_the_batches_and_never_the_test_set(done: Done) -> None:
    expected = [float(x.double().abs().sum()) for epoch in range(1, EPOCHS + 1) for x, _ in done.batches.epoch(epoch)]
    assert len(set(expected)) == EPOCHS * BATCHES
    assert done.seen == expected


def test_every_sample_is_charged(done: Done) -> None:
    ledger = done.trained.ledger.stored()
    assert ledger.samples == ledger.allowance_samples == EPOCHS * BATCHES * BATCH_SIZE


def test_there_is_a_row_and_a_report_for_every_epoch(done: Done) -> None:
    assert [entry.epoch for entry in done.trained.epochs] == [1, 2, 3]
    ended = [report for report in done.reports if report.epoch_ended]
    assert [(r.epoch, r.step, r.steps) for r in ended] == [(1, 5, 15), (2, 10, 15), (3, 15, 15)]
    assert [r.holdout_score for r in ended] == [entry.holdout_score for entry in done.trained.epochs]


def test_dense_is_charged_the_macs_of_the_dense_network_for_every_sample() -> None:
    macs = count_macs(network(Spy()), torch.zeros(2, 3, 32, 32))
    assert run("dense").trained.ledger.stored().forward_macs == macs * EPOCHS * BATCHES * BATCH_SIZE


def test_magnitude_is_charged_less_after_it_removed_filters() -> None:
    small = run("magnitude")
    macs, left = (count_macs(m, torch.zeros(2, 3, 32, 32)) for m in (network(Spy()), small.trained.model))
    assert left < macs
    before, after = small.trained.ledger.stored().entries
    assert before.phase == "train"
    tried = (
        before.forward_macs - macs * before.samples
    )  # it traced the network, and compared it before and after the cut
    assert 0 < tried <= 60 * macs  # each trial takes three draws of two images
    assert (after.phase, after.forward_macs) == ("fine-tune", left * after.samples)


class Busy(Dense):
    """Runs the network in every hook, as a method may that scores, calibrates or recalibrates."""

    name = "busy"

    @classmethod
    def phases(cls, options: MethodOptions) -> tuple[Phase, ...]:
        return (Phase("train", 0.5, peak=1.0), Phase("rest", 0.5))

    def look(self, images: int) -> None:
        with torch.no_grad():
            self._model.eval()(torch.zeros(images, 3, 32, 32))
            self._model.train()

    def prepare(self, model: nn.Module, example_inputs: Tensor) -> nn.Module:
        super().prepare(model, example_inputs)
        self.look(1)
        return model

    def penalty(self) -> float:
        self.look(10)
        return 0.0

    def after_backward(self) -> None:
        self.look(100)

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        self.look(1000)

    def settle(self, images: Callable[[], Iterator[Tensor]]) -> None:
        assert [len(batch) for batch in images()] == [10]  # the held-out images
        self.look(4)

    def finish(self) -> nn.Module:
        self.look(3)
        return super().finish()


def test_whatever_a_method_executes_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "registry", lambda: {"busy": Busy})
    first, last = run("busy").trained.ledger.stored().entries
    macs = count_macs(network(Spy()), torch.zeros(2, 3, 32, 32))
    steps = BATCHES * EPOCHS
    per_step = BATCH_SIZE + 1110
    assert (first.phase, last.phase) == ("train", "rest")
    assert first.forward_macs + last.forward_macs == macs * (steps * per_step + 8)
    assert first.forward_macs % (macs * per_step) == macs
    assert last.forward_macs % (macs * per_step) == 7 * macs
    assert first.samples + last.samples == steps * BATCH_SIZE


def test_a_training_may_end_within_an_epoch() -> None:
    """Where the steps are set by what a method may spend."""
    seen = run("dense", steps=BATCHES + 4)
    assert [entry.epoch for entry in seen.trained.epochs] == [1, 2]
    assert seen.trained.ledger.samples == (BATCHES + 4) * BATCH_SIZE == seen.trained.ledger.allowance_samples
    assert seen.reports[-1].step == seen.reports[-1].steps == BATCHES + 4
    assert seen.trained.epochs[-1].learning_rate < 0.05 / 5
    assert seen.trained.epochs[-1].train_score <= 1.0


def test_validation_costs_neither_time_nor_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that stands still but for a second in every training step and an hour in every validation."""
    now_s = 0.0
    running: list[tuple[str, bool]] = []
    meter = Meter()

    def evaluate(*_: object) -> float:
        nonlocal now_s
        now_s += 3600.0
        running.append(("validation", meter.running))
        return 0.5

    class Slow(Spy):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal now_s
            if torch.is_grad_enabled() and self.training:
                now_s += 1.0
                running.append(("step", meter.running))
            return x

    monkeypatch.setattr(greenprune.bench.training.loop, "evaluate", evaluate)
    monkeypatch.setattr(greenprune.bench.training.ledger, "time", SimpleNamespace(perf_counter=lambda: now_s))
    ledger = run("dense", meter, Slow()).trained.ledger.stored()
    assert now_s == EPOCHS * (BATCHES + 3600.0)
    assert sum(entry.duration_s for entry in ledger.entries) == EPOCHS * BATCHES
    assert set(running) == {("step", True), ("validation", False)}


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(DivergedError, match=r"the loss of epoch \d is (nan|inf): lower the learning rate"):
        run("dense", learning_rate=1e30)
