"""Pictures for tests: noise, so that no two are alike, in folders and tables as users have them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def pixels(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(seed: int, size: int = 32) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(seed, size, size)).save(file, "PNG")
    return file.getvalue()


def class_folders(folder: Path, counts: Mapping[str, int], seed: int = 0, size: int = 32, suffix: str = ".png") -> Path:
    """`counts` pictures in a folder for each class."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(pixels(seed + i, size, size)).save(folder / name / f"{i}{suffix}")
        seed += count
    return folder


def masked(folder: Path, count: int = 12, seed: int = 0) -> Path:
    """Pictures in `images/`, each with a mask of three classes in `masks/`."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(pixels(seed + i)).save(folder / "images" / f"{i}.jpg")
        mask = (np.arange(32)[None] >= 16).astype(np.uint8).repeat(32, 0) + (i % 2)
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    return folder


def table(
    labels: Sequence[int], seed: int = 0, image: str = "image", label: str = "label", names: Sequence[str] = ()
) -> pa.Table:
    """A picture for each label, as the library datasets lays them out."""
    structs = [{"bytes": png(seed + i), "path": None} for i in range(len(labels))]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({image: pa.array(structs, kind), label: pa.array(labels, pa.int64())})
    if not names:
        return made
    features = {label: {"names": list(names), "_type": "ClassLabel"}, image: {"_type": "Image"}}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def parquet(path: Path, made: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path)


def saved(folder: Path, parts: Mapping[str, pa.Table]) -> Path:
    """As `datasets.save_to_disk` writes it."""
    for name, made in parts.items():
        (folder / name).mkdir(parents=True)
        with pa.ipc.new_stream(str(folder / name / "data-00000-of-00001.arrow"), made.schema) as writer:
            writer.write_table(made)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
        (folder / name / "state.json").write_text(json.dumps(state))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)}))
    return folder
