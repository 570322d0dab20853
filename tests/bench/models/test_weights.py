"""Weights from files: whatever wrapped the network, and a sentence for what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from greenprune.bench import models
from greenprune.bench.errors import UserError
from greenprune.bench.models.kinds.kind import Pretrained
from greenprune.bench.models.positions import fitted
from greenprune.bench.models.weights import fit, heads_of, read_tensors
from safetensors.torch import save_file
from torch import nn


def network(classes: int = 10, seed: int = 0) -> nn.Module:
    return models.build("resnet20", classes, seed=seed)


def loaded(path: Path, classes: int = 10) -> nn.Module:
    model = network(classes, seed=9)
    fit(model, Pretrained(read_tensors(path, "weights"), path.name), classes)
    return model


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth"])
def test_weights_come_back_as_they_were(tmp_path, name):
    tensors = network().state_dict()
    (save_file if name.endswith("safetensors") else torch.save)(tensors, tmp_path / name)
    for key, tensor in loaded(tmp_path / name).state_dict().items():
        assert torch.equal(tensor, tensors[key]), key


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda tensors: {f"module.{key}": value for key, value in tensors.items()},
        lambda tensors: {f"_orig_mod.module.{key}": value for key, value in tensors.items()},
        lambda tensors: {"state_dict": {f"model.{key}": value for key, value in tensors.items()}, "epoch": 3},
        lambda tensors: {"model": tensors, "optimizer": {"state": {}, "param_groups": []}, "args": {"lr": 0.1}},
        lambda tensors: {"n_averaged": torch.tensor(4), **{f"module.{key}": value for key, value in tensors.items()}},
        lambda tensors: {key: value.half() for key, value in tensors.items()},
        lambda tensors: {k: value for k, value in tensors.items() if not k.endswith("num_batches_tracked")},
    ],
    ids=["parallel", "compiled", "lightning", "checkpoint", "averaged", "half", "old"],
)
def test_what_wraps_a_network_is_taken_off(tmp_path, wrapped):
    tensors = network().state_dict()
    torch.save(wrapped(tensors), tmp_path / "a.pt")
    found = loaded(tmp_path / "a.pt").state_dict()
    for key, tensor in tensors.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-3, atol=1e-5)


def test_a_network_whose_own_names_begin_like_a_wrapper_keeps_them(tmp_path):
    model = nn.Sequential()
    model.add_module("module", nn.Linear(3, 4))
    torch.save(model.state_dict(), tmp_path / "a.pt")
    other = nn.Sequential()
    other.add_module("module", nn.Linear(3, 4))
    fit(other, Pretrained(read_tensors(tmp_path / "a.pt", "weights"), "a"), 4)
    assert torch.equal(other.get_submodule("module").weight, model.get_submodule("module").weight)


def test_strided_convolutions_that_were_rewritten_get_the_weights_of_the_original():
    import torchvision

    original = torchvision.models.resnet18(num_classes=10)
    model = models.build("torchvision/resnet18", 10, seed=0)
    assert fit(model, Pretrained(original.state_dict(), "it"), 10) == ()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model.eval()(x), original.eval()(x))
    again = models.build("torchvision/resnet18", 10, seed=1)
    fit(again, Pretrained(model.state_dict(), "ours"), 10)
    assert torch.equal(again.eval()(x), model(x))


def test_a_head_of_other_classes_keeps_its_own_and_is_told():
    model, fresh = network(7), network(7).state_dict()
    given = network(100, seed=3).state_dict()
    (note,) = fit(model, Pretrained(given, "it"), 7)
    assert note == "the head fc was made anew for 7 classes: the weights have 100"
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, fresh[key] if key.startswith("fc.") else given[key]), key
    without = {key: value for key, value in given.items() if not key.startswith("fc.")}
    assert fit(network(7), Pretrained(without, "it"), 7) == (
        "the head fc was made anew for 7 classes: the weights have none",
    )


def test_heads_are_the_last_layers_with_as_many_outputs():
    two = nn.ModuleDict({"body": nn.Linear(3, 4), "inner": nn.Linear(4, 10), "out": nn.Linear(10, 8)})
    two["low"], two["high"] = nn.Conv2d(4, 10, 1), nn.Conv2d(4, 10, 1)
    assert heads_of(two, 10) == ("low", "high")
    assert heads_of(network(), 10) == ("fc",)


def test_layers_that_lead_to_the_last_one_are_no_heads_though_as_wide():
    for name in ("resnet20", "vit_tiny_cifar"):
        wide = models.build(name, 10, seed=0)
        last = [module for module in wide.modules() if isinstance(module, nn.Linear)][-1].in_features
        model = models.build(name, last, seed=0)
        assert heads_of(model, last) == heads_of(wide, 10)
        assert len(heads_of(model, last)) == 1
    flat = nn.Sequential(nn.Conv2d(1, 10, 3), nn.Flatten(), nn.Linear(360, 10))
    assert heads_of(flat, 10) == ("2",)


def broken(change: str) -> dict[str, torch.Tensor]:
    tensors = dict(network().state_dict())
    if change == "missing":
        for key in ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean"):
            del tensors[key]
    elif change == "wider":
        tensors["layer1.0.conv1.weight"] = torch.zeros(32, 16, 3, 3)
    elif change == "more":
        tensors["layer4.weight"] = torch.zeros(2)
    elif change == "infinite":
        tensors["bn1.bias"] = torch.full((16,), float("inf"))
    elif change == "complex":
        tensors["bn1.bias"] = torch.zeros(16, dtype=torch.complex64)
    elif change == "integers":
        tensors["fc.weight"] = torch.zeros(10, 64, dtype=torch.int8)
    elif change == "channels":
        tensors["conv1.weight"] = torch.zeros(16, 1, 3, 3)
    return tensors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", "conv1.weight is missing; bn1.weight is missing; bn1.bias is missing, and 1 more"),
        ("wider", "layer1.0.conv1.weight has the shape (32, 16, 3, 3), not (16, 16, 3, 3)"),
        ("more", "layer4.weight is not in the network"),
        ("infinite", "bn1.bias is not finite"),
        ("complex", "bn1.bias is of type complex64, not float32"),
        ("integers", "fc.weight is of type int8, not float32"),
        ("channels", "conv1.weight has the shape (16, 1, 3, 3), not (16, 3, 3, 3)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_changed(change, said):
    model, before = network(seed=4), network(seed=4).state_dict()
    with pytest.raises(UserError) as error:
        fit(model, Pretrained(broken(change), "results/x/dense-1-s0"), 10)
    assert str(error.value) == f"weights of results/x/dense-1-s0 do not fit: {said}"
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pt", b"no pickle", "is damaged or holds more than tensors"),
        ("a.safetensors", b"nothing", "cannot be read"),
        ("gone.pt", None, "there is no file"),
        ("gone.safetensors", None, "there is no file"),
        ("a.pt", [1, 2], "holds no tensors by name"),
        ("a.pt", {"epoch": 3}, "holds no tensors by name"),
        ("a.pt", nn.Linear(2, 2), "holds more than tensors"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, name, content, said):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(UserError) as error:
        read_tensors(tmp_path / name, 'weights = "it"')
    assert said in str(error.value)
    assert str(error.value).startswith('weights = "it": ')
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "before", "after", "patch"),
    [
        ("torchvision/vit_b_16", (3, 64, 64), (3, 96, 96), 16),
        ("timm/test_vit", (3, 160, 160), (3, 64, 128), 16),  # a picture that is no square
        ("timm/deit_tiny_distilled_patch16_224", (3, 96, 96), (3, 64, 64), 16),  # two rows before those of the patches
        ("vit_tiny_cifar", (3, 32, 32), (3, 48, 32), 4),
    ],
)
def test_positions_are_scaled_to_images_of_another_size(name, before, after, patch):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    given = models.build(name, 10, seed=0, shape=before).state_dict()
    model = models.build(name, 10, seed=1, shape=after)
    (note,) = fit(model, Pretrained(given, "it"), 10, after)
    own = model.state_dict()
    (key,) = [key for key, tensor in own.items() if tensor.shape != given[key].shape]
    rows, own_rows = given[key].shape[1], own[key].shape[1]
    assert note == (
        f"the positions {key} were scaled from {rows} to {own_rows} rows: the weights are of images of another size than "
        f"{after[1]}×{after[2]}"
    )
    assert all(torch.equal(tensor, given[k]) for k, tensor in own.items() if k != key)
    rows, columns = after[1] // patch, after[2] // patch
    first = own_rows - rows * columns
    assert torch.equal(own[key][:, :first], given[key][:, :first])
    assert model.eval()(torch.randn(1, *after)).shape == (1, 10)


def test_scaled_positions_keep_their_places():
    """A table whose first number grows from left to right and whose second from top to bottom does so afterwards."""
    down, right = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    given = torch.stack([right, down], -1).reshape(1, 64, 2)
    found = fitted("pos_embed", given, torch.zeros(1, 8, 2), (32, 64))
    assert found is not None
    grid = found.reshape(2, 4, 2)
    assert torch.allclose(grid[0, :, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]), atol=0.25)
    assert torch.allclose(grid[:, 0, 1], torch.tensor([1.5, 5.5]), atol=0.25)


@pytest.mark.parametrize(
    ("name", "given", "own"),
    [
        ("weight", (1, 16, 4), (1, 4, 4)),  # is not called one
        ("pos_embed", (1, 15, 4), (1, 4, 4)),  # no square
        ("pos_embed", (1, 16, 4), (1, 5, 4)),  # with a class token and without
        ("pos_embed", (1, 16, 4), (1, 4, 8)),  # of another width
        ("pos_embed", (1, 1, 4), (1, 4, 4, 4)),
    ],
)
def test_what_is_no_table_of_positions_does_not_fit(name, given, own):
    assert fitted(name, torch.zeros(given), torch.zeros(own), (32, 32)) is None


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda t: {**t, "fc.weight": t["fc.weight"].to_sparse()}, "fc.weight is sparse; allowed are dense tensors"),
        (lambda t: {**t, "fc.weight": t["fc.weight"].to_sparse_csr()}, "fc.weight is sparse; allowed are dense"),
        (lambda t: {**t, "fc.weight": t["fc.weight"].to("meta")}, "fc.weight is without values; allowed are dense"),
    ],
    ids=["sparse", "rows", "meta"],
)
@pytest.mark.filterwarnings("ignore:.*parse.*:UserWarning")  # of torch, of sparse tensors
def test_tensors_that_are_not_dense_are_refused(tmp_path, made, said):
    torch.save(made(network().state_dict()), tmp_path / "a.pt")
    with pytest.raises(UserError, match=said):
        loaded(tmp_path / "a.pt")


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path):
    checkpoint = {"epoch": 3}
    checkpoint["model"] = checkpoint
    torch.save(checkpoint, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds no tensors by name"):
        loaded(tmp_path / "a.pt")


def test_floats_of_8_bits_are_widened(tmp_path):
    tensors = network().state_dict()
    narrow = {key: t.to(torch.float8_e4m3fn) if t.is_floating_point() else t for key, t in tensors.items()}
    save_file(narrow, tmp_path / "a.safetensors")
    found = loaded(tmp_path / "a.safetensors").state_dict()
    assert torch.equal(found["fc.weight"], narrow["fc.weight"].float())
    narrow["fc.weight"] = torch.full_like(tensors["fc.weight"], float("nan")).to(torch.float8_e4m3fn)
    save_file(narrow, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"fc\.weight is not finite"):
        loaded(tmp_path / "a.safetensors")
