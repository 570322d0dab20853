"""What gating leaves goes through torch.export, ONNX and safetensors like any other module."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from greenprune.bench.models import build
from greenprune.methods import ConsensusGating, GatingOptions
from greenprune.methods.structure.resizing import resize
from greenprune.methods.structure.surgery import evaluate
from torch import nn

from tests.methods.networks import batches, images
from tests.methods.traces import trace


@pytest.fixture(scope="module", params=["thin", "separable", "removed"])
def small(request: pytest.FixtureRequest) -> nn.Module:
    """The result of a short training, with at least one residual branch closed and channels cut."""
    torch.manual_seed(0)
    options = GatingOptions(closed_layers=request.param, search_share=0.9, open_share=0.1)
    gating = ConsensusGating(build("resnet20", 10, seed=0), images(2, 16), keep=0.5, steps=6, options=options).train()
    with torch.no_grad():  # as if the search had decided
        for branch in gating.structure.branches[1:3]:
            gating.logit_mean[branch.unit] = -50.0
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.05, momentum=0.9)
    for x, y in batches(6):
        (F.cross_entropy(gating(x), y) + gating.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        gating.step(optimizer)
    network = gating.finish().eval()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    if request.param == "removed":
        assert len(convolutions) <= 21 - 4
    else:
        assert len([m for m in convolutions if m.groups > 1]) >= 2
    assert len({m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)}) > 3
    return network


@pytest.mark.filterwarnings("ignore")  # of torch.export and onnxscript about themselves
def test_torch_export(small):
    x = images(2, 16)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(small, (x,), dynamic_shapes=({0: batch},))
    other = images(5, 16, seed=3)
    assert torch.allclose(program.module()(other), evaluate(small, other), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_onnx_computes_the_same(small, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    x, path = images(2, 16), tmp_path / "small.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(small, (x,), path, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    other = images(2, 16, seed=3)
    (got,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    difference = float(np.abs(got - evaluate(small, other).numpy()).max())
    print(f"ONNX: max |difference| {difference:.1e}")  # shown by -rP
    assert difference <= 1e-4


def test_safetensors_round_trip(small, tmp_path):
    from safetensors.torch import load_file, save_model

    save_model(small, str(tmp_path / "small.safetensors"))
    x, dense = images(2, 16), build("resnet20", 10, seed=1)
    again = resize(dense, trace(dense, x), load_file(tmp_path / "small.safetensors"))
    assert torch.equal(evaluate(again, x), evaluate(small, x))


@pytest.mark.parametrize("name", ["torchvision/regnet_y_400mf", "torchvision/convnext_tiny"])
def test_resize_rebuilds_grouped_convolutions_and_layer_norms(name):
    from greenprune.methods.budget.select import select
    from greenprune.methods.structure.surgery import remove

    model, x = build(name, 10, seed=0), images(2)
    structure = trace(model, x)
    scores = torch.rand(structure.units, generator=torch.Generator().manual_seed(0))
    small = remove(model, structure, select(structure, scores, 0.7, 0.02))
    dense = build(name, 10, seed=1)
    again = resize(dense, trace(dense, x), small.state_dict())
    assert torch.equal(evaluate(again, x), evaluate(small, x))
