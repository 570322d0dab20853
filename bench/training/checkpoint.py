"""A training on disk: one file that is whole or not at all, and the one before it.

The file holds plain data and tensors alone. It is read with PyTorch's safe loader, which makes nothing else of it, and only
when its check sum is right: nothing that a results folder holds is executed.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from greenprune.bench.training.files import CHECKPOINT_FILE, PREVIOUS_FILE
from greenprune.methods.structure.plain import StateError, is_plain
from torch import Tensor

MAGIC = b"greenprune checkpoint 1\n"

Identity = Mapping[str, str]
"""What a training must have in common with the one that it goes on with, by name."""


class BadCheckpointError(Exception):
    """A file that is no whole checkpoint; the message says why."""


def write(folder: Path, state: dict[str, Any], *, check: bool = True) -> Path:
    """Store `state` as the newest checkpoint of `folder`; the one that was the newest becomes the one before.

    Both are on the disk before this returns, and at every moment in between one of them is.

    Raises:
        StateError: something in `state` is no plain data.
        OSError: it cannot be written, for want of space for example; what was there before is still there.
    """
    content = encode(state, check=check)
    newest, temporary = folder / CHECKPOINT_FILE, folder / f".{CHECKPOINT_FILE}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if newest.exists():
            os.replace(newest, folder / PREVIOUS_FILE)
        os.replace(temporary, newest)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)
    return newest


def sync_folder(folder: Path) -> None:
    """Bring the names of the files in `folder` to the disk, which syncing the files does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def encode(state: dict[str, Any], *, check: bool) -> bytes:
    """A heading, a check sum, and what `torch.save` makes of `state`.

    Args:
        check: read it again, to be sure that it can be.

    Raises:
        StateError: something in `state` is no plain data, or it cannot be read again.
    """
    buffer = io.BytesIO()
    torch.save(_compact(state, ""), buffer)
    content = buffer.getvalue()
    if check:
        try:
            torch.load(io.BytesIO(content), weights_only=True)
        except Exception as e:
            raise StateError(f"it could not be read again ({str(e).splitlines()[0]})") from None
    return MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _compact(value: Any, where: str) -> Any:
    """`value` without the rest of the storages that its tensors look at.

    Raises:
        StateError: it is no plain data; names the place.
    """
    if isinstance(value, Tensor) and is_plain(value.detach()):
        value = value.detach()
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        return value if whole else value.clone()
    if isinstance(value, dict):
        items = ((_basic(key), item) for key, item in value.items())
        return {key: _compact(item, f"{where}.{key}" if where else str(key)) for key, item in items}
    if isinstance(value, list | tuple):
        parts = [_compact(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return tuple(parts) if isinstance(value, tuple) else parts
    if not is_plain(value):
        raise StateError(f"its {where} ({type(value).__name__}) is no plain data")
    return _basic(value)


def _basic(value: Any) -> Any:
    """A number or a text of a class of its own (NumPy's, PyTorch's version) as what it is: the safe loader knows no others."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def read(path: Path) -> dict[str, Any]:
    """What `write` stored.

    Raises:
        BadCheckpointError: it cannot be read, is cut off or altered, or is something else.
    """
    try:
        content = path.read_bytes()
    except OSError as e:
        raise BadCheckpointError(f"it cannot be read ({e.strerror})") from None
    if not content.startswith(MAGIC):
        raise BadCheckpointError("greenprune did not write it")
    digest, _, stored = content[len(MAGIC) :].partition(b"\n")
    if hashlib.sha256(stored).hexdigest().encode() != digest:
        raise BadCheckpointError("it is cut off or damaged")
    try:
        return torch.load(io.BytesIO(stored), weights_only=True)
    except Exception as e:  # what comes out depends on what a stranger put in
        told = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise BadCheckpointError(f"it holds more than data ({told})") from None


def newest(folder: Path, identity: Identity) -> tuple[list[dict[str, Any]], list[str]]:
    """The checkpoints in `folder` that a training with this identity may go on from, the newest first; and in a sentence
    each why others may not."""
    usable, said = [], []
    for path in (folder / CHECKPOINT_FILE, folder / PREVIOUS_FILE):
        if not path.exists():
            continue
        try:
            state = read(path)
        except BadCheckpointError as e:
            said.append(f"{path.name} is not used: {e}")
            continue
        other = differing(state.get("identity"), identity)
        if other:
            said.append(f"{path.name} is not used: it was made with other {', '.join(other)}")
            continue
        usable.append(state)
    return usable, said


def differing(stored: object, identity: Identity) -> list[str]:
    """Names of what differs."""
    if not isinstance(stored, dict):
        return ["contents"]
    return [name for name in dict.fromkeys([*identity, *stored]) if stored.get(name) != identity.get(name)]
