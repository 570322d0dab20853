"""Tables of images and labels in the Hugging Face layout: Parquet files, or a folder of `datasets.save_to_disk`.

A row has a picture (a struct with the encoded file in `bytes`, or the bytes themselves) and an integer label, whose names
stand in the schema's metadata. Parquet is read as a whole where it is small; a large set is copied once into the cache
folder as Arrow, of which single rows can be read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from greenprune.bench.data.found import PART_NAMES, Found, Listing
from greenprune.bench.data.options import MOST_CLASSES, DataOptions
from greenprune.bench.data.pictures import first_line
from greenprune.bench.data.sources.folder import few
from greenprune.bench.data.sources.rows import Arrow, Parquet, Rows, Table, as_arrow, bytes_of
from greenprune.bench.data.sources.shards import complete
from greenprune.bench.errors import UserError, did_you_mean

IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img"), ("label", "fine_label")
HELD_BYTES = 2**30
"""Of Parquet files that are read as a whole."""

_PART = re.compile(rf"(?<![a-z])({'|'.join(sorted(PART_NAMES, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
DICT_FILE, STATE_FILE = "dataset_dict.json", "state.json"


def is_parquet(folder: Path) -> bool:
    return any(_seen(folder, folder.glob("*.parquet"))) or any(_seen(folder, folder.glob("*/*.parquet")))


def _seen(folder: Path, paths: Iterable[Path]) -> Iterator[Path]:
    """Those that are not hidden, and in no hidden folder, as caches are."""
    return (path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def find_parquet(folder: Path, options: DataOptions) -> Found:
    """What is named as no part is trained on where nothing is named so, and else left out.

    Raises:
        UserError: a shard is missing or damaged, a column is missing or of another kind, a label is no class, or a file has
            nearly the name of a part that is not there.
    """
    parts: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in sorted(_seen(folder, folder.rglob("*.parquet"))):
        named = _PART.findall(path.relative_to(folder).as_posix())
        (parts.setdefault(PART_NAMES[named[-1].lower()], []) if named else others).append(path)
    notes = []
    if "train" in parts and others:
        _refuse_mistyped(folder, others, parts)
        names = [path.relative_to(folder).as_posix() for path in others]
        notes.append(f"files of {folder.name} that are of no part are left out: {few(names)}")
    elif others:
        parts["train"] = others
    for paths in parts.values():
        for place in dict.fromkeys(path.parent for path in paths):
            complete(place, [path for path in paths if path.parent == place])
    return _found(folder, {part: [Parquet(path) for path in paths] for part, paths in parts.items()}, options, notes)


def _refuse_mistyped(folder: Path, paths: Sequence[Path], there: Collection[str]) -> None:
    """Raise UserError where one of these has nearly the name of a part that is not among those that are there."""
    missing = [name for name, part in PART_NAMES.items() if part not in there]
    for path in paths:
        for word in re.findall("[a-z]+", path.relative_to(folder).with_suffix("").as_posix(), re.IGNORECASE):
            if meant := did_you_mean(word, missing):
                raise UserError(f"{path}: is a file of no part; allowed: train, val or test in its name{meant}")


def is_saved(folder: Path) -> bool:
    return (folder / DICT_FILE).is_file() or (folder / STATE_FILE).is_file()


def find_saved(folder: Path, options: DataOptions) -> Found:
    """Raises UserError: as of `find_parquet`."""
    if (folder / STATE_FILE).is_file():
        places = {"train": folder}
    else:
        names = _json(folder / DICT_FILE).get("splits")
        if not isinstance(names, list) or not names:
            raise UserError(f"{folder / DICT_FILE}: names no splits; allowed is a folder of datasets.save_to_disk")
        places = {}
        for name in map(str, names):
            part = PART_NAMES.get(name.lower())
            if part is not None:
                places[part] = folder / name
    parts: dict[str, list[Table]] = {}
    for part, place in places.items():
        files = _json(place / STATE_FILE).get("_data_files")
        try:
            parts[part] = [Arrow(place / str(file["filename"])) for file in files or ()]
        except (KeyError, TypeError):
            parts[part] = []
        if not parts[part]:
            raise UserError(f"{place / STATE_FILE}: names no files; allowed is what datasets.save_to_disk wrote")
    return _found(folder, parts, options)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(
            f"{path}: cannot be read ({first_line(e)}); allowed is what datasets.save_to_disk wrote"
        ) from None
    return found if isinstance(found, dict) else {}


def _found(folder: Path, parts: Mapping[str, Sequence[Table]], options: DataOptions, said: Sequence[str] = ()) -> Found:
    """`said`: notes of how the parts were found."""
    if "train" not in parts:
        has = ", ".join(parts) or "none"
        raise UserError(f"{folder}: has no part to train on (it has {has}); allowed are files named train-…")
    schema = parts["train"][0].read("schema")
    place = parts["train"][0].path
    image = _column(place, schema, "image", options.image_column, IMAGE_COLUMNS)
    label = _column(place, schema, "label", options.label_column, LABEL_COLUMNS)
    for table in (table for tables in parts.values() for table in tables):
        _refuse_kinds(table.path, table.read("schema"), image, label)
    names = class_names(schema, label)
    listings, notes = {}, list(said)
    for part, tables in parts.items():
        listing, labels = _listing(tables, image, label)
        if part != "train" and len(labels) and (labels == -1).all():
            notes.append(f"the {part} part of {folder.name} has no labels, and is not used")
            continue
        listings[part] = listing
    if "test" not in listings and "holdout" in listings:
        listings["test"] = listings.pop("holdout")
    counts = [int(listing.targets.max()) + 1 for listing in listings.values() if len(listing)]
    classes = options.classes or len(names) or max(counts, default=0)
    for part, listing in listings.items():
        _refuse_labels(folder, part, listing, label, classes)
    if len(names) != classes:
        names = tuple(str(number) for number in range(classes))
    return Found(str(folder), listings, names, tuple(notes))


def _column(path: Path, schema: pa.Schema, kind: str, given: str, usual: Sequence[str]) -> str:
    allowed = [given] if given else usual
    name = next((name for name in allowed if name in schema.names), None)
    if name is not None:
        return name
    has = ", ".join(schema.names) or "none"
    if given:
        raise UserError(
            f'{path}: {kind}_column = "{given}": there is no such column; allowed: {has}{did_you_mean(given, schema.names)}'
        )
    raise UserError(f"{path}: has no {kind} column {' or '.join(usual)}; say which with {kind}_column, allowed: {has}")


def _refuse_kinds(path: Path, schema: pa.Schema, image: str, label: str) -> None:
    """Raise UserError where a table lacks one of the columns, or it is of another kind."""
    for name in (image, label):
        if schema.names.count(name) != 1:
            has = f"{schema.names.count(name)} columns" if name in schema.names else "no column"
            raise UserError(
                f"{path}: has {has} {name}; allowed is one in every file, and this one has {', '.join(schema.names) or 'none'}"
            )
    image_type, label_type = schema.field(image).type, schema.field(label).type
    inner = image_type.get_field_index("bytes") if pa.types.is_struct(image_type) else -1
    encoded = image_type if inner < 0 else image_type.field(inner).type
    if not pa.types.is_binary(encoded) and not pa.types.is_large_binary(encoded):
        raise UserError(
            f"{path}: column {image} has type {image_type}; allowed is an encoded picture (a struct with a field bytes, or "
            "the bytes themselves)"
        )
    if not pa.types.is_integer(label_type):
        raise UserError(
            f"{path}: column {label} has labels of type {label_type}; allowed are integers, and for other targets than "
            "classes a factory"
        )


def class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """As the library datasets writes them into a table's metadata; empty where it did not."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _listing(tables: Sequence[Table], image: str, label: str) -> tuple[Listing, np.ndarray]:
    size = sum(table.path.stat().st_size for table in tables if isinstance(table, Parquet) and table.path.is_file())
    if size > HELD_BYTES:
        tables = [as_arrow(table, image, label) for table in tables]
    held, counts, digests, labels = [], [], [], []
    for table in tables:
        columns = table.read("columns", (image, label))
        values = columns.column(label).to_pylist()
        for row, value in enumerate(values):
            if value is None or value >= MOST_CLASSES:
                has = "is missing" if value is None else f"= {value}"
                raise UserError(
                    f"{table.path}, row {row}: {label} {has}; allowed is an integer from 0 to {MOST_CLASSES - 1}"
                )
        labels += values
        counts.append(len(values))
        digests += list(_digests(columns.column(image)))
        if isinstance(table, Parquet):
            held.append(columns.column(image))
    targets = np.array(labels, dtype=np.int64)
    pictures = Rows(tuple(table.path for table in tables), tuple(counts), image, tuple(held))
    return Listing(pictures, torch.from_numpy(targets), np.array(digests, dtype="U64")), targets


def _digests(column: pa.ChunkedArray) -> Iterator[str]:
    for value in column:
        yield hashlib.sha256(bytes_of(value.as_py())).hexdigest()


def _refuse_labels(folder: Path, part: str, listing: Listing, label: str, classes: int) -> None:
    if not len(listing):
        raise UserError(f"{folder}: its {part} part has no rows; allowed is at least one picture")
    wrong = ((listing.targets < 0) | (listing.targets >= classes)).nonzero().flatten()
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"{folder}: {listing.pictures.name(row)}: {label} = {int(listing.targets[row])}; allowed is 0 to {classes - 1}"
        )
