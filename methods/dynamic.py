"""Gates that stay dependent on the input at inference: each image executes its own part of the network.

SkipNet (Wang et al. 2018, arXiv 1711.09485) and ConvNet-AIG (Veit & Belongie 2018, arXiv 1711.11503): a small head looks
at a layer's input (global average pool, Linear, ReLU, Linear) and decides 0 or 1, with logistic noise on the logit
(Gumbel, ConvNet-AIG section 3.2) and a straight-through gradient while training. Their target-rate losses give no exact
cost; so that budgets are the same for every method, a global threshold on the logits follows the budget here, annealed
from 1 to `keep`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import torch
from greenprune.methods.base import Method, Skip
from greenprune.methods.budget.select import BudgetError
from greenprune.methods.gating.gradients import GradientScale
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.gating.mathematics import annealed
from greenprune.methods.options.dynamic import DynamicOptions
from greenprune.methods.ranks import together
from greenprune.methods.skipping.layers import Skipper
from greenprune.methods.skipping.skip import Layout, SkippingCost, SkippingNetwork, find_gates, install
from greenprune.methods.structure import surgery
from greenprune.methods.structure.modes import evaluating
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn

CALIBRATION_IMAGES = 256
HELD_OUT_IMAGES = 1000
"""At most, for the last calibration: each of its rounds runs all of them."""

CALIBRATION_ROUNDS = 24
SHIFT_RANGE = 12.0
SHIFT_GAIN = 1.0  # logits per step and unit of excess cost: some ten steps to follow a change, without overshooting
MAX_GRADIENT_GAIN = 0.2
HEARD = ("sums", "rms", "importance", "importance_steps")
"""What `GradientScale` knows of the gates' gradients."""


class Dynamic(Method):
    """Trains network and gates together; the result keeps its gates and really skips, see `greenprune.methods.skipping.skip`.

    The budget counts the mean over images, gate heads included. It cannot be guaranteed for images that nobody has seen: at
    the end the threshold is set so that the mean over held-out images (at most 1,000) lies in the middle of
    [keep - tolerance, keep]; without them over the last training batches (at least 256 images where there are as many),
    whose augmentation shifts it by a point or two. What a run then really costs is counted on its test images.
    """

    name = "dynamic"
    source = "SkipNet, arXiv 1711.09485; ConvNet-AIG, arXiv 1711.11503"
    budget_unit = "mean_macs"
    Options = DynamicOptions
    tuning: ClassVar = {
        "drift": (20.0, 40.0, 80.0, 160.0),
        "open_share": (0.0, 0.1, 0.2),
        "settle_share": (0.2, 0.3, 0.5),
        "noise": (0.3, 1.0),
    }
    made_by_prepare: ClassVar = frozenset({"_skipper", "_cost"})

    def prepare(self, model: nn.Module, example_inputs: Tensor) -> nn.Module:
        o: DynamicOptions = self.options
        require_one_tensor(model, example_inputs)
        self._structure = trace(model, example_inputs)
        layout = choose_layout(model, self._structure, o, self.keep - self.tolerance / 2)
        device = example_inputs.device
        self._skipper = Skipper()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._heads = install(model, layout, self._skipper, device)
            for head in self._heads:
                nn.init.normal_(head.last.weight, std=0.01)
                nn.init.normal_(head.last.bias, mean=o.initial_logit, std=0.1)
        units = sum(len(head.units) for head in self._heads)
        self._skipper.gradients = GradientScale(torch.ones(units, device=device))
        self._skipper.gradients.gain = min(MAX_GRADIENT_GAIN, o.drift / self.steps)
        self._skipper.generator = torch.Generator(device).manual_seed(self.seed + 1)
        self._skipper.noise, self._skipper.hold_open = o.noise, o.open_share > 0
        self._cost = SkippingCost(self._structure, layout, self._heads)
        self._network = _Watched(model, layout, self._skipper)
        self._kept = 1.0
        self._history: list[tuple[int, float, float]] = []
        refuse_what_cannot_be_gathered(self._network, example_inputs)
        return self._network

    def param_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The heads apart, without weight decay: it would pull every gate towards undecided."""
        heads = [p for head in self._heads for p in head.parameters()]
        own = {id(p) for p in heads}
        rest = [p for p in network.parameters() if id(p) not in own]
        return [{"params": rest}, {"params": heads, "weight_decay": 0.0}]

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        o: DynamicOptions = self.options
        skipper = self._skipper
        assert skipper.gradients is not None
        skipper.gradients.update(together.mean(skipper.gradients.sums))
        cost = float(together.mean(self._cost(skipper.gates).mean()))
        progress = self.step / self.steps
        ramp = (progress - o.open_share) / max(1e-9, 1.0 - o.open_share - o.settle_share)
        if not skipper.hold_open:
            self._kept += 0.1 * (cost - self._kept)
            excess = cost - annealed(ramp, 1.0, self.keep)
            skipper.shift = min(SHIFT_RANGE, max(-SHIFT_RANGE, skipper.shift + SHIFT_GAIN * excess))
        skipper.hold_open = progress < o.open_share
        skipper.noise = annealed(progress, o.noise, 0.0)
        if self.step % max(1, self.steps // 24) == 0:
            self._history.append((self.step, round(cost, 4), round(skipper.shift, 4)))
        if self.step == self.steps:
            self._kept = self._calibrate(self._network.seen)

    def settle(self, images: Callable[[], Iterator[Tensor]]) -> None:
        seen: list[Tensor] = []
        count = 0
        for batch in images():
            chosen = batch[: HELD_OUT_IMAGES - count]
            count += len(chosen)
            if len(own := together.share(chosen)):
                seen.append(own)
            if count >= HELD_OUT_IMAGES:
                break
        self._kept = self._calibrate(seen)

    def finish(self) -> nn.Module:
        with torch.no_grad():
            for head in self._heads:
                head.last.bias -= self._skipper.shift
        skipper = self._skipper
        skipper.shift, skipper.generator, skipper.gradients = 0.0, None, None
        images = together.whole(self._network.seen[-1])[:64]
        self.masked_max_abs_diff = skipping_difference(self._network, images)
        return SkippingNetwork(self._network.network, self._network.layout, skipper)

    def kept_cost(self) -> float | None:
        return self._kept

    def history(self) -> dict[str, Any]:
        """Step, mean cost of the batch and threshold, over the training; what the last threshold gave where it was set."""
        columns = list(zip(*self._history, strict=True)) or [(), (), ()]
        return {
            "steps": list(columns[0]),
            "mean_cost": list(columns[1]),
            "threshold": list(columns[2]),
            "calibrated_mean_cost": round(self._kept, 4),
        }

    def state_dict(self) -> dict[str, Any]:
        skipper = self._skipper
        assert skipper.generator is not None
        assert skipper.gradients is not None
        gates = {"shift": skipper.shift, "noise": skipper.noise, "hold_open": skipper.hold_open}
        heard = {name: getattr(skipper.gradients, name) for name in HEARD}
        seen = list(map(together.whole, self._network.seen))
        return super().state_dict() | {
            "gates": gates, "generator": skipper.generator.get_state(), "gradients": heard, "seen": seen
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        own = {"gates", "generator", "gradients", "seen"}
        super().load_state_dict({name: value for name, value in state.items() if name not in own})
        skipper = self._skipper
        assert skipper.generator is not None
        for name, value in state["gates"].items():
            setattr(skipper, name, value)
        skipper.generator.set_state(state["generator"])
        for name, value in state["gradients"].items():
            setattr(skipper.gradients, name, value)
        self._network.seen = deque(map(together.share, state["seen"]))

    def _calibrate(self, batches: Iterable[Tensor]) -> float:
        """Set the threshold by bisection on these images, each process on its own; the mean cost there, of dense."""
        skipper, network = self._skipper, self._network
        target = self.keep - self.tolerance / 2
        low, high, radius = (
            -math.inf,
            math.inf,
            0.25,
        )  # where the threshold lies; how far to look while one side is open
        best, kept = skipper.shift, math.inf
        skipper.hold_open = False
        with evaluating(network), torch.no_grad():
            skipper.skip = False  # the cost is that of the gates, so that all of them have to speak
            for _ in range(CALIBRATION_ROUNDS):
                costs = []
                for images in batches:
                    network.network(images)
                    costs.append(self._cost(skipper.gates))
                mean = together.mean_of(torch.cat(costs))
                if abs(mean - target) < abs(kept - target):
                    best, kept = skipper.shift, mean
                if abs(mean - target) < self.tolerance / 8:
                    break
                low, high = (skipper.shift, high) if mean > target else (low, skipper.shift)
                radius *= 2
                if math.isinf(high) or math.isinf(low):
                    skipper.shift += radius if math.isinf(high) else -radius
                else:
                    skipper.shift = (low + high) / 2
            skipper.skip = True
        skipper.shift = best
        return kept


class _Watched(SkippingNetwork):
    """Keeps the last training batches, for the calibration at the end."""

    def __init__(self, network: nn.Module, layout: Layout, skipper: Skipper) -> None:
        super().__init__(network, layout, skipper)
        self.seen: deque[Tensor] = deque()

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.seen.append(inputs.detach())
            while together.size() * (sum(map(len, self.seen)) - len(self.seen[0])) >= CALIBRATION_IMAGES:
                self.seen.popleft()
        return self.network(inputs)


def choose_layout(model: nn.Module, structure: Structure, options: DynamicOptions, target: float) -> Layout:
    """Where to put gates so that a mean cost of `target` (a fraction of the dense MACs) can be reached.

    Raises:
        Skip: there is nothing to gate.
        BudgetError: with all gates closed the network still costs more.
    """
    least = math.inf
    layout = None
    for channels in {"auto": (False, True), "always": (True,), "never": (False,)}[options.channels]:
        found = find_gates(
            model, structure, layers=options.layers, channels=channels, blocks=options.blocks, hidden=options.hidden
        )
        if not found.branches and not found.channels:
            continue
        layout, least = found, floor_of(model, structure, found)
        if least < target:
            return layout
    if layout is None:
        raise Skip("no layer and no block of channels of this network can be gated")
    raise BudgetError(
        f"keep = {target:g} lies below the floor of this network, {least:.3f}: what its gates cannot skip"
    )


def floor_of(model: nn.Module, structure: Structure, layout: Layout) -> float:
    """Cost with every gate closed, heads included, as a fraction of the dense MACs."""
    sites = [(b.first, 1) for b in layout.branches] + [(g.producers[0], g.blocks) for g in layout.channels]
    heads = [
        GateHead(model.get_submodule(name).in_channels, torch.arange(blocks), layout.hidden, channel_dim=1)  # type: ignore[arg-type]
        for name, blocks in sites
    ]
    return SkippingCost(structure, layout, heads).floor()


@torch.no_grad()
def skipping_difference(network: SkippingNetwork, images: Tensor) -> float:
    """max |delta logit| between skipping and multiplying by 0, in eval mode."""
    with evaluating(network):
        network.skipper.skip = False
        expected = network.network(images)
        network.skipper.skip = True
        return float((network.network(images) - expected).abs().max())


def require_one_tensor(model: nn.Module, example_inputs: object) -> None:
    """Raise Skip unless `model` makes one tensor of one tensor: its examples are gathered and scattered along the first
    dimension."""
    if not isinstance(example_inputs, Tensor):
        raise Skip("dynamic needs a network that takes one tensor, whose first dimension counts the images")
    output = surgery.evaluate(model, example_inputs)
    if not isinstance(output, Tensor):
        raise Skip(f"dynamic needs a network that returns one tensor; this one returns a {type(output).__name__}")


def refuse_what_cannot_be_gathered(network: SkippingNetwork, images: Tensor) -> None:
    """Raise Skip when a branch needs more of the batch than its own images (found by trying it on mixed gates)."""

    def mixed(key: str, logits: Tensor) -> Tensor:
        index = torch.arange(logits.numel(), device=logits.device).view_as(logits)
        if key.startswith("channels"):  # by block alone: behind a branch other images are left
            index = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
        return (index % 2).to(logits.dtype)

    network.skipper.forced = mixed
    try:
        difference = skipping_difference(network, images)
    except RuntimeError as e:
        raise Skip(f"its layers cannot run on a part of the batch ({str(e).splitlines()[0]})") from None
    finally:
        network.skipper.forced = None
    if not difference < 1e-2:
        raise Skip(f"running a layer on a part of the batch changes the result by {difference:.1e}")
