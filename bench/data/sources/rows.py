"""Files with a table of pictures and labels: Parquet, and Arrow, of which single rows can be read."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from greenprune.bench.data.cache import cache_folder
from greenprune.bench.data.content import file_hash
from greenprune.bench.data.pictures import first_line
from greenprune.bench.errors import UserError


class Table(ABC):
    """A file with a table. Whatever goes wrong with it is told as a UserError."""

    kind = "Arrow"

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def schema(self) -> pa.Schema: ...

    @abstractmethod
    def columns(self, names: Sequence[str]) -> pa.Table: ...

    def read(self, what: str, *arguments: Any) -> Any:
        try:
            return getattr(self, what)(*arguments)
        except (pa.ArrowException, OSError) as e:
            raise UserError(
                f"{self.path}: cannot be read as {self.kind} ({first_line(e)}); allowed is a complete {self.kind} file"
            ) from None


class Parquet(Table):
    kind = "Parquet"

    def schema(self) -> pa.Schema:
        return pq.read_schema(self.path)

    def columns(self, names: Sequence[str]) -> pa.Table:
        return pq.read_table(self.path, columns=list(names), partitioning=None)


class Arrow(Table):
    def schema(self) -> pa.Schema:
        return _opened(self.path).schema

    def columns(self, names: Sequence[str]) -> pa.Table:
        return _opened(self.path).select(list(names))


def _opened(path: Path) -> pa.Table:
    """Mapped into memory, so that only what is looked at is read. `save_to_disk` writes streams."""
    mapped = pa.memory_map(str(path))
    try:
        return pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(mapped).read_all()


@dataclass
class Rows:
    """Pictures of a column of tables.

    Attributes:
        paths: of the tables.
        counts: rows of each.
        held: the columns themselves; empty: they are read from the files, which are Arrow's, row by row.
    """

    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    column: str
    held: tuple[pa.ChunkedArray, ...] = ()

    def __post_init__(self) -> None:
        self._ends = np.cumsum(self.counts)
        self._opened: dict[int, pa.ChunkedArray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}  # a worker opens the files for itself

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _place(self, index: int) -> tuple[int, int]:
        table = int(np.searchsorted(self._ends, index, side="right"))
        return table, index - int(self._ends[table] - self.counts[table])

    def name(self, index: int) -> str:
        table, row = self._place(index)
        return f"{self.paths[table].name}, row {row}"

    def source(self, index: int) -> bytes:
        table, row = self._place(index)
        if self.held:
            column = self.held[table]
        else:
            if table not in self._opened:
                self._opened[table] = _opened(self.paths[table]).column(self.column)
            column = self._opened[table]
        return bytes_of(column[row].as_py())


def bytes_of(value: Any) -> bytes:
    """Of a row; empty where it has none, which no format is."""
    data = value.get("bytes") if isinstance(value, dict) else value
    return data or b""


def as_arrow(table: Table, image: str, label: str) -> Table:
    """A copy of a Parquet file's columns in the cache folder, of which single rows can be read."""
    try:
        path = cache_folder() / "rows" / f"{file_hash(table.path)}-{image}-{label}.arrow"
        if path.is_file():
            return Arrow(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
        try:
            with pq.ParquetFile(table.path) as source:
                fields = pa.schema([source.schema_arrow.field(name) for name in (image, label)])
                with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, fields) as writer:
                    for batch in source.iter_batches(256, columns=[image, label]):
                        writer.write_batch(batch.select([image, label]).cast(fields))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (pa.ArrowException, OSError) as e:
        raise UserError(f"{table.path}: cannot be unpacked into the cache folder ({first_line(e)})") from None
    return Arrow(path)
