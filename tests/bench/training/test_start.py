"""What a run starts from: networks and weights of others, those of a finished run, and what is said of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from greenprune.bench.cli.main import main
from greenprune.bench.data.splits import Split
from greenprune.bench.errors import UserError
from greenprune.bench.models.kinds.kind import Preprocessing, Pretrained
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import Record
from greenprune.bench.records.store import preprocessing_of
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.recipe import Training
from greenprune.bench.training.identity import network_hashes
from greenprune.bench.training.start import prepared, refuse_unfit, start_of
from greenprune.plots.frame.load import load
from greenprune.plots.tables.tables import markdown_text
from safetensors.torch import load_file, save_file

from tests.bench.training.test_loop import dataset
from tests.conftest import Story

SUITE = """
name = "others"
dataset = "digits"
train_images = 64
budgets = [0.5]
{0}
[training]
epochs = 1
batch_size = 32
learning_rate = 0.01
warmup_epochs = 0
{1}
[measurement]
inference_seconds = 0.02
inference_batch_sizes = [2]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a small vision transformer of transformers in it."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("others")
    transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    ).save_pretrained(folder / "tiny")
    return folder


def run(place: Path, monkeypatch: pytest.MonkeyPatch, top: str, recipe: str = "") -> int:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (place / "suites").mkdir(exist_ok=True)
    (place / "suites" / "others.toml").write_text(SUITE.format(top, recipe))
    return main(["run", "suites/others.toml", "--skip-measure", "--device", "cpu"])


def record(place: Path, key: str) -> Record:
    return read_record(place / "results" / "others" / key / "record.json")


def test_networks_of_three_libraries_are_trained_by_a_suite(place, monkeypatch):
    models = '["timm/test_vit", "torchvision/squeezenet1_1", "hf/tiny"]'
    assert run(place, monkeypatch, f'model = {models}\nmethods = [{{ name = "dense" }}]') == 0
    for name in ("timm-test_vit", "torchvision-squeezenet1_1", "hf-tiny"):
        done = record(place, f"{name}-dense-1-s0")
        assert (done.status, done.valid) == ("done", True)
    shutil.copytree(place / "results" / "others", place / "results" / "before")
    shutil.rmtree(place / "results" / "others")


def test_a_suite_starts_from_a_finished_run(place, monkeypatch, capsys):
    """The one before ran; its weights are found from the working directory, and from the suite's folder."""
    if not (place / "results" / "before").exists():
        test_networks_of_three_libraries_are_trained_by_a_suite(place, monkeypatch)
    before = place / "results" / "before" / "hf-tiny-dense-1-s0"
    methods = '[{ name = "dense" }, { name = "uniform" }]'
    recipe = 'optimizer = "adamw"\nfreeze = ["vit.embeddings"]\nema_decay = 0.5\nlayer_decay = 0.9'
    weights = 'weights = "../results/before/hf-tiny-dense-1-s0"'
    assert run(place, monkeypatch, f'model = "hf/tiny"\n{weights}\nmethods = {methods}', recipe) == 0
    dense, scratch = (record(place, f"{key}-s0") for key in ("dense-1", "uniform-0.5"))
    assert "pretrained: starts from before/hf-tiny-dense-1-s0" in dense.warnings
    assert "not pretrained: this method starts from initial weights" in scratch.warnings
    assert dense.identity.weights == scratch.identity.weights != read_record(before / "record.json").identity.weights
    ours = load_file(place / "results" / "others" / "dense-1-s0" / "model.safetensors")
    theirs = load_file(before / "model.safetensors")
    frozen = [name for name in ours if name.startswith("vit.embeddings.")]
    assert frozen
    assert all(torch.equal(ours[name], theirs[name]) for name in frozen)
    assert not torch.equal(ours["classifier.weight"], theirs["classifier.weight"])
    results = load(place / "results" / "others")
    assert set(results.runs["model"]) == {"hf/tiny (pretrained)"}
    from greenprune.plots.frame.comparison import comparison

    assert "Pretrained: training starts from weights that were trained before." in markdown_text(comparison(results))
    assert main(["verify", "results/others"]) == 0
    capsys.readouterr()
    # Where the weights lie is no part of the experiment; which ones they are is.
    shutil.copytree(before, place / "elsewhere")
    suite = "suites/others.toml"
    assert main(["run", suite, "--skip-measure", "--device", "cpu", "--set", "weights=elsewhere"]) == 0
    tensors = load_file(before / "model.safetensors")
    save_file({name: tensor + 0.01 for name, tensor in tensors.items()}, place / "other.safetensors")
    assert main(["run", suite, "--skip-measure", "--device", "cpu", "--set", 'weights="other.safetensors"']) == 2
    assert "other initial weights" in capsys.readouterr().err


# Of a finished run


def test_weights_of_a_run_are_those_that_it_stored(story: Story) -> None:
    folder = story.folder / "dense-1-s0"
    start = start_of("tiny_networks:tiny", str(folder))
    assert start is not None
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(start.tensors[name], tensor) for name, tensor in stored.items())
    assert start.source == "tiny/dense-1-s0"
    assert start.preprocessing == preprocessing_of(folder / "model.safetensors")
    assert start.preprocessing is not None
    assert start.preprocessing.image_size == (32, 32)


def test_a_run_that_was_altered_or_has_no_network_is_refused(story: Story, tmp_path: Path) -> None:
    def refused(change: str) -> str:
        folder = tmp_path / change / "dense-1-s0"
        shutil.copytree(story.folder / "dense-1-s0", folder)
        if change == "network":
            tensors = load_file(folder / "model.safetensors")
            save_file(tensors, folder / "model.safetensors", metadata={"model": "x"})
        elif change == "record":
            data = json.loads((folder / "record.json").read_text())
            (folder / "record.json").write_text(json.dumps(data | {"seed": 7}))
        elif change == "gone":
            (folder / "model.safetensors").unlink()
        else:
            (folder / "record.json").unlink()
        with pytest.raises(UserError) as error:
            start_of("tiny_networks:tiny", str(folder))
        return str(error.value)

    assert "model.safetensors is not the file that was stored" in refused("network")
    assert "was altered after it was written" in refused("record")
    assert "its network is not there" in refused("gone")
    assert "the folder has no record.json" in refused("nothing")


def test_images_are_normalised_as_those_of_the_weights() -> None:
    data = dataset()
    start = Pretrained({}, "it", Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    assert prepared(data, start).mean == (0.1, 0.2, 0.3)
    assert prepared(data, start).std == (0.4, 0.5, 0.6)
    assert prepared(data, None) is data
    assert prepared(data, Pretrained({}, "it")) is data
    floats = replace(data, train=Split(data.train.images.float(), data.train.targets))
    assert prepared(floats, start) is floats
    assert prepared(data, Pretrained({}, "grey", Preprocessing((0.1,), (0.4,)))) is data


@pytest.mark.parametrize("weights", ["~nobody_/a.pt", "a" * 300])
def test_weights_that_cannot_be_looked_for_are_said_with_their_key(weights: str) -> None:
    with pytest.raises(UserError, match=r'^weights = ".*": (~nobody_ is nobody|cannot be looked for)'):
        start_of("resnet20", weights)


# Where a suite looks for them


def suite_with(weights: str, folder: Path, model: str = '"resnet20"') -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "mine.toml"
    top = f'model = {model}\nweights = "{weights}"\nmethods = [{{ name = "dense" }}]'
    path.write_text(SUITE.format(top, ""))
    return str(path)


def test_weights_are_looked_for_beside_the_suite_then_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suite = suite_with("a.pt", tmp_path / "suites")
    (tmp_path / "a.pt").touch()
    assert load_suite(suite).weights == "a.pt"
    (tmp_path / "suites" / "a.pt").touch()
    assert load_suite(suite).weights == "suites/a.pt"
    monkeypatch.chdir(tmp_path / "suites")
    assert load_suite("mine.toml").weights == "a.pt"
    assert load_suite(suite_with("DEFAULT", tmp_path / "suites")).weights == "DEFAULT"


@pytest.mark.parametrize(
    ("weights", "model", "said"),
    [
        ("gone.pt", '"resnet20"', 'weights = "gone.pt": there is no such file or folder in'),
        ("results/gone", '"resnet20"', 'weights = "results/gone": there is no such file or folder in'),
        ("here.pt", '["resnet20", "vgg16_bn"]', 'weights = "here.pt": are of one network, and the suite has 2'),
        ("", '"resnet20"', 'weights = "": '),
    ],
)
def test_weights_that_are_not_there(weights, model, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.pt").touch()
    with pytest.raises(UserError) as error:
        load_suite(suite_with(weights, tmp_path / "suites", model))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("top", "recipe", "said"),
    [
        (
            'weights = "a.pt"',
            "",
            "weights of a.pt do not fit: conv1.weight has the shape (16, 1, 3, 3), not (16, 3, 3, 3)",
        ),
        ('weights = "DEFAULT"', "", 'weights = "DEFAULT": resnet20 has no published weights'),
        ("", 'freeze = ["layer7"]', 'training.freeze: "layer7" is no part of the network (did you mean "layer'),
        ("", 'optimizer = "no_such_module:make"', 'training.optimizer = "no_such_module:make": there is no module'),
    ],
)
def test_what_cannot_start_is_said_before_anything_runs(top, recipe, said, tmp_path, monkeypatch, capsys):
    from greenprune.bench import models

    monkeypatch.chdir(tmp_path)
    tensors = models.build("resnet20", 10).state_dict() | {"conv1.weight": torch.zeros(16, 1, 3, 3)}
    torch.save(tensors, tmp_path / "a.pt")
    methods = 'model = "resnet20"\nmethods = [{ name = "dense" }]'
    (tmp_path / "mine.toml").write_text(SUITE.format(f"{methods}\n{top}", recipe))
    assert main(["run", "mine.toml", "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert said in " ".join(told.split())
    assert not list(tmp_path.glob("results/*/*"))


def test_weights_of_images_of_another_size_start_a_network(tmp_path):
    from greenprune.bench import models

    model, shape = "vit_tiny_cifar", (3, 64, 64)
    torch.save(models.build(model, 10).state_dict(), tmp_path / "a.pt")
    start = start_of(model, str(tmp_path / "a.pt"), shape)
    refuse_unfit(model, str(tmp_path / "a.pt"), Training(epochs=1), 10, shape)
    assert network_hashes(model, 10, 0, shape, start) != network_hashes(model, 10, 0, shape)
