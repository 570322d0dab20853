"""What a training must have in common with the checkpoint that it goes on from.

Settings, data, code and whatever else decides the result bit for bit. Processor and number of threads are compared apart, by
`place`: with others the training goes on, but not bit for bit.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from greenprune.bench import errors
from greenprune.bench.data.data import Dataset
from greenprune.bench.machine.machine import cpu_name
from greenprune.bench.machine.precision import resolve_precision
from greenprune.bench.suite.settings import Settings
from greenprune.methods import base, find

ROOMS = ("data", "models", "suite", "training")
"""Those of `bench` that a training is made in; all of `methods` is besides."""


def identity(settings: Settings, data: Dataset) -> dict[str, str]:
    """By name, for sentences such as "it was made with other data".

    Args:
        data: as it is trained on. The network's factory must have been called before, so that its file is known.
    """
    return {
        "settings": hashlib.sha256(settings.model_dump_json().encode()).hexdigest(),
        "data": data_hash(data),
        "code": code_hash(settings),
        "versions of torch": str(torch.__version__),
        "precision": resolve_precision(torch.device(settings.device), settings.training.precision),
    }


def data_hash(data: Dataset) -> str:
    """Of the images and labels of the training and held-out parts, and of what is done to them."""
    found = hashlib.sha256(repr((data.name, data.classes, data.mean, data.std, data.padding, data.flip)).encode())
    for split in (data.train, data.holdout):
        for tensor in (split.images, split.labels):
            found.update(memoryview(tensor.cpu().contiguous().numpy()).cast("B"))
    return found.hexdigest()


def code_hash(settings: Settings) -> str:
    """Of the files that decide how a network is trained: rooms of this package, the method's and the network's own."""
    methods, bench = (Path(str(module.__file__)).parent for module in (base, errors))
    files = [*methods.rglob("*.py"), *(file for room in ROOMS for file in (bench / room).rglob("*.py"))]
    own = [inspect.getsourcefile(find(settings.method.name))]
    module = sys.modules.get(settings.model.partition(":")[0])
    own.append(getattr(module, "__file__", None))
    return files_hash([*files, *(Path(file) for file in own if file)])


def files_hash(files: Iterable[Path]) -> str:
    """Of their contents, in an order that does not depend on where they lie."""
    digests = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file())
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def place(device: torch.device) -> str:
    """Where the training is computed, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()}, {torch.get_num_threads()} threads"
