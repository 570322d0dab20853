"""What a run is made of: data, network, initial weights, the method's files, and where it is computed.

Two runs with equal settings and an equal identity are the same run: one may be kept in place of the other, or gone on with.
Files of the harness are no part of it; a checkpoint, which is in the harness's own form, asks for them besides.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import threading
from functools import lru_cache
from pathlib import Path

import torch
from greenprune.bench import models
from greenprune.bench.data.content import file_hash
from greenprune.bench.data.data import Dataset, content_hash
from greenprune.bench.data.reference import called
from greenprune.bench.machine.machine import cpu_name
from greenprune.bench.machine.precision import resolve_precision
from greenprune.bench.models.definition import structure_hash, weights_hash
from greenprune.bench.models.kinds.kind import SMALL, Pretrained, Shape
from greenprune.bench.records.identity import Identity
from greenprune.bench.suite.recipe import Training
from greenprune.bench.suite.settings import Settings
from greenprune.bench.tasks.catalogue import is_users_own, make_task
from greenprune.bench.text import plural
from greenprune.bench.training.sources import method_hash
from greenprune.bench.training.start import begin, start_of
from greenprune.methods import find

_ONE_AT_A_TIME = threading.Lock()
"""A launcher of several runs asks from several threads: torch.fx changes how modules of all threads are called, and Python
3.11 does not parse files in two threads at once (`SystemError: AST constructor recursion depth mismatch`)."""

ROOMS = ("data", "models", "suite", "tasks", "training")
"""Those of `bench` that a training is made in."""


def identity_of(settings: Settings, data: Dataset, contents: str | None = None) -> Identity:
    """What a run with these settings is made of here.

    Args:
        data: with as many training images as the settings ask for.
        contents: its `content_hash`, where that is known.

    Raises:
        UserError, MethodError: the network or the method cannot be made, or the weights to start from do not fit.
    """
    device = torch.device(settings.device)
    start = start_of(settings.model, settings.weights, data.shape)
    network, weights = network_hashes(settings.model, data.classes, settings.seed, data.shape, start)
    return Identity(
        data=content_hash(data) if contents is None else contents,
        network=network,
        weights=weights,
        method=method_hash_of(settings.method.name),
        task=task_hash(settings.task.name, settings.task.model_dump_json(), data.classes, data.shape),
        torch=str(torch.__version__),
        processor=processor_of(device),
        precision=resolve_precision(device, settings.training.precision),
        code=code_hash_of(settings.training),
    )


@lru_cache(maxsize=1024)
def network_hashes(
    name: str, classes: int, seed: int, shape: Shape = SMALL, start: Pretrained | None = None
) -> tuple[str, str]:
    """Of the structure and of the initial weights of a dense network. Raises UserError."""
    with _ONE_AT_A_TIME:
        model = models.build(name, classes, seed=seed, shape=shape)
        begin(model, start, classes, shape)
        weights = weights_hash(model)
        return structure_hash(model), weights


@lru_cache
def code_hash_of(recipe: Training) -> str | None:
    """Of the functions of a user's own that a recipe names. Raises UserError."""
    with _ONE_AT_A_TIME:
        named = [("optimizer", recipe.optimizer), *(("augment", name) for name in recipe.augment)]
        hashes = [method_hash(called(f"training.{key}", name, "a function")) for key, name in named if ":" in name]
        return hashlib.sha256(repr(hashes).encode()).hexdigest() if hashes else None


@lru_cache
def method_hash_of(name: str) -> str:
    """As it is when it is first asked for: a method whose files are edited meanwhile is another one."""
    with _ONE_AT_A_TIME:
        return method_hash(find(name))


@lru_cache
def task_hash(name: str, entry: str, classes: int, shape: Shape) -> str | None:
    """Of the file of a user's own task, and of what a task loads; None where there is neither. Raises UserError.

    Args:
        entry: the suite's `TaskEntry` as JSON.
    """
    task = make_task(name, json.loads(entry)["options"])
    own = is_users_own(name)
    with _ONE_AT_A_TIME:
        files = [file_hash(Path(inspect.getfile(type(task))))] if own else []
        task.begin(torch.device("cpu"), classes, shape)
    loaded = task.content()
    return hashlib.sha256(repr([*files, loaded]).encode()).hexdigest() if own or loaded else None


def for_checkpoint(settings: Settings, identity: Identity) -> dict[str, str]:
    """By name, for sentences such as "it was made with other data": what a checkpoint must have in common with the run
    that goes on from it. Of the processor, and the number of threads, see `place`."""
    return {
        "settings": hashlib.sha256(settings.model_dump_json(exclude={"weights"}).encode()).hexdigest(),
        "data": str(identity.data),
        "network": str(identity.network),
        "initial weights": str(identity.weights),
        "files of the method": str(identity.method),
        "task": str(identity.task),
        "files of the training": rooms_hash(),
        "versions of torch": str(identity.torch),
        "precision": str(identity.precision),
        "files of the recipe": str(identity.code),
    }


def rooms_hash() -> str:
    """Of the files of `ROOMS`, in an order that does not depend on where they lie."""
    bench = Path(__file__).parents[1]
    files = [file for room in ROOMS for file in (bench / room).rglob("*.py")]
    return hashlib.sha256("".join(sorted(file_hash(file) for file in files)).encode()).hexdigest()


def processor_of(device: torch.device) -> str:
    """What the training is computed on."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def place(device: torch.device) -> str:
    """Where the training is computed, in words. Elsewhere a checkpoint goes on too, but not bit for bit."""
    return (
        processor_of(device) if device.type == "cuda" else f"{cpu_name()}, {plural(torch.get_num_threads(), 'thread')}"
    )
