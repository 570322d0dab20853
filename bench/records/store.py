"""Keeping a run's network, and giving it back as a plain module."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from greenprune.bench import models
from greenprune.bench.errors import UserError
from greenprune.methods.skipping.skip import SkippingNetwork, rebuild
from greenprune.methods.structure.surgery import resize
from greenprune.methods.structure.trace import trace
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

MODEL_FILE = "model.safetensors"


def save_model(model: nn.Module, folder: Path, *, name: str, classes: int, input_shape: tuple[int, int, int]) -> Path:
    """Write `folder/model.safetensors`: the tensors, and in its metadata what is needed to rebuild the network.

    Args:
        name: of the dense model, as in a suite.
        input_shape: (channels, height, width) of one image.
    """
    path = folder / MODEL_FILE
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.state_dict().items()}
    about = {"model": name, "classes": str(classes), "input_shape": json.dumps(input_shape)}
    if isinstance(model, SkippingNetwork):
        about["gates"] = model.layout.model_dump_json()  # it keeps its gates
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata=about)
    temporary.replace(path)
    return path


def load_model(folder: str | Path) -> nn.Module:
    """The network of one run, `results/<suite>/<key>`: pruned, on the CPU, in eval mode.

    It is a plain module, but for `dynamic`, whose network keeps its gates and skips.

    Raises:
        UserError: there is no stored network, or it does not fit the model it says it came from.
    """
    path = Path(folder) / MODEL_FILE
    if not path.is_file():
        raise UserError(f"{path}: there is no stored network; run the suite again to make one")
    try:
        with safe_open(path, framework="pt") as stored:
            about = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - it is no dict
    except SafetensorError as e:
        raise UserError(f"{path}: not a readable safetensors file ({e})") from None
    if missing := {"model", "classes", "input_shape"} - about.keys():
        raise UserError(f"{path}: its metadata lacks {', '.join(sorted(missing))}; greenprune did not write it")
    model = models.build(about["model"], int(about["classes"]), seed=0)
    example = torch.zeros(2, *json.loads(about["input_shape"]))
    try:
        if "gates" in about:
            return rebuild(model, about["gates"], tensors).eval()
        return resize(model, trace(model, example), tensors).eval()
    except ValueError as e:
        raise UserError(f"{path}: {' '.join(str(e).split())}") from None
