"""Networks: size and form as published, reproducible weights, errors that name the part that failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.fx
import torch.nn.functional as F
import torch_pruning as tp
from greenprune.bench import models
from greenprune.bench.errors import UserError
from greenprune.bench.models.resnet import Block, resnet
from greenprune.bench.models.traps import Subsample, avoid_cpu_trap
from greenprune.methods import count_macs, logits_of
from greenprune.methods.structure.surgery import remove_checked
from greenprune.methods.structure.trace import trace
from torch import nn

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def macs_of_one_image(model: nn.Module) -> int:
    """Counted here from the shapes alone, not with the counter that the suite uses."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            total += output[0].numel() * module.in_channels // module.groups * height * width
        elif isinstance(module, nn.Linear):
            total += module.in_features * module.out_features

    handles = [module.register_forward_hook(count) for module in model.modules()]
    with torch.no_grad():
        model.eval()(IMAGES[:1])
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize(
    ("name", "macs", "parameters"),
    [  # parameters of the paper's table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 M
        ("resnet20", 40_813_184, 272_474),
        ("resnet32", 69_124_736, 466_906),
        ("resnet44", 97_436_288, 661_338),
        ("resnet56", 125_747_840, 855_770),
        ("resnet110", 253_149_824, 1_730_714),
        ("vgg16_bn", 313_201_664, 14_724_042),
    ],
)
def test_networks_have_the_published_size(name, macs, parameters):
    model = models.build(name, 10)
    assert macs_of_one_image(model) == macs
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model(IMAGES).shape == (4, 10)


def test_every_name_listed_here_can_be_built():
    resnets = ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"]
    assert models.names() == [*resnets, "vgg16_bn", "vit_tiny_cifar"]


def test_the_vision_transformer_has_the_size_that_it_says_and_can_be_gated_by_heads_widths_and_branches():
    model, example = models.build("vit_tiny_cifar", 10, seed=0), torch.randn(2, 3, 32, 32)
    length, dim, hidden, depth = 64, 96, 192, 4
    layers = 4 * dim * dim + 2 * dim * hidden
    assert count_macs(model, example) == (
        length * 3 * 16 * dim + depth * length * (layers + 2 * length * dim) + dim * 10
    )
    assert sum(p.numel() for p in model.parameters()) == 311_146
    structure = trace(model, example)
    widths = {group.name: group.width for group in structure.groups}
    assert {widths[f"blocks.{i}.attention.qkv"] for i in range(depth)} == {3}  # heads
    assert {widths[f"blocks.{i}.mlp.fc1"] for i in range(depth)} == {hidden}
    assert len(structure.branches) == 2 * depth
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[structure.branches[3].unit] = False
    for group in structure.groups:
        if group.name != "patches":
            keep[group.units.start] = False
    smaller, off = remove_checked(model, structure, keep, example)
    assert off < 1e-4
    assert sum(p.numel() for p in smaller.parameters()) < 311_146 - 2 * dim * hidden


@pytest.mark.parametrize("depth", [2, 21])
def test_resnet_refuses_depths_that_do_not_exist(depth):
    with pytest.raises(ValueError, match=f"depth = {depth}"):
        resnet(depth, 10)


@pytest.mark.parametrize(("in_channels", "stride"), [(8, 1), (6, 1), (6, 2)])
def test_block_is_the_basic_block_with_a_strided_shortcut(in_channels, stride):
    block = Block(in_channels, 8, stride).eval()
    for bn in (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(bn.running_mean)
        nn.init.uniform_(bn.weight, 0.5, 2)
    x = torch.randn(2, in_channels, 9, 9)  # odd: the last row is kept, as a strided convolution keeps it
    skip = x
    if stride == 2 or in_channels != 8:
        _, conv, bn = block.shortcut
        skip = bn(F.conv2d(x, conv.weight, stride=stride))
    expected = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))) + skip)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn"])
def test_weights_depend_on_the_seed_alone_and_leave_the_global_generator_alone(name):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = models.build(name, 10, seed=1).state_dict()
    assert torch.equal(torch.rand(4), expected)
    again, other = models.build(name, 10, seed=1).state_dict(), models.build(name, 10, seed=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first if key.endswith("conv1.weight"))
    assert not torch.equal(first[next(iter(first))], other[next(iter(other))])


def test_convolutions_start_with_the_deviation_of_he_et_al():
    conv = models.build("resnet20", 10, seed=0).layer3[1].conv1
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn", "vit_tiny_cifar"])
def test_networks_can_be_traced_by_torch_fx(name):
    model = models.build(name, 10, seed=0).eval()
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(IMAGES), model(IMAGES))


@pytest.mark.parametrize(("name", "layer"), [("resnet20", "layer2.0.shortcut.1"), ("vgg16_bn", "features.0")])
def test_channels_can_be_removed_with_torch_pruning(name, layer):
    model = models.build(name, 10, seed=0).eval()
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=IMAGES)
    conv = model.get_submodule(layer)
    width = conv.out_channels
    graph.get_pruning_group(conv, tp.prune_conv_out_channels, idxs=[0, 5]).prune()
    assert conv.out_channels == width - 2
    if name == "resnet20":  # the whole residual stream becomes narrower, and the shortcut that reads it too
        assert [block.conv2.out_channels for block in model.layer2] == [30, 30, 30]
        assert model.layer3[0].shortcut[1].in_channels == 30
    assert model(IMAGES).shape == (4, 10)


# Networks from elsewhere


def test_torchvision_networks_are_built_by_name():
    model = models.build("torchvision/resnet18", 7, seed=0)
    assert model.training
    assert model.fc.out_features == 7
    strided = [
        m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.stride != (1, 1)
    ]
    assert not strided  # build avoids the trap of bench/models/traps.py


def test_googlenet_has_a_single_output_while_training():
    assert isinstance(models.build("torchvision/googlenet", 10, seed=0).train()(IMAGES), torch.Tensor)


def test_a_users_own_network_may_return_more_than_logits(own_models):
    output = models.build("own_models:Two", 10)(torch.zeros(1, 3, 32, 32))
    assert logits_of(output) is output["logits"]


def test_a_users_own_network_is_found_in_the_working_directory(own_models):
    models.check("own_models:good")
    model = models.build("own_models:good", 6, seed=1)
    assert model(IMAGES).shape == (4, 6)
    assert torch.equal(model[1].weight, models.build("own_models:good", 6, seed=1)[1].weight)
    assert str(own_models) not in sys.path


@pytest.fixture
def own_models(tmp_path, monkeypatch) -> Path:
    (tmp_path / "own_models.py").write_text(
        "from torch import nn\n"
        "size = 3\n"
        "def good(classes): return nn.Sequential(nn.Flatten(), nn.Linear(3072, classes))\n"
        "class Two(nn.Module):\n"
        "    def __init__(self, classes): super().__init__(); self.net = good(classes)\n"
        "    def forward(self, x): return {'features': x, 'logits': self.net(x)}\n"
        "def too_wide(classes): return good(classes + 1)\n"
        "def wrong_input(classes): return nn.Linear(5, classes)\n"
        "def no_module(classes): return 'a network'\n"
        "def broken(classes): raise KeyError('depth')\n"
    )
    (tmp_path / "own_broken.py").write_text("import own_missing_dependency\n")
    (tmp_path / "own_syntax.py").write_text("def net(:\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("own_models", "own_broken", "own_syntax"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("resnet21", ['"resnet21" is unknown', "did you mean", "vgg16_bn", "package.module:factory"]),
        ("torchvison/resnet18", ['did you mean "torchvision/resnet18"']),
        (":net", ['":net" is unknown']),
        ("torchvision/resnet19", ['no classification model "resnet19"', 'did you mean "torchvision/resnet18"']),
        ("torchvision/fasterrcnn_resnet50_fpn", ["no classification model"]),  # finds boxes
        ("own_modells:good", ['there is no module "own_modells"']),
        ("own_broken:net", ['there is no module "own_missing_dependency"']),
        ("own_syntax:net", ['importing "own_syntax" failed with SyntaxError']),
        ("own_models:goood", ['module "own_models" has no "goood"', 'did you mean "good"']),
        ("own_models:size", ['"size" is a int', "allowed is a function"]),
    ],
)
def test_unknown_networks_are_refused_without_building_them(own_models, name, parts):
    for refuse in (models.check, lambda name: models.build(name, 10)):
        with pytest.raises(UserError) as error:
            refuse(name)
        assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("own_models:no_module", ["returned a str", "allowed is a torch.nn.Module"]),
        ("own_models:broken", ["building it for 10 classes failed with KeyError: 'depth'"]),
        ("own_models:too_wide", ["gives (1, 11) for one image", "allowed are logits of shape (1, 10)"]),
        ("own_models:wrong_input", ["does not run on 32×32 images"]),
        ("torchvision/maxvit_t", ["failed with ValueError", "not divisible by partition size 7"]),
    ],
)
def test_networks_that_do_not_fit_are_refused(own_models, name, parts):
    models.check(name)  # known, so the check alone lets it pass
    with pytest.raises(UserError) as error:
        models.build(name, 10)
    assert all(part in str(error.value) for part in parts), str(error.value)


# The trap


class Foreign(nn.Module):
    """A strided 1×1 convolution used under two names, one that is grouped, and some that are to stay."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 1, stride=2)
        self.again = nn.ModuleList([self.down])
        self.grouped = nn.Sequential(nn.Conv2d(8, 8, 1, stride=4, groups=4))
        self.stay = nn.ModuleList([nn.Conv2d(8, 8, 3, stride=2), nn.Conv2d(8, 8, 1, stride=2, padding=1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.down(x) + 2 * self.again[0](x)
        return self.grouped(y).mean() + sum(conv(y).mean() for conv in self.stay)


def test_strided_pointwise_convolutions_are_replaced_by_an_equal_form():
    model = Foreign()
    parameters = set(model.parameters())
    expected = model(IMAGES[..., :31])
    assert avoid_cpu_trap(model) is model
    torch.testing.assert_close(model(IMAGES[..., :31]), expected)
    assert set(model.parameters()) == parameters
    assert isinstance(model.down[0], Subsample)
    assert isinstance(model.grouped[0][0], Subsample)
    assert [type(conv) for conv in model.stay] == [nn.Conv2d, nn.Conv2d]


TRAINING_STEPS = """
import resource, torch
from torch import nn
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
torch.set_num_threads(4)
for _ in range(5):
    model = nn.Sequential(nn.Conv2d(12, 24, 1, stride=2))
    # change here
    model.to(memory_format=torch.channels_last)
    x = torch.rand(250, 12, 32, 32).to(memory_format=torch.channels_last).requires_grad_()
    model(x).sum().backward()
print("survived")
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to die from")
def test_the_equal_form_does_not_crash_where_the_strided_one_does():
    strided = run(TRAINING_STEPS)
    if strided.returncode == 0:
        pytest.skip("this CPU and torch do not have the trap")
    assert strided.returncode < 0, strided.stderr  # ended by a signal, not by a Python error
    change = "from greenprune.bench.models.traps import avoid_cpu_trap; avoid_cpu_trap(model)"
    avoided = run(TRAINING_STEPS.replace("# change here", change))
    assert (avoided.returncode, avoided.stdout) == (0, "survived\n"), avoided.stderr
