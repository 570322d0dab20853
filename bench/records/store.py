"""Keeping a run's network, and giving it back as a plain module."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
from greenprune.bench import models
from greenprune.bench.data.data import Dataset
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.models.kinds.kind import Preprocessing, Shape
from greenprune.bench.models.named import is_users_own
from greenprune.bench.records.record import MODEL_FILE, Record
from greenprune.methods.skipping.skip import SkippingNetwork, rebuild
from greenprune.methods.structure.resizing import resize
from greenprune.methods.structure.trace import trace
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn


def save_model(
    model: nn.Module,
    folder: Path,
    *,
    name: str,
    classes: int,
    input_shape: Shape,
    preprocessing: Preprocessing | None = None,
) -> Path:
    """Write `folder/model.safetensors`: the tensors, and in its metadata what is needed to rebuild the network.

    Args:
        name: of the dense model, as in a suite.
        input_shape: (channels, height, width) of one image.
        preprocessing: of the images that it was trained on.
    """
    path = folder / MODEL_FILE
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.state_dict().items()}
    about = {"model": name, "classes": str(classes), "input_shape": json.dumps(input_shape)}
    if preprocessing is not None:
        about |= {"mean": json.dumps(preprocessing.mean), "std": json.dumps(preprocessing.std)}
    if isinstance(model, SkippingNetwork):
        about["gates"] = model.layout.model_dump_json()  # it keeps its gates
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)  # should it be a link, nothing is written to where it leads
    save_file(tensors, temporary, metadata=about)
    temporary.replace(path)
    return path


Channels = Annotated[tuple[float, ...], Field(min_length=1, max_length=64)]


class About(BaseModel):
    """What stands beside the tensors: of which network they are. From a stranger, so bounded."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model: str = Field(max_length=200)
    classes: int = Field(ge=1, le=100_000)
    input_shape: tuple[
        Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]
    ]
    gates: str | None = None
    mean: Channels | None = None
    std: Channels | None = None


def load_model(folder: str | Path, *, trust: bool | Collection[str] = False) -> nn.Module:
    """The network of one run, `results/<suite>/<key>`: pruned, on the CPU, in eval mode.

    It is a plain module, but for `dynamic`, whose network keeps its gates and skips.

    Args:
        trust: whether a network `module:factory` may be made, for which the module is imported and so run, also from the
            working directory; or which ones may be. Without it only networks of greenprune, torchvision, timm and
            transformers are made, and no code is run that the folder names. Of a network `hf/<id>` the configuration comes
            from the Hugging Face hub: from the user's cache, else downloaded.

    Raises:
        UserError: there is no stored network, it does not fit the model it says it came from, or that one is not trusted.
    """
    path = Path(folder) / MODEL_FILE
    about, tensors = _read(path)
    if is_users_own(about.model) and not (trust if isinstance(trust, bool) else about.model in trust):
        module = about.model.partition(":")[0]
        raise UserError(
            f"{path}: its network is {shortened(about.model)}, for which the module {shortened(module)} would be imported "
            "and run; where you know that module, allow it with --trust, in Python with trust=True"
        )
    model = models.build(about.model, about.classes, seed=0, shape=about.input_shape)
    try:
        if about.gates is not None:
            return rebuild(model, about.gates, tensors).eval()
        return resize(model, trace(model, torch.zeros(2, *about.input_shape)), tensors).eval()
    except (ValueError, RuntimeError, RecursionError) as e:
        raise UserError(f"{path}: {shortened(' '.join(str(e).split()), 300)}") from None


def as_trained(data: Dataset, record: Record, folder: Path) -> Dataset:
    """The data as the run in `folder` was given it: normalised as the weights say that it started from.

    Raises:
        UserError: as `load_model`.
    """
    known = None if record.settings.get("weights") is None else preprocessing_of(folder / MODEL_FILE)
    return data if known is None else replace(data, mean=known.mean, std=known.std)


def preprocessing_of(path: Path) -> Preprocessing | None:
    """Of the images that a stored network was trained on; None where it does not say. Raises UserError: as `load_model`."""
    about, _ = _read(path)
    if about.mean is None or about.std is None:
        return None
    return Preprocessing(about.mean, about.std, about.input_shape[1:])


def about_stored(folder: str | Path) -> About:
    """Of which network the one is that a run's folder holds. Raises UserError: there is none that can be read."""
    return _read(Path(folder) / MODEL_FILE)[0]


def _read(path: Path) -> tuple[About, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise UserError(f"{path}: there is no stored network; run the suite again with --remake to make one")
    try:
        with safe_open(path, framework="pt") as stored:
            about = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError, ValueError) as e:
        raise UserError(f"{path}: not a readable safetensors file ({shortened(str(e))})") from None
    if missing := {"model", "classes", "input_shape"} - about.keys():
        raise UserError(f"{path}: its metadata lacks {', '.join(sorted(missing))}; greenprune did not write it")
    try:
        lists = {key: json.loads(about[key]) for key in ("input_shape", "mean", "std") if key in about}
        return About.model_validate({**about, **lists}), tensors
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']}; greenprune did not write it") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: its input_shape, mean or std is no list; greenprune did not write it") from None
