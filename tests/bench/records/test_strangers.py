"""A results folder from a stranger: nothing that it names is run, and nothing is written to where its links lead."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from greenprune.bench import models
from greenprune.bench.cli.main import main
from greenprune.bench.data.content import file_hash
from greenprune.bench.errors import UserError
from greenprune.bench.records.record import MODEL_FILE, write_record
from greenprune.bench.records.store import load_model, save_model
from greenprune.methods import count_macs
from safetensors.torch import save_file

from tests.plots.records import agreeing, record

EVIL = """
from pathlib import Path
Path("it-ran").write_text("")
from greenprune.bench.models.resnet import resnet
def net(classes):
    return resnet(20, classes)
class Method:
    pass
"""
SETTINGS = {
    "dataset": "digits",
    "device": "cpu",
    "training": {"precision": "float32", "channels_last": False},
    "measurement": {"inference_batch_sizes": [1], "inference_seconds": 0.01},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two runs whose records and networks name a module that lies in the working directory."""
    (tmp_path / "strangers_code.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    found = tmp_path / "results" / "theirs"
    network = models.build("resnet20", 10, seed=0)
    macs = count_macs(network, torch.zeros(2, 3, 32, 32))
    for name in ("dense", "gated"):
        reference = name if name == "dense" else "strangers_code:Method"
        method = {"name": reference, "label": name, "options": {}}
        made = record(name, suite="theirs", settings={**SETTINGS, "method": method, "model": "strangers_code:net"})
        assert made.cost is not None
        cost = made.cost.model_copy(update={"macs": macs, "macs_dense": macs})
        changes = {"cost": cost, "key": name, "machine": {**made.machine, "threads": 1}}
        (found / name).mkdir(parents=True)
        stored = save_model(network, found / name, name="strangers_code:net", classes=10, input_shape=(3, 32, 32))
        changes |= {"method_name": reference, "files": {stored.name: file_hash(stored)}}
        write_record(agreeing(made.model_copy(update=changes)), found / name)
    yield found
    sys.modules.pop("strangers_code", None)


def test_no_command_imports_what_a_results_folder_names(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--out", "page"]) == 0
    assert main(["compare", str(folder), str(folder)]) == 0
    assert main(["verify", str(folder)]) in (0, 1)
    assert main(["measure", str(folder)]) == 2
    assert not Path("it-ran").exists()
    told = capfd.readouterr().err
    assert "the module strangers_code would be imported" in told
    assert "--trust" in told
    assert "Traceback" not in told


def test_a_network_of_a_strangers_module_is_made_only_for_who_trusts_it(folder: Path) -> None:
    for trust in (False, ("other:net",)):
        with pytest.raises(
            UserError, match=r"its network is strangers_code:net, .* module strangers_code .* trust=True"
        ):
            load_model(folder / "dense", trust=trust)
    assert not Path("it-ran").exists()
    assert load_model(folder / "dense", trust=("strangers_code:net",))(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert Path("it-ran").exists()


@pytest.mark.parametrize("name", ["resnet20", "torchvision/resnet18"])
def test_networks_of_known_libraries_need_no_trust(tmp_path: Path, name: str) -> None:
    save_model(models.build(name, 10, seed=0), tmp_path, name=name, classes=10, input_shape=(3, 32, 32))
    assert load_model(tmp_path)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(
    "about",
    [
        {"model": "torchvision/os:system"},
        {"model": "../resnet20"},
        {"model": "resnet20\x1b[31m"},
        {"model": "r" * 100_000},
        {"classes": "ten"},
        {"classes": str(10**12)},
        {"classes": "-1"},
        {"input_shape": "[3, 1000000, 1000000]"},
        {"input_shape": "[" * 5000},
        {"input_shape": "{}"},
        {"input_shape": "[3]"},
        {"gates": "{"},
        {"gates": '{"branches": [], "channels": [], "hidden": 999999999999}'},
        {"gates": '{"branches": [{"first": "__class__", "end": "fc"}], "channels": [], "hidden": 4}'},
    ],
)
def test_odd_metadata_is_said_in_one_sentence(tmp_path: Path, about: dict[str, str]) -> None:
    good = {"model": "resnet20", "classes": "10", "input_shape": "[3, 32, 32]"}
    save_file(models.build("resnet20", 10, seed=0).state_dict(), tmp_path / MODEL_FILE, metadata=good | about)
    with pytest.raises(UserError) as caught:
        load_model(tmp_path)
    (line,) = str(caught.value).splitlines()
    assert len(line) < 700


class Boom:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("it-ran",)


def test_a_pickle_in_the_place_of_tensors_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / MODEL_FILE).write_bytes(pickle.dumps(Boom()))
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_model(tmp_path)
    assert not Path("it-ran").exists()


def test_nothing_is_written_to_where_a_folders_links_lead(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in (".lock", "report.html", "table.csv"):
        (mine / name).write_text("precious")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(mine / name)
    (mine / "score_against_macs.png").write_text("precious")
    (folder / "figures").symlink_to(mine)
    assert main(["measure", str(folder), "--trust", "--seconds", "0.01"]) == 2
    assert "lock" in capfd.readouterr().err
    assert main(["report", str(folder)]) == 2
    assert "figures: is a link" in capfd.readouterr().err
    assert {path.name: path.read_text() for path in mine.iterdir()} == dict.fromkeys(
        (".lock", "report.html", "table.csv", "score_against_macs.png"), "precious"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 5000, "nested too deeply"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested more than 50 deep"),
        ('{"schema_version": 1, "seed": ' + "9" * 30 + "}", "beyond 64 bits"),
        ('{"schema_version": 1, "schema_version": 1}', "schema_version is there twice"),
        ('{"schema_version": 1, "key": "a\\ud800"}', "can't encode character"),
        ('{"schema_version": 1, "seed": NaN}', "seed is nan"),
        ('{"schema_version": 1, "seed": 1e999}', "seed is inf"),
        ("", "JSON is broken"),
        ("\0", "JSON is broken"),
        ("null", "schema_version is missing"),
    ],
)
def test_odd_files_are_named_and_hide_no_others(
    folder: Path, text: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = folder / "gated" / "record.json"
    path.write_text(text)
    assert main(["report", str(folder), "--out", "page"]) == 2
    told = capfd.readouterr().err
    assert str(path) in told
    assert why in told
    assert "Traceback" not in told
    assert "dense" in Path("page/table.csv").read_text()


def test_a_file_too_large_or_no_file_is_named_without_being_read(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    large, pipe = folder / "gated" / "record.json", folder / "dense" / "record.json"
    stored = json.loads(pipe.read_text())
    assert stored
    with large.open("wb") as file:
        file.truncate(2**31)
    pipe.unlink()
    os.mkfifo(pipe)
    assert main(["report", str(folder), "--out", "page"]) == 2
    told = capfd.readouterr().err
    assert f"{large}: " in told
    assert "2,048 MiB" in told
    assert f"{pipe}: cannot be read (it is no file)" in told
