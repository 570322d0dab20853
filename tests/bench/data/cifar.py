"""CIFAR as users have it: noise in Parquet files, and what is expected of data that was read."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.load import load
from greenprune.bench.data.splits import Split
from greenprune.bench.errors import UserError
from PIL import Image

REAL = Path(__file__).parents[4] / "shared" / "data"


def noise(count: int, classes: int = 10, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """(count, 32, 32, 3) uint8, no two alike, and labels that go round."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return pixels, [i % classes for i in range(count)]


def encode(pixels: np.ndarray, image_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    return buffer.getvalue()


GOOD = encode(noise(1)[0][0])


def write(path: Path, images: list[bytes | None], columns: dict[str, list], image_column: str = "img") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = [{"bytes": data, "path": None} for data in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({image_column: pa.array(structs, kind), **columns}), path)


def as_counter(*splits: Split) -> Counter[tuple[bytes, int]]:
    """Images with their labels, regardless of order."""
    return Counter(
        (image.numpy().tobytes(), int(label)) for s in splits for image, label in zip(s.images, s.targets, strict=True)
    )


def expected_counter(pixels: np.ndarray, labels: list[int]) -> Counter[tuple[bytes, int]]:
    return Counter((p.transpose(2, 0, 1).tobytes(), label) for p, label in zip(pixels, labels, strict=True))


def check_form(data: Dataset) -> None:
    for split in (data.train, data.holdout, data.test):
        assert split.images.dtype == torch.uint8
        assert split.targets.dtype == torch.int64
        assert split.images.shape == (len(split), 3, 32, 32)
        assert split.images.is_contiguous()


def sentence(name: str, root: Path | None) -> str:
    with pytest.raises(UserError) as error:
        load(name, root)
    message = str(error.value)
    assert "\n" not in message
    return message
