"""What data is, whatever it is called and wherever it lies: hashes of contents."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def file_hash(path: Path) -> str:
    """SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_hash(named: dict[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, types and shapes, in the order of the names."""
    found = hashlib.sha256()
    for name, tensor in sorted(named.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(memoryview(_bytes_of(tensor)).cast("B"))
    return found.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    import torch  # late: who hashes files alone needs none

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy() if flat.numel() else b"")
