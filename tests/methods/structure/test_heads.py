"""Heads of attention, and the sizes that are written into the code around them."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating, GatingOptions
from greenprune.methods.gating.wiring import unwrap
from greenprune.methods.structure.resizing import resize
from greenprune.methods.structure.surgery import evaluate, masked, remove
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn

from tests.methods.structure.heads import (
    DIM,
    HEADS,
    KINDS,
    LENGTH,
    Around,
    Packed,
    build,
    half,
    inputs,
)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_go_as_units(kind):
    model, x = build(kind), inputs()
    structure = trace(model, x)
    widths = {g.name: g.width for g in structure.groups if g.name.startswith("attention")}
    own = {name: width for name, width in widths.items() if name not in ("attention.key", "attention.value")}
    assert list(own.values()) == [KINDS[kind][1]]
    dense = evaluate(model, x)
    for seed in range(3):
        keep = half(structure, seed)
        with masked(model, structure, keep):
            expected = evaluate(model, x)
        small = remove(copy.deepcopy(model), structure, keep)
        got = evaluate(small, x)
        assert (got - expected).abs().max() <= 1e-5 * dense.abs().max()
        assert (got - dense).abs().max() > 1e-3
        other = inputs(7)  # nothing of the batch's size is written into the code
        assert torch.allclose(evaluate(small, other)[:3], evaluate(small, other[:3]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gates_on_heads_say_what_removal_does(kind):
    model, x = build(kind), inputs()
    options = GatingOptions(layers=False)
    gating = ConsensusGating(model, x, keep=1.0, steps=10, options=options)
    gating.steps_done = 3
    beside = ("attention.key", "attention.value")
    name = next(g.name for g in gating.structure.groups if g.name.startswith("attention") and g.name not in beside)
    units = next(g.units for g in gating.structure.groups if g.name == name)
    assert gating.gated[units].all()
    keep = half(gating.structure, 0, gating.gated)
    gating.logit_mean.copy_(torch.where(keep, 5.0, -5.0))
    by_gates = evaluate(gating, x)
    unwrap(gating.network)
    removed = evaluate(remove(gating.network, gating.structure, keep), x)
    assert (by_gates - removed).abs().max() <= 1e-5 * removed.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_ends_in_a_plain_network_that_is_stored_rebuilt_and_exported(kind):
    model, x = build(kind), inputs(8)
    dense = copy.deepcopy(model)
    options = GatingOptions(search_share=0.8, open_share=0.1, layers=False)
    gating = ConsensusGating(model.train(), x[:2], keep=0.7, steps=8, tolerance=0.2, options=options)
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.01, momentum=0.9)
    for step in range(8):
        (F.cross_entropy(gating(x), torch.arange(8) % 10) + gating.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        gating.step(optimizer)
        if step == 2:  # the heads' gates hear what comes in and learn
            assert all(p.grad is None for p in gating.parameters())
    small = gating.finish().eval()
    assert gating.masked_max_abs_diff <= 1e-5
    expected = evaluate(small, x)
    again = resize(dense, trace(dense, x[:2]), small.state_dict())
    assert torch.equal(evaluate(again, x), expected)
    assert torch.equal(evaluate(copy.deepcopy(small), x), expected)
    twice = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(small))))
    assert torch.equal(evaluate(twice, x), expected)
    program = torch.export.export(small, (x,))
    assert torch.allclose(program.module()(x), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # of torch.export and onnxscript about themselves
@pytest.mark.parametrize("kind", ["packed", "multihead", "multihead, three weights", "a table that is asked"])
def test_onnx_of_a_network_with_fewer_heads_computes_the_same(kind, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x = build(kind), inputs()
    structure = trace(model, x)
    keep = half(structure, 2)
    with masked(model, structure, keep):
        expected = evaluate(model, x)
    small, path = remove(model, structure, keep).eval(), tmp_path / "small.onnx"
    torch.onnx.export(small, (x,), path, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert (torch.from_numpy(got) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_what_is_stored_needs_nothing_of_this_package(tmp_path):
    layer = nn.TransformerEncoderLayer(DIM, HEADS, 32, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.Linear(6, DIM), layer, nn.Flatten(), nn.Linear(DIM * LENGTH, 10)).eval()
    x = inputs()
    structure = trace(model, x)
    small = remove(model, structure, half(structure, 1))
    torch.save((small, x, evaluate(small, x)), tmp_path / "small.pt")
    code = (
        "import sys, torch\n"
        f"small, x, expected = torch.load({str(tmp_path / 'small.pt')!r}, weights_only=False)\n"
        "assert torch.allclose(small(x), expected, atol=1e-5)\n"
        "assert not any(name.startswith('greenprune') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask", [None, "bool", "float", "heads"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True, "add_zero_attn": True}], ids=["plain", "extended"])
def test_an_attention_that_lost_no_head_computes_what_pytorch_does(batch_first, mask, padded, options):
    from greenprune.methods.structure.attention import cut_heads

    torch.manual_seed(1)
    attention = nn.MultiheadAttention(DIM, HEADS, batch_first=batch_first, **options).eval()
    q, k = torch.randn(2, LENGTH, DIM), torch.randn(2, 7, DIM)
    given = {
        None: None,
        "bool": torch.rand(LENGTH, 7) < 0.3,
        "float": torch.randn(LENGTH, 7),
        "heads": torch.randn(2 * HEADS, LENGTH, 7),
    }[mask]
    padding = torch.arange(7).expand(2, 7) >= torch.tensor([[7], [5]]) if padded else None
    if padding is not None and mask in ("float", "heads"):  # masks of one kind
        padding = torch.zeros(2, 7).masked_fill(padding, float("-inf"))
    q, k = (q, k) if batch_first else (q.transpose(0, 1), k.transpose(0, 1))
    own = copy.deepcopy(attention)
    cut_heads(own, torch.arange(3 * DIM), torch.arange(DIM), None)
    for weights in ({"need_weights": False}, {}, {"average_attn_weights": False}):
        arguments = {"attn_mask": given, "key_padding_mask": padding, **weights}
        expected, got = attention(q, k, k, **arguments), own(q, k, k, **arguments)
        assert torch.allclose(got[0], expected[0], atol=1e-6)
        assert (got[1] is None) == (expected[1] is None)
        assert got[1] is None or torch.allclose(got[1], expected[1], atol=1e-6)
    single = (t.select(0 if batch_first else 1, 0) for t in (q, k, k))
    expected = attention(*(t.select(0 if batch_first else 1, 0) for t in (q, k, k)))
    got = own(*single)
    assert torch.allclose(got[0], expected[0], atol=1e-6)
    assert torch.allclose(got[1], expected[1], atol=1e-6)


def test_a_mask_for_each_head_is_that_of_the_heads_left():
    from greenprune.methods.structure.attention import cut_heads

    torch.manual_seed(1)
    attention, x = nn.MultiheadAttention(DIM, HEADS, batch_first=True).eval(), torch.randn(2, LENGTH, DIM)
    mask = torch.randn(2 * HEADS, LENGTH, LENGTH)
    width = DIM // HEADS
    rows = torch.cat([torch.arange(width, 3 * width) + part * DIM for part in range(3)])  # heads 1 and 2
    expected = copy.deepcopy(attention)
    with torch.no_grad():
        for tensor in (expected.in_proj_weight, expected.in_proj_bias):
            tensor[[i for i in range(3 * DIM) if i not in rows.tolist()]] = 0.0
    cut_heads(attention, rows, torch.arange(DIM), None)
    attention.out_proj.weight = nn.Parameter(attention.out_proj.weight[:, width : 3 * width].detach())
    got = attention(x, x, x, attn_mask=mask, need_weights=False)[0]
    assert torch.allclose(got, expected(x, x, x, attn_mask=mask, need_weights=False)[0], atol=1e-6)


def test_values_kept_for_evaluation_do_not_outlive_a_cut():
    class Cached(Packed):
        """As timm's levit: biases are gathered once and kept until training goes on."""

        def __init__(self) -> None:
            super().__init__()
            self.biases, self.kept = nn.Parameter(torch.randn(HEADS, LENGTH)), None
            self.index = torch.arange(LENGTH).expand(LENGTH, LENGTH)

        def train(self, mode: bool = True) -> nn.Module:
            if mode:
                self.kept = None
            return super().train(mode)

        def forward(self, x: Tensor) -> Tensor:
            b, n, _ = x.shape
            if self.kept is None or self.training:
                self.kept = self.biases[:, self.index]
            q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
            return self.proj(((q @ k.transpose(-2, -1) + self.kept).softmax(-1) @ v).transpose(1, 2).flatten(2))

    torch.manual_seed(0)
    model, x = Around(Cached()).eval(), inputs()
    evaluate(model, x)
    structure = trace(model, x)
    assert "attention.qkv" in {g.name for g in structure.groups}
    keep = half(structure, 0)
    with masked(model, structure, keep):
        expected = evaluate(model, x)
    assert torch.allclose(evaluate(remove(model, structure, keep), x), expected, atol=1e-5)


def test_rotary_frequencies_stay_whole_and_heads_go():
    class Rotary(Packed):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("frequencies", 10.0 ** -torch.linspace(0, 1, self.head_dim // 2), persistent=False)

        def turn(self, x: Tensor) -> Tensor:
            angle = torch.arange(x.shape[2])[:, None].to(self.frequencies) * self.frequencies
            angle = torch.cat([angle, angle], dim=-1)
            a, b = x.chunk(2, dim=-1)
            return x * angle.cos() + torch.cat([-b, a], dim=-1) * angle.sin()

        def forward(self, x: Tensor) -> Tensor:
            shape = (*x.shape[:2], -1, self.head_dim)
            q, k, v = (t.reshape(shape).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
            x = F.scaled_dot_product_attention(self.turn(q), self.turn(k), v)
            return self.proj(x.transpose(1, 2).flatten(2))

    torch.manual_seed(0)
    structure = trace(Around(Rotary()).eval(), inputs())
    assert {g.name: g.width for g in structure.groups}["attention.qkv"] == HEADS
