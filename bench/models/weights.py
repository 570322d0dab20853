"""Weights from a file into a network: names that wrappers changed, a head of other classes, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from greenprune.bench.data.reference import brief
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.models.kinds.kind import SAFETENSORS, SMALL, Pretrained, Shape
from greenprune.bench.models.positions import fitted
from greenprune.bench.models.traps import Subsample
from greenprune.bench.text import plural
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

NESTED = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
"""Where checkpoints of training loops keep the network's tensors, among other things."""

DEEPEST = 3
"""So far down tensors are looked for: a checkpoint may hold itself."""

WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""Of DataParallel and AveragedModel, of torch.compile, of other people's training loops."""

COUNTERS = ("n_averaged",)
"""Of AveragedModel, beside the network's own."""

MOST = 3
"""Mismatches that are named."""


def read_tensors(path: Path, wanted: str) -> dict[str, Tensor]:
    """The tensors of a network that a file holds. Nothing in it is executed.

    Args:
        path: `.safetensors`, or what `torch.save` made of a state dict, alone or among other things of a checkpoint.
        wanted: to begin a sentence with.

    Raises:
        UserError: it cannot be read, is cut off, or holds no tensors of a network, or such as are not dense.
    """
    try:
        if path.suffix in SAFETENSORS:
            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{wanted}: there is no file {path}") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{wanted}: {path} cannot be read ({shortened(brief(error))})") from None
    except Exception as error:  # what comes out depends on what a stranger put in
        raise UserError(
            f"{wanted}: {path} is damaged or holds more than tensors ({shortened(brief(error))}); allowed is what "
            "torch.save(model.state_dict(), ...) writes"
        ) from None
    found = _tensors_in(stored)
    for key, tensor in (found or {}).items():
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
            kind = "without values" if tensor.is_meta else "nested" if tensor.is_nested else "sparse"
            raise UserError(
                f"{wanted}: {path}: {shortened(key)} is {kind}; allowed are dense tensors with their values"
            )
    if found is None:
        raise UserError(
            f"{wanted}: {path} holds no tensors by name; allowed is what torch.save(model.state_dict(), ...) writes, alone "
            f"or under {', '.join(NESTED)}"
        )
    return found


def _tensors_in(stored: Any, deep: int = 0) -> dict[str, Tensor] | None:
    if not isinstance(stored, Mapping) or deep > DEEPEST:
        return None
    for key in NESTED:
        if isinstance(stored.get(key), Mapping) and (inner := _tensors_in(stored[key], deep + 1)):
            return inner
    if stored and all(isinstance(key, str) for key in stored):
        tensors = {key: value.detach() for key, value in stored.items() if isinstance(value, Tensor)}
        if len(tensors) == len(stored):
            return tensors
    return None


@torch.no_grad()
def fit(model: nn.Module, pretrained: Pretrained, classes: int, shape: Shape = SMALL) -> tuple[str, ...]:
    """Give `model` the weights, in place. A head of another number of classes keeps its own; positions that were learned for
    images of another size are scaled to this one.

    Args:
        model: as `models.build` makes it.
        classes: its outputs.
        shape: channels, height and width of its images.

    Returns:
        What a reader has to know, a sentence each without its full stop.

    Raises:
        UserError: they are of another network; names the first three mismatches.
    """
    own = dict(model.state_dict())
    tensors = {key: _wide(tensor) for key, tensor in _named_as(own, model, pretrained).items()}
    heads = heads_of(model, classes)
    of_heads = {key for key in own if key.rpartition(".")[0] in heads}
    anew, wrong, scaled = set(), [], {}
    for key, tensor in own.items():
        given = tensors.get(key)
        if given is None:
            if key in of_heads:
                anew.add(key.rpartition(".")[0])
            elif not key.endswith("num_batches_tracked"):
                wrong.append(f"{key} is missing")
        elif tensor.is_floating_point() and not given.is_floating_point():
            wrong.append(f"{key} is of type {_type(given)}, not {_type(tensor)}")
        elif given.is_floating_point() and not bool(given.isfinite().all()):
            wrong.append(f"{key} is not finite")
        elif given.shape != tensor.shape:
            if key in of_heads and given.shape[1:] == tensor.shape[1:]:
                anew.add(key.rpartition(".")[0])
            elif (table := fitted(key, given, tensor, shape[1:])) is not None:
                scaled[key] = table
            else:
                wrong.append(f"{key} has the shape {tuple(given.shape)}, not {tuple(tensor.shape)}")
    wrong += [f"{key} is not in the network" for key in tensors if key not in own]
    if wrong:
        more = f", and {len(wrong) - MOST:,} more" if len(wrong) > MOST else ""
        raise UserError(f"weights of {pretrained.source} do not fit: {'; '.join(wrong[:MOST])}{more}")
    before = {name: _outputs(tensors, name) for name in anew}
    for key, tensor in own.items():
        if key in tensors and key.rpartition(".")[0] not in anew:
            tensor.copy_(scaled.get(key, tensors[key]))
    positions = tuple(
        f"the positions {key} were scaled from {_rows(tensors[key])} to {_rows(table)} rows: the weights are of images of "
        f"another size than {shape[1]}×{shape[2]}"
        for key, table in scaled.items()
    )
    return positions + tuple(
        f"the head {name or 'of the network'} was made anew for {plural(classes, 'class', 'classes')}: the weights have "
        f"{'none' if count is None else f'{count:,}'}"
        for name, count in before.items()
    )


def _wide(tensor: Tensor) -> Tensor:
    """As it is, but for floats of 8 bits, with which nothing can be computed."""
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _rows(table: Tensor) -> int:
    return table.shape[-2]


def _outputs(tensors: Mapping[str, Tensor], name: str) -> int | None:
    weight = tensors.get(f"{name}.weight")
    return None if weight is None else len(weight)


def heads_of(model: nn.Module, classes: int) -> tuple[str, ...]:
    """Names of the layers that give the outputs: the last one of `classes` outputs, and those before it that run beside it.

    What the last ones take says whether a layer before them runs beside them, or they take its outputs.
    """
    heads: list[_Layer] = []
    for layer in reversed(list(_layers(model))):
        if layer.outputs != classes or any(_may_take(head, layer) for head in heads):
            break
        heads.append(layer)
    return tuple(head.name for head in reversed(heads))


@dataclass(frozen=True)
class _Layer:
    """A linear or convolution layer, with what it takes and gives for a place of an image."""

    name: str
    inputs: int
    outputs: int


def _layers(model: nn.Module) -> Iterator[_Layer]:
    """In the order of registration."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            yield _Layer(name, module.in_features, module.out_features)
        elif isinstance(module, nn.modules.conv._ConvNd):
            yield _Layer(name, module.in_channels, module.out_channels)


def _may_take(layer: _Layer, before: _Layer) -> bool:
    """Whether a layer can take the outputs of one before it: as many, or those of all places of an image in a row.

    Layers that take as many as each other run beside each other, unless they give as many as they take.
    """
    if layer.inputs == before.inputs:
        return layer.inputs == before.outputs
    return layer.inputs % before.outputs == 0


def _named_as(own: Mapping[str, Tensor], model: nn.Module, pretrained: Pretrained) -> dict[str, Tensor]:
    """The tensors by the names that `model` has for them, as far as it has any."""
    tensors = {key: value for key, value in pretrained.tensors.items() if key not in COUNTERS}
    if pretrained.unused:
        tensors = {key: value for key, value in tensors.items() if not key.startswith(pretrained.unused)}
    while tensors and (wrapper := _wrapper(tensors, own)):
        tensors = {key.removeprefix(wrapper): value for key, value in tensors.items()}
    for name, module in model.named_modules():  # a strided convolution of theirs is one behind a Subsample here
        if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[0], Subsample):
            for leaf in ("weight", "bias"):
                if f"{name}.{leaf}" in tensors and f"{name}.1.{leaf}" in own:
                    tensors[f"{name}.1.{leaf}"] = tensors.pop(f"{name}.{leaf}")
    return tensors


def _wrapper(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    for wrapper in WRAPPERS:
        if all(key.startswith(wrapper) for key in tensors) and not all(key.startswith(wrapper) for key in own):
            return wrapper
    return None
