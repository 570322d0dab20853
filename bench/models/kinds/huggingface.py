"""Image classifiers of transformers: `hf/<id>` of a model on the hub, or `hf/<folder>` with its config.json."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenprune.bench.data.reference import brief
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.models.kinds.hub import hub_file
from greenprune.bench.models.kinds.kind import Preprocessing, Pretrained, Shape
from greenprune.bench.paths import path_of
from greenprune.bench.text import plural

if TYPE_CHECKING:
    from torch import nn

PREFIX = "hf/"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
FILES = ("model.safetensors", "pytorch_model.bin")
ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


class HuggingFace:
    form = "hf/<model id or folder>"

    def takes(self, name: str) -> bool:
        return name.startswith(PREFIX)

    def known(self) -> list[str]:
        return []

    def check(self, name: str) -> None:
        """Of a folder, that it describes an image classifier; of an id, its form alone: the hub is asked later."""
        place = name.removeprefix(PREFIX)
        if _folder(name).is_dir():
            _config(name)
        elif not ID.fullmatch(place):
            raise UserError(
                f'model = "{name}": there is no folder "{place}", and it is no id of a model; allowed: hf/ and a folder with '
                f"a {CONFIG}, or an id such as microsoft/resnet-18"
            )
        else:
            _transformers(name)

    def make(self, name: str, classes: int, shape: Shape) -> nn.Module:
        """What the config says, with as many outputs, channels and pixels; no code of the folder or the hub is run."""
        config = _config(name)
        channels, height, width = shape
        config.num_labels = classes
        if hasattr(config, "num_channels"):
            config.num_channels = channels
        elif channels != 3:
            raise UserError(f"{name}: its config has no num_channels, and the data has {plural(channels, 'channel')}")
        if hasattr(config, "image_size"):
            config.image_size = height if height == width else (height, width)
        import torch

        return _transformers(name).AutoModelForImageClassification.from_config(config, dtype=torch.float32)

    def pretrained(self, name: str, which: str, shape: Shape) -> Pretrained:
        if which != "DEFAULT":
            raise UserError(
                f'weights = "{which}": {name} has its own weights alone; allowed: DEFAULT, a file of tensors, or the folder '
                "of a finished run"
            )
        from greenprune.bench.models.weights import read_tensors  # late: it imports torch

        path = _file(name, FILES, 'weights = "DEFAULT"')
        return Pretrained(read_tensors(path, 'weights = "DEFAULT"'), name, _preprocessing(name))


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError(
            f'model = "{name}": needs transformers, which is not installed; "pip install transformers" does'
        ) from None
    return transformers


def _folder(name: str) -> Path:
    """Where it lies if it is no id. Raises UserError: no folder can have this name."""
    return path_of(name.removeprefix(PREFIX), f'model = "{shortened(name)}"')


def _file(name: str, files: tuple[str, ...], wanted: str) -> Path:
    """One of `files`, of the folder or of the hub."""
    folder = _folder(name)
    if not folder.is_dir():
        return hub_file(name.removeprefix(PREFIX), files, wanted)
    for file in files:
        if (path := path_of(file, wanted, folder)).is_file():
            return path
    raise UserError(f"{wanted}: {folder} has no {' and no '.join(files)}")


def _config(name: str) -> Any:
    transformers = _transformers(name)
    path = _file(name, (CONFIG,), f'model = "{name}"')
    try:
        config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # a stranger's file
        raise UserError(f'model = "{name}": {path} is no config of transformers ({brief(error)})') from error
    if type(config) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise UserError(
            f'model = "{name}": transformers has no image classifier of the type "{config.model_type}"; allowed are those of '
            "AutoModelForImageClassification"
        )
    return config


def _preprocessing(name: str) -> Preprocessing | None:
    import json

    try:
        data = json.loads(_file(name, (PREPROCESSOR,), "").read_text(encoding="utf-8"))
        mean, std = (tuple(float(value) for value in data[key]) for key in ("image_mean", "image_std"))
        size = data.get("crop_size") or data.get("size") or {}
        known = isinstance(size, dict) and {"height", "width"} <= size.keys()
        return Preprocessing(mean, std, (int(size["height"]), int(size["width"])) if known else None)
    except (UserError, OSError, ValueError, KeyError, TypeError):  # it is good to know, and not needed
        return None
