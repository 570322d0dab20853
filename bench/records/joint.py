"""What is stored of the measurement of all networks of a suite in one process: `results/<suite>/inference.json`.

A suite of several data sets or networks has a file for each of them, `inference-<data set>-<network>.json`.

Plain data, importable without torch. together.py makes it, `plots/` prefers it to the figures that each record
has of its own run.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from greenprune.bench.errors import UserError
from greenprune.bench.records.check import measurement
from greenprune.bench.records.inference import Inference, Served
from greenprune.bench.records.stored import Stored, read_stored, write_stored
from pydantic import Field, model_validator

JOINT_SCHEMA_VERSION = 1
JOINT_FILE = "inference.json"
JOINT_FILES = "inference*.json"

LONGEST_NAME_BYTES = 200
"""Of a file; file systems take 255, and while it is written its name is longer."""


class MeasuredNetwork(Stored):
    """The final network of one run."""

    key: str  # of the run's folder
    method: str  # label within the suite
    method_name: str
    budget: float
    seed: int
    finished_at: str  # as in the run's record: a run that was repeated since has another network
    inference: tuple[Inference, ...]  # in eager PyTorch, one for each batch size at which it ran
    served: tuple[Served, ...] = ()  # one for each other runtime


class LeftOut(Stored):
    """A run whose network could not be measured, or not at every batch size."""

    key: str
    reason: str


class Joint(Stored):
    """All networks side by side with the dense one: a block of each in every round, in seeded random order.

    A dense run that was measured is among `networks` like any other, beside the same network as the reference: what its
    ratio differs from 1 is noise.
    """

    schema_version: int = JOINT_SCHEMA_VERSION
    suite: str
    complete: bool  # every batch size was measured in every runtime; else it was interrupted
    reference: str  # key of the dense run that all are compared with
    networks: tuple[MeasuredNetwork, ...]
    left_out: tuple[LeftOut, ...] = ()  # networks that could not be loaded
    # Networks that did not run at one of the batch sizes; under the key of `reference`, why nothing was measured at one.
    failed: tuple[LeftOut, ...] = ()
    batch_sizes: tuple[int, ...] = Field(min_length=1)  # that were asked for
    runtimes: tuple[str, ...] = ()  # that were asked for besides eager PyTorch
    seconds: float  # asked for, per network, runtime and batch size
    narrow: tuple[
        int, ...
    ] = ()  # batch sizes at which every latency ratio in eager became known to `RATIO_CI` in pair.py
    order_seed: int
    dataset: str
    model: str
    precision: str
    channels_last: bool
    threads: int
    machine: dict[str, Any]
    versions: dict[str, str]
    command: str
    started_at: str  # ISO 8601, UTC
    finished_at: str
    energy_sources: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()  # that others used the processor meanwhile, for example

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        keys = [*(network.key for network in self.networks), *(entry.key for entry in self.left_out)]
        if len(set(keys)) < len(keys):
            raise ValueError("a run is there twice")
        return self

    def network(self, key: str) -> MeasuredNetwork | None:
        return next((network for network in self.networks if network.key == key), None)


def joint_files(folder: Path) -> list[Path]:
    """The measurements in a suite's results folder."""
    return sorted(folder.glob(JOINT_FILES))


def joint_file(dataset: str, model: str, *, alone: bool) -> str:
    """The name of the file. `alone`: the folder has dense runs of this data set and network only."""
    if alone:
        return JOINT_FILE
    name = re.sub(r"[^\w.+-]+", "-", f"inference-{dataset}-{model}")
    if len(name.encode()) > LONGEST_NAME_BYTES - len(".json"):
        piece = hashlib.sha256(f"{dataset}\n{model}".encode(errors="backslashreplace")).hexdigest()[:8]
        name = f"{name.encode()[: LONGEST_NAME_BYTES // 2].decode(errors='ignore')}-{piece}"
    return f"{name}.json"


def read_joint(folder: Path, name: str = JOINT_FILE) -> Joint | None:
    """The measurement that lies in a suite's results folder; None where there is none.

    Raises:
        UserError: it cannot be read, or is of another schema; the sentence names the file.
    """
    path = folder / name
    return read_stored(path, Joint, JOINT_SCHEMA_VERSION, "a measurement of inference") if path.exists() else None


def readable_joints(folder: Path) -> dict[str, Joint]:
    """The measurements in a suite's results folder by the names of their files, but for those that cannot be read."""
    found = {}
    for path in joint_files(folder):
        with contextlib.suppress(UserError):
            joint = read_joint(folder, path.name)
            if joint is not None:
                found[path.name] = joint
    return found


def impossible_joint(joint: Joint) -> Iterator[str]:
    """Figures that no measurement gives, a sentence each without its full stop."""
    for network in joint.networks:
        for i, measured in enumerate(network.inference):
            yield from measurement(f"{network.key}: inference.{i}", measured)
        for k, served in enumerate(network.served):
            for i, measured in enumerate(served.inference):
                yield from measurement(f"{network.key}: served.{k}.inference.{i}", measured)


def write_joint(joint: Joint, folder: Path, name: str = JOINT_FILE) -> Path:
    """Write `folder/name` atomically.

    Raises:
        ValueError: a figure is NaN or infinite.
    """
    return write_stored(joint, folder / name)
