"""Networks of timm, torchvision and transformers by name, and the weights that are published for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from greenprune.bench import models
from greenprune.bench.errors import UserError
from greenprune.bench.models.kinds import hub
from greenprune.bench.models.named import is_users_own, kind_of
from greenprune.bench.models.weights import fit
from greenprune.methods import logits_of
from safetensors.torch import save_file

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

TINY_VIT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `tiny` in the working directory with the config of a small vision transformer."""
    monkeypatch.chdir(tmp_path)
    transformers.ViTConfig(**TINY_VIT).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and caches that are empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def unreachable(endpoint: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr(hub, "reach", unreachable)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("timm/test_vit", (1, 48, 64)),
        ("timm/test_resnet", (1, 40, 40)),
        ("timm/test_efficientnet.r160_in1k", (3, 32, 32)),
        ("torchvision/squeezenet1_1", (3, 48, 64)),
        ("torchvision/vit_b_16", (3, 48, 48)),
        ("hf/tiny", (1, 16, 24)),
        ("resnet20", (1, 28, 28)),
        ("vgg16_bn", (1, 64, 96)),
    ],
)
def test_networks_are_made_for_the_size_and_the_channels_of_the_images(tiny, name, shape):
    models.check(name)
    model = models.build(name, 7, seed=3, shape=shape).eval()
    assert logits_of(model(torch.zeros(2, *shape))).shape == (2, 7)
    again = models.build(name, 7, seed=3, shape=shape).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in model.state_dict().items())
    assert not is_users_own(name)


def test_a_network_for_masks_is_made_by_name() -> None:
    name = "torchvision/lraspp_mobilenet_v3_large"
    models.check(name)
    model = models.build(name, 4, seed=3, shape=(3, 32, 48)).eval()
    assert logits_of(model(torch.zeros(2, 3, 32, 48))).shape == (2, 4, 32, 48)


def test_a_factory_gets_what_it_takes(tmp_path, monkeypatch):
    (tmp_path / "sized_networks.py").write_text(
        "from torch import nn\n"
        "def net(classes, *, img_size, in_chans=3):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * img_size[0] * img_size[1], classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert models.build("sized_networks:net", 5, shape=(2, 4, 6))(torch.zeros(3, 2, 4, 6)).shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("timm/test_vitt", ['timm has no model "test_vitt"', 'did you mean "test_vit']),
        ("timm/test_vit.wrong", ['timm has no weights "wrong" of test_vit', "r160_in1k"]),
        ("hf/no such folder", ['there is no folder "no such folder"', "config.json"]),
        ("hf/" + "x" * 300, ['model = "hf/xxx', "cannot be looked for (File name too long)"]),
        ("hf/~nobody_/net", ['model = "hf/~nobody_/net": ~nobody_ is nobody\'s folder here']),
        ("hf/words", ['no image classifier of the type "bert"']),
        ("hf/empty", ["empty has no config.json"]),
        ("hf/broken", ["broken/config.json is no config of transformers"]),
    ],
)
def test_unknown_ones_are_refused_in_one_sentence(tiny, name, parts):
    for folder, content in (("words", '{"model_type": "bert"}'), ("broken", "{"), ("empty", None)):
        (tiny.parent / folder).mkdir()
        if content:
            (tiny.parent / folder / "config.json").write_text(content)
    with pytest.raises(UserError) as error:
        models.check(name)
    assert all(part in str(error.value) for part in parts), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "shape", "parts"),
    [
        ("torchvision/squeezenet1_1", (1, 64, 64), ["three channels", "the data has 1"]),
        ("torchvision/vit_b_16", (3, 32, 48), ["square", "32×48"]),
        ("hf/some/id", (3, 32, 32), ["some/id is not in the cache", "cannot be downloaded (OSError: no network)"]),
    ],
)
def test_images_that_a_network_does_not_take(name, shape, parts):
    with pytest.raises(UserError) as error:
        models.build(name, 10, shape=shape)
    assert all(part in str(error.value) for part in parts), str(error.value)


# Published weights, from a cache


def in_hub(root: Path, repository: str, files: dict[str, object]) -> None:
    """What the hub's client leaves in its cache after a download."""
    place = root / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / "a"
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a")
    for name, content in files.items():
        if isinstance(content, dict) and all(isinstance(v, torch.Tensor) for v in content.values()):
            save_file({key: value.contiguous() for key, value in content.items()}, snapshot / name)
        else:
            (snapshot / name).write_text(json.dumps(content))


@pytest.fixture
def cached(tmp_path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Weights of each library where that library looks for them."""
    torch.manual_seed(5)
    vit = timm.create_model("test_vit").state_dict()
    in_hub(tmp_path, "timm/test_vit.r160_in1k", {"model.safetensors": vit})
    config = transformers.ViTConfig(**TINY_VIT, num_labels=1000)
    hf = transformers.AutoModelForImageClassification.from_config(config).state_dict()
    preprocessor = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "size": {"height": 32, "width": 32}}
    in_hub(
        tmp_path,
        "some/vit",
        {"model.safetensors": hf, "config.json": config.to_dict(), "preprocessor_config.json": preprocessor},
    )
    import torchvision

    squeeze = torchvision.models.squeezenet1_1().state_dict()
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    torch.save(squeeze, tmp_path / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2])
    return {"timm/test_vit": vit, "hf/some/vit": hf, "torchvision/squeezenet1_1": squeeze}


@pytest.mark.parametrize(
    ("name", "which", "head", "mean"),
    [
        ("timm/test_vit", "DEFAULT", "head", (0.5, 0.5, 0.5)),
        ("timm/test_vit", "r160_in1k", "head", (0.5, 0.5, 0.5)),
        ("hf/some/vit", "DEFAULT", "classifier", (0.1, 0.2, 0.3)),
        ("torchvision/squeezenet1_1", "IMAGENET1K_V1", "classifier.1", (0.485, 0.456, 0.406)),
    ],
)
def test_published_weights_come_from_the_cache_and_the_head_is_made_anew(cached, name, which, head, mean):
    size = 160 if name.startswith("timm") else 32
    pretrained = kind_of(name).pretrained(name, which, (3, size, size))
    assert pretrained.preprocessing is not None
    assert pretrained.preprocessing.mean == pytest.approx(mean)
    model = models.build(name, 10, seed=0, shape=(3, size, size))
    fresh = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    (note,) = fit(model, pretrained, 10)
    assert note == f"the head {head} was made anew for 10 classes: the weights have 1,000"
    for key, tensor in model.state_dict().items():
        expected = fresh[key] if key.rpartition(".")[0] == head else cached[name][key]
        assert torch.equal(tensor, expected), key


def test_timm_fits_its_weights_to_channels_and_size(cached):
    pretrained = kind_of("timm/test_vit").pretrained("timm/test_vit", "DEFAULT", (1, 64, 64))
    model = models.build("timm/test_vit", 1000, seed=0, shape=(1, 64, 64))
    assert fit(model, pretrained, 1000) == ()
    first = cached["timm/test_vit"]["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(model.state_dict()["patch_embed.proj.weight"], first)


@pytest.mark.parametrize(
    ("name", "which", "parts"),
    [
        ("timm/test_vit", "DEFAULT", ["timm/test_vit.r160_in1k is not in the cache", "no network"]),
        ("timm/test_vit", "r160", ['no such weights (did you mean "r160_in1k"?)', "DEFAULT"]),
        ("timm/vit_tiny_patch16_18", "DEFAULT", ["timm has no model"]),
        ("torchvision/squeezenet1_1", "V3", ["no such weights", "IMAGENET1K_V1"]),
        ("hf/some/vit", "other", ["its own weights alone", "DEFAULT"]),
        ("resnet20", "DEFAULT", ["resnet20 has no published weights", ".safetensors"]),
        ("own:net", "DEFAULT", ["of own:net no published weights are known"]),
    ],
)
def test_weights_that_cannot_be_had(name, which, parts):
    with pytest.raises(UserError) as error:
        kind_of(name).pretrained(name, which, (3, 32, 32))
    assert all(part in str(error.value) for part in parts), str(error.value)
    assert "\n" not in str(error.value)


def test_torchvision_without_a_network(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"not in the cache and cannot be downloaded \(OSError: no network\)"):
        kind_of("torchvision/squeezenet1_1").pretrained("torchvision/squeezenet1_1", "DEFAULT", (3, 32, 32))
