"""Parts of a network that are frozen, or trained at a rate of their own."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from greenprune.bench import models
from greenprune.bench.errors import UserError
from greenprune.bench.suite.recipe import Training
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.training.layers import Parts, freeze, layers_of, scales_of
from greenprune.bench.training.optimizers import make_optimizer
from greenprune.bench.training.step import Stepper
from greenprune.methods import registry
from torch import nn

from tests.methods.networks import SmallResidual


@pytest.mark.parametrize("name", ["dense", "gated", "magnitude", "slimming", "uniform"])
def test_frozen_parts_really_stay_as_they_were(name: str) -> None:
    torch.manual_seed(0)
    model = SmallResidual()
    first = next(n for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    norm = next(n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d))
    recipe = Training(epochs=1, batch_size=8, learning_rate=0.05, freeze=(first, norm))
    frozen = [model.get_submodule(n) for n in (first, norm)]
    parts = Parts(model, recipe, 10)
    method = registry()[name](keep=0.6, steps=80, tolerance=0.1, seed=0)  # nothing is cut in the first three
    images = torch.randn(8, 3, 32, 32)
    network = method.prepare(model, images[:2])
    before = [{k: t.clone() for k, t in m.state_dict().items()} for m in frozen]
    other = [p.detach().clone() for p in network.parameters() if p.requires_grad]
    step = Stepper(
        network, method, make_task("classification"), make_optimizer(parts.split(method.param_groups(network)), recipe),
        recipe, contextlib.nullcontext,
    )  # fmt: skip
    parts.train(network)
    for _ in range(3):
        step(images, torch.arange(8), 0.05)
    for module, state in zip(frozen, before, strict=True):
        now = module.state_dict()
        assert all(torch.equal(now[key], tensor) for key, tensor in state.items())
    changed = [p for p in network.parameters() if p.requires_grad]
    assert len(changed) == len(other)
    assert not all(torch.equal(a, b) for a, b in zip(changed, other, strict=True))


def test_patterns_name_modules_with_what_is_below_them_and_parameters() -> None:
    model = models.build("vit_tiny_cifar", 10, seed=0)
    freeze(model, ("blocks.[01]", "positions"))
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        n for n, _ in model.named_parameters() if n.startswith(("blocks.0.", "blocks.1.")) or n == "positions"
    }


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (("layer9.*",), '"layer9.*" is no part of the network'),
        (("layer1.0.conv",), 'did you mean "layer1.0.conv'),
        (("*",), "nothing is left to train"),
    ],
)
def test_patterns_that_cannot_be_meant(patterns: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError) as error:
        freeze(models.build("resnet20", 10), patterns)
    assert said in str(error.value)


def test_layers_are_blocks_in_their_order() -> None:
    resnet = layers_of(models.build("resnet20", 10))
    assert [layer[0] for layer in resnet[:3]] == ["conv1", "layer1.0", "layer1.1"]
    assert resnet[0][:2] == ["conv1", "bn1"]
    assert len(resnet) == 1 + 9 + 1
    assert resnet[-1] == ["fc"]
    vit = layers_of(models.build("vit_tiny_cifar", 10))
    assert "" in vit[0]  # positions
    assert vit[0][0] == "patches"
    assert [layer[0] for layer in vit[1:]] == ["blocks.0", "blocks.1", "blocks.2", "blocks.3", "head"]
    assert "norm" in vit[4]


@pytest.mark.parametrize(
    ("name", "count"),
    [("torchvision/resnet18", 10), ("torchvision/vit_b_16", 14), ("torchvision/mobilenet_v2", 20), ("vgg16_bn", 14)],
)
def test_every_parameter_is_of_one_layer(name: str, count: int) -> None:
    model = models.build(name, 10)
    layers = layers_of(model)
    assert len(layers) == count
    of_modules = [name for layer in layers for name in layer]
    assert len(of_modules) == len(set(of_modules))
    owners = {n.rpartition(".")[0] for n, _ in model.named_parameters()}
    assert owners <= set(of_modules)


def test_rates_fall_from_the_head_to_the_first_layer() -> None:
    model = models.build("resnet20", 10)
    recipe = Training(epochs=1, learning_rate=0.1, layer_decay=0.5, head_learning_rate=0.4)
    scales = scales_of(model, recipe, 10)
    assert scales["fc"] == pytest.approx(4.0)
    assert scales["layer3.2.conv1"] == scales["layer3.2"] == 0.5
    assert scales["conv1"] == scales["bn1"] == 0.5**10
    assert scales_of(model, Training(epochs=1), 10) == {}


@pytest.mark.parametrize("name", ["gated", "magnitude", "slimming", "uniform"])
def test_each_parameter_of_a_prepared_network_has_the_rate_of_its_layer(name: str) -> None:
    torch.manual_seed(0)
    model = SmallResidual()
    recipe = Training(epochs=1, learning_rate=0.1, layer_decay=0.5, head_learning_rate=0.3)
    parts = Parts(model, recipe, 10)
    scales = scales_of(model, recipe, 10)
    by_module = {id(model.get_submodule(n)): scale for n, scale in scales.items()}
    method = registry()[name](keep=0.6, steps=8, tolerance=0.1, seed=0)
    network = method.prepare(model, torch.randn(2, 3, 32, 32))
    groups = method.param_groups(network)
    alone = {id(p): group.get("learning_rate_scale", 1.0) for group in groups for p in group["params"]}
    found = {id(p): group["learning_rate_scale"] for group in parts.split(groups) for p in group["params"]}
    assert found.keys() == alone.keys()
    seen = set()
    for module in network.modules():
        for p in module.parameters(recurse=False):
            assert found[id(p)] == pytest.approx(alone[id(p)] * by_module.get(id(module), 1.0))
            seen.add(found[id(p)])
    assert len(seen) > 3


FACTORY = """
import torch
def make(groups, *, lr, weight_decay):
    return torch.optim.RMSprop(groups, lr=lr, weight_decay=weight_decay)
def other(groups, *, lr, weight_decay):
    return torch.optim.RMSprop([p for group in groups for p in group["params"]], lr=lr)
def nothing(groups, *, lr, weight_decay):
    return None
def narrow(groups):
    return None
size = 3
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other", "made other parameter groups"),
        ("nothing", "returned a NoneType; allowed is a function of parameter groups"),
        ("narrow", "calling it failed with TypeError"),
        ("size", '"size" is a int'),
        ("mkae", 'has no "mkae" (did you mean "make"?)'),
    ],
)
def test_an_optimizer_of_ones_own(name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_optimizers.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    groups = [{"params": [nn.Parameter(torch.ones(2))]}]
    made = make_optimizer(groups, Training(epochs=1, optimizer="own_optimizers:make", learning_rate=0.2))
    assert isinstance(made, torch.optim.RMSprop)
    assert made.param_groups[0]["lr"] == 0.2
    with pytest.raises(UserError) as error:
        make_optimizer(groups, Training(epochs=1, optimizer=f"own_optimizers:{name}"))
    assert said in str(error.value)
    assert str(error.value).startswith(f'training.optimizer = "own_optimizers:{name}": ')
