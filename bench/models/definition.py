"""What a network is, as a hash: its modules with their settings, and what its forward does with them."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.fx
from greenprune.bench.data.content import file_hash, tensors_hash
from torch import nn

PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.Size)
LIBRARIES = ("torch", "torchvision", "timm", "transformers")
"""Their versions are noted; their files are not looked at."""


def structure_hash(model: nn.Module) -> str:
    """SHA-256 of the network without its weights. `model` must be one to throw away: tracing runs its forward.

    What the forward does is what torch.fx traces of it, in training and in evaluation: a changed activation is another
    network, a changed comment is not. Where it cannot be traced, the files of its modules' classes count instead.
    """
    found = hashlib.sha256()
    for name, module in model.named_modules():
        found.update(f"{name}: {_kind(module)}({', '.join(_settings(module))})\n".encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found.update(f"{name}: {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    for line in _forward(model):
        found.update(f"{line}\n".encode())
    return found.hexdigest()


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of the weights and statistics."""
    return tensors_hash(dict(model.state_dict()))


def _kind(module: nn.Module) -> str:
    """The class; of a user's own without its module, which may be called otherwise elsewhere."""
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}" if kind.__module__.startswith(LIBRARIES) else kind.__qualname__


def _settings(module: nn.Module) -> list[str]:
    """What a module was made with, as far as it is plain: `kernel_size=(3, 3)`."""
    found = []
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or name == "training":
            continue
        parts = value if isinstance(value, tuple | list) else (value,)
        if all(isinstance(part, PLAIN) for part in parts):
            found.append(f"{name}={value!r}")
    return found


def _forward(model: nn.Module) -> Iterator[str]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        lines = []
        for training in (True, False):
            model.train(training)
            traced = torch.fx.symbolic_trace(model)
            lines.append(traced.code)
            names = [str(node.target) for node in traced.graph.nodes if node.op == "get_attr"]
            constants = {name: getattr(traced, name) for name in names if name.startswith("_tensor_constant")}
            lines.append(tensors_hash(constants))
        yield from lines
    except Exception:  # tracing runs the user's own forward: anything may come out
        yield from _files(model)
    finally:
        for module, mode in modes:
            module.training = mode


def _files(model: nn.Module) -> Iterator[str]:
    """Hashes of the files that the classes of its modules are in, those of libraries left out."""
    kinds = {type(module) for module in model.modules() if not type(module).__module__.startswith(LIBRARIES)}
    paths = {inspect.getsourcefile(kind) for kind in kinds if kind.__module__ in sys.modules}
    yield from sorted(file_hash(Path(path)) for path in paths if path and Path(path).is_file())
