"""The shards of a published set of 32×32 images: Parquet files in the Hugging Face layout, and nothing else than is known.

A folder holds `train-*.parquet` and `test-*.parquet`. Each file has a column of images (`img` or `image`: a struct with
the encoded file in `bytes`) and one of integer labels.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from greenprune.bench.data.pictures import PictureError, decode, first_line
from greenprune.bench.errors import UserError
from PIL import Image

SIDE = 32
"""Height and width of every image in pixels."""

IMAGE_COLUMNS = ("img", "image")
FORMATS = ("PNG", "WEBP", "JPEG", "BMP", "GIF", "TIFF")  # naming them halves the time that Pillow takes to guess
ROWS_AT_ONCE = 1000

_SHARD = re.compile(r"-(\d+)-of-(\d+)")


def has_shards(folder: Path) -> bool:
    """Whether `folder` holds Parquet files of a training or a test set."""
    return any(any(folder.glob(f"{split}-*.parquet")) for split in ("train", "test"))


def shards(folder: Path, split: str) -> list[Path]:
    """The files of one split ("train" or "test"), in the order of their names.

    Raises:
        UserError: there are none, or the `-of-NNNNN` in their names says that some are missing.
    """
    paths = sorted(folder.glob(f"{split}-*.parquet"))
    if not paths:
        raise UserError(f"{folder}: there is no {split}-*.parquet; allowed is a folder with training and test files")
    complete(folder, paths)
    return paths


def complete(folder: Path, paths: Sequence[Path]) -> None:
    """Raise UserError where some of the files that these are shards of are missing, or one is no file."""
    split = _SHARD.split(paths[0].name)[0]
    for path in paths:
        if not path.is_file():
            what = f"is a link to {os.readlink(path)}, which is no file" if path.is_symlink() else "is no file"
            raise UserError(f"{path}: {what}; allowed is a complete Parquet file")
    numbered = [(int(m[1]), int(m[2])) for path in paths if (m := _SHARD.search(path.name))]
    totals = {total for _, total in numbered}
    if len(totals) > 1:
        raise UserError(
            f"{folder}: the names of {split}-*.parquet tell of {' and of '.join(map(str, sorted(totals)))} files; "
            "allowed are the files of one set"
        )
    for total in totals:
        missing = [f"{split}-{i:05d}-of-{total:05d}.parquet" for i in range(total) if (i, total) not in numbered]
        if missing:
            raise UserError(f"{folder}: {', '.join(missing)} missing; allowed is the complete set of {total} files")


def read(paths: Sequence[Path], label_columns: Sequence[str], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of `paths`, in order.

    Args:
        label_columns: names of the label column; the first that a file has is taken.
        classes: labels are 0 .. classes - 1.

    Returns:
        images (N, 3, 32, 32) uint8 and labels (N,) int64.

    Raises:
        UserError: a file cannot be read, a column is missing, or a row (counted from 0) is not a 32×32 image with a
            label.
    """
    parts = [part for path in paths for part in _read_file(path, label_columns, classes)]
    if not parts:
        raise UserError(f"{', '.join(map(str, paths))}: no rows; allowed is at least one image")
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _read_file(path: Path, label_columns: Sequence[str], classes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    try:
        with pq.ParquetFile(path) as file:
            image_column, label_column = _columns(path, file.schema_arrow, label_columns)
            row = 0
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[image_column, label_column]):
                labels = _labels(f"{path}", row, label_column, batch.column(label_column), classes)
                encoded = pc.struct_field(batch.column(image_column), "bytes").to_pylist()
                # One after the other: a pool of threads is slower, since Pillow holds the interpreter lock most of the
                # time (3,000 WebP images: 0.6 s in a loop, 1.4 s with two threads).
                images = np.stack([_decode(f"{path}, row {row + i}", data) for i, data in enumerate(encoded)])
                yield np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels
                row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as Parquet ({first_line(error)}); allowed is a complete Parquet file"
        ) from error


def _columns(path: Path, schema: pa.Schema, label_columns: Sequence[str]) -> tuple[str, str]:
    """Names of the image column and the label column."""
    found = []
    for kind, allowed in (("image", IMAGE_COLUMNS), ("label", label_columns)):
        name = next((name for name in allowed if name in schema.names), None)
        if name is None:
            raise UserError(
                f"{path}: there is no {kind} column among {', '.join(schema.names) or 'no columns'}; "
                f"allowed is {' or '.join(allowed)}"
            )
        found.append(name)
    image, label = found
    image_type, label_type = schema.field(image).type, schema.field(label).type
    if not pa.types.is_struct(image_type) or image_type.get_field_index("bytes") < 0:
        raise UserError(f"{path}: column {image} has type {image_type}; allowed is a struct with a field bytes")
    if not pa.types.is_integer(label_type):
        raise UserError(f"{path}: column {label} has type {label_type}; allowed are integers")
    return image, label


def _labels(path: str, first_row: int, name: str, column: pa.Array, classes: int) -> np.ndarray:
    values = column.to_pylist()
    for i, value in enumerate(values):
        if value is None or not 0 <= value < classes:
            raise UserError(f"{path}, row {first_row + i}: {name} = {value}; allowed is 0 to {classes - 1}")
    return np.array(values, dtype=np.int64)


def _decode(place: str, data: bytes | None) -> np.ndarray:
    """(32, 32, 3) uint8."""
    if data is None:
        raise UserError(f"{place}: holds no image bytes; allowed is an encoded image in every row")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
        if (width, height) == (SIDE, SIDE):  # before decoding: a huge image is not worth its memory
            return decode(data, SIDE, 3, FORMATS)
    except PictureError as error:
        raise UserError(f"{place}: the image {error}; allowed is {', '.join(FORMATS)}") from error
    except Exception as error:  # on damaged bytes Pillow's plugins raise almost anything
        raise UserError(
            f"{place}: the image cannot be decoded: {first_line(error)}; allowed is {', '.join(FORMATS)}"
        ) from error
    raise UserError(f"{place}: the image has {width}×{height} pixels; allowed is {SIDE}×{SIDE}")
