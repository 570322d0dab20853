"""What a suite says of its images: a name, or a table. Plain data, importable without torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from greenprune.bench.data.names import DATASETS, PUBLISHED, SIZES
from greenprune.bench.text import plural
from greenprune.methods.plugins import REFERENCE
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

LARGEST_SIZE = 1024
MOST_CLASSES = 100_000


def _integer(value: Any) -> Any:
    """Refuse what equals an integer and is none: for a choice of integers pydantic takes true and 1.0."""
    if type(value) is not int:
        raise PydanticCustomError("literal_error", "is unknown")
    return value


Values = Annotated[tuple[float, ...], Field(strict=False, min_length=1, max_length=4)]


def refused(sentence: str) -> PydanticCustomError:
    """As of `greenprune.bench.suite.recipe`, which lies above."""
    return PydanticCustomError("refused", sentence)


class DataOptions(BaseModel):
    """Images to learn, and how they are made one size. One of `folder`, `factory` and a known `name` says which."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(
        "",
        max_length=100,
        description="one of the known data sets; beside folder or factory, what tables and figures call this one (by "
        "default the folder's own name)",
    )
    folder: str = Field(
        "",
        max_length=4000,
        description="class folders, Parquet files, a folder of `datasets.save_to_disk`, or images/ with masks/; relative "
        "to the suite file",
    )
    factory: str = Field("", max_length=400, description="`package.module:factory`, which returns torch Datasets")
    image_size: int | None = Field(
        None,
        ge=8,
        le=LARGEST_SIZE,
        description="height and width in pixels: the shorter side is scaled to it, and the middle is taken; by default 32, "
        "of tiny-imagenet 64, of imagenet 224",
    )
    channels: Annotated[Literal[1, 3], BeforeValidator(_integer)] = Field(
        3, description="3: colour, grey pictures too; 1: grey, coloured pictures too"
    )
    mean: Values | None = Field(None, description="of each channel, scaled to 0..1; by default measured")
    std: Values | None = Field(None, description="standard deviation of each channel; by default measured")
    flip: bool = Field(True, description="whether a mirrored picture still shows its class")
    image_column: str = Field("", description="of Parquet and Arrow files; by default img or image")
    label_column: str = Field("", description="of Parquet and Arrow files; by default label or fine_label")
    classes: int | None = Field(
        None,
        ge=1,
        le=MOST_CLASSES,
        description="how many; of class folders as many as there are; by default as the source says, else the largest "
        "label and one",
    )
    skip_unreadable: bool = Field(False, description="leave out pictures that cannot be read, and say which")
    loading: Literal["auto", "memory", "workers"] = Field(
        "auto",
        description="memory: decoded once; workers: decoded by processes while training; auto: memory where it fits",
    )
    workers: int | None = Field(
        None, ge=0, le=256, description="processes that decode; by default one for each core but one, at least one"
    )

    @model_validator(mode="before")
    @classmethod
    def _mean_and_std_are_a_pair(cls, given: Any) -> Any:
        if isinstance(given, dict) and ("mean" in given) != ("std" in given):
            has, lacks = ("mean", "std") if "mean" in given else ("std", "mean")
            raise refused(f"{has} is given, and {lacks} is not; allowed: both, or none of them")
        return given

    @model_validator(mode="after")
    def _channels_agree(self) -> DataOptions:
        for key in ("mean", "std"):
            values = getattr(self, key)
            if values is not None and len(values) != self.channels:
                raise refused(
                    f"{key} = {list(values)}: allowed: {plural(self.channels, 'number')}, one for each channel"
                )
        if self.std is not None and min(self.std) <= 0:
            raise refused(f"std = {list(self.std)}: allowed: numbers above 0")
        if self.mean is not None and not all(0 <= m <= 1 for m in self.mean):
            raise refused(f"mean = {list(self.mean)}: allowed: numbers from 0 to 1, as of pixels scaled to 0..1")
        if self.factory and not re.match(REFERENCE, self.factory):
            raise refused(f'factory = "{self.factory}": has the wrong form; allowed: package.module:factory')
        if self.folder and self.factory:
            raise refused("folder and factory are both given; allowed: one of them")
        return self

    @property
    def label(self) -> str:
        """What tables, figures and folders of runs call it."""
        if self.name:
            return self.name
        if self.folder:
            return plain_name(Path(self.folder).absolute().name) or "folder"
        return self.factory

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return self.image_size or SIZES.get(self.name, 32)

    def without_place(self) -> DataOptions:
        """The same wherever the folder lies, under the name that it has."""
        if not self.folder:
            return self
        named = self.model_copy(update={"folder": Path(self.folder).absolute().name, "name": self.label})
        return named if named.size == self.size else named.model_copy(update={"image_size": self.size})


Entry = str | DataOptions
"""How a suite names its images."""


def plain_name(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.")


def label_of(entry: Entry) -> str:
    return entry if isinstance(entry, str) else entry.label


def options_of(entry: Entry) -> DataOptions | None:
    """None: as the data set is known by its name."""
    return None if isinstance(entry, str) else entry


def as_options(entry: Entry) -> DataOptions:
    """A name as a table."""
    if not isinstance(entry, str):
        return entry
    return DataOptions(factory=entry) if ":" in entry else DataOptions(name=entry)


def skipping_unreadable(entry: Entry) -> Entry:
    """The same, with pictures that cannot be read left out; of what is published nothing ever is."""
    if entry in PUBLISHED:
        return entry
    return as_options(entry).model_copy(update={"skip_unreadable": True})


def is_known(name: str) -> bool:
    """Whether a name alone says which images are meant."""
    return name in DATASETS or re.match(REFERENCE, name) is not None
