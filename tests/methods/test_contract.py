"""What every registered method owes its caller. A new method is covered by being registered."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.budget import Ledger
from bench.schedule import cycles, phase_at, rate_at
from methods import count_macs, count_params, registry
from methods.gated_modules import Gated
from tests.methods.networks import batches, images, network

METHODS = sorted(registry())
STEPS = 30


def run(name: str, model: nn.Module, keep: float, seed: int = 0) -> tuple[nn.Module, object]:
    """A short training through the interface alone, as the harness does it."""
    torch.manual_seed(seed)
    method_class = registry()[name]
    method = method_class(keep=keep, steps=STEPS, seed=seed)
    data = batches(STEPS, batch=8, size=32)
    trained = method.prepare(model, data[0][0][:2])
    groups = [{"learning_rate_scale": 1.0, **g} for g in method.param_groups(trained)]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)
    phases = method_class.phases(method.options)
    rates = cycles(phases, STEPS, 0.05, 3)
    ledger = Ledger(STEPS * 8)
    trained.train()
    for step, (x, y) in enumerate(data):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(rates, step, "cosine") * group["learning_rate_scale"]
        (F.cross_entropy(trained(x), y) + method.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        ledger.charge(phase_at(phases, STEPS, step).name, samples=len(x), forward_macs=0)
        method.after_step(optimizer)
    assert method.step == STEPS
    return method.finish(), method


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", METHODS)
def test_the_budget_is_met_and_the_result_is_plain(name, keep):
    x = images(2)
    dense = network()
    result, method = run(name, network(), keep)
    kept = count_macs(result, x) / count_macs(dense, x)
    if not registry()[name].prunes:
        assert kept == 1.0
        return
    assert keep - 0.02 <= kept <= keep
    assert count_params(result) < count_params(dense)
    assert method.masked_max_abs_diff <= 1e-4
    assert not any(isinstance(m, Gated) or m._forward_hooks or m._forward_pre_hooks for m in result.modules())


@pytest.mark.parametrize("model", ["vgg16_bn", "torchvision/mobilenet_v2"])
@pytest.mark.parametrize("name", METHODS)
def test_other_networks(name, model):
    x = images(2)
    result, _ = run(name, network(model), keep=0.5)
    if registry()[name].prunes:
        assert 0.48 <= count_macs(result, x) / count_macs(network(model), x) <= 0.5
    assert result.eval()(x).isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_weights(name):
    a, b = (run(name, network(), keep=0.5)[0].state_dict() for _ in range(2))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", METHODS)
def test_phases_cover_the_whole_training(name):
    method = registry()[name]
    phases = method.phases(method.Options())
    assert sum(p.share for p in phases) == pytest.approx(1.0)
    assert phases[0].peak is not None


@pytest.mark.parametrize("name", METHODS)
def test_every_option_is_described(name):
    for field_name, field in registry()[name].Options.model_fields.items():
        assert field.description, f"{name}: {field_name} has no description"


@pytest.mark.parametrize("keep", [0.0, 1.2])
def test_a_budget_out_of_range_is_refused(keep):
    for method in registry().values():
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            method(keep=keep, steps=10)


def test_uniform_at_full_budget_is_the_dense_network_bit_for_bit():
    dense, _ = run("dense", network(), keep=1.0)
    uniform, _ = run("uniform", network(), keep=1.0)
    a, b = dense.state_dict(), uniform.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_uniform_cuts_every_layer_alike():
    x = images(2)
    result, _ = run("uniform", network(), keep=0.5)
    shares = [
        small.out_channels / large.out_channels
        for (_, small), (_, large) in zip(result.named_modules(), network().named_modules(), strict=True)
        if isinstance(small, nn.Conv2d)
    ]
    assert max(shares) - min(shares) <= 1 / 16  # one channel of the narrowest layer
    assert 0.6 < min(shares) < 0.8  # a share s of channels costs about s squared
    assert count_macs(result, x) < count_macs(network(), x)


def test_the_library_stands_alone():
    """methods/ imports neither the harness nor the plots."""
    code = "import sys, methods; print([m for m in sys.modules if m.split('.')[0] in ('bench', 'plots')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
