"""Images that are read ahead, by worker processes where there are any: torch's DataLoader, with pinned memory for a GPU."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from greenprune.bench.data.augment import PerImage
from greenprune.bench.data.draw import drawing
from greenprune.bench.data.pictures import PictureError
from greenprune.bench.data.reference import brief
from greenprune.bench.data.splits import Items, LazySplit, Part, Split, Stream
from greenprune.bench.errors import UserError
from greenprune.bench.text import plural
from torch import Tensor
from torch.multiprocessing import get_all_start_methods
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

READ_STREAM = 4
AHEAD = 2  # batches that each worker has ready

Place = tuple[int, int]
"""An epoch, and a row of the part."""


@dataclass(frozen=True)
class Shown(Dataset):
    """A part of a data set, image by image, as it is shown in an epoch."""

    items: Items
    rows: Sequence[int] | None
    each: PerImage | None
    seed: int
    stream: Stream | None = None

    @classmethod
    def of(cls, split: Part, each: PerImage | None, seed: int) -> Shown:
        if isinstance(split, LazySplit):
            return cls(split.items, split.rows.tolist(), each, seed, split.stream)
        assert isinstance(split, Split)
        return cls(split, None, each, seed)

    def __getitem__(self, place: Place) -> tuple[Tensor, Tensor] | str:
        """Of an epoch and a row; what goes wrong as half a sentence, which comes through to the training as it is."""
        number, row = place
        item = row if self.rows is None else self.rows[row]
        try:
            with drawing(self.seed, number, row, READ_STREAM):  # a data set of the user's own may draw
                image, target = self.items[item]
        except PictureError as e:
            return f"{self.items.name(item)} {e}; it could be read before: put it back, and start again to go on"
        except Exception as e:  # of a data set of the user's own
            return f"image {item} cannot be read: {brief(e)}"
        return (image, target) if self.each is None else self.each(image, target, self.seed, number, row)


class _Streamed(IterableDataset):
    """A part that can only be gone through in its order."""

    def __init__(self, shown: Shown, number: int, first: int, count: int) -> None:
        self._shown, self._number, self._first, self._count = shown, number, first, count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor] | str]:
        shown, number = self._shown, self._number
        assert shown.stream is not None
        try:
            for position, (image, target) in enumerate(shown.stream.pass_through(shown.seed, number)):
                if position >= self._count:
                    return
                if position < self._first:
                    continue
                yield (
                    (image, target) if shown.each is None else shown.each(image, target, shown.seed, number, position)
                )
        except Exception as e:  # of a data set of the user's own
            yield f"an image cannot be read: {brief(e)}"


class Loader:
    """Batches of images (B, C, H, W) and targets (B, ...), on the device.

    Args:
        workers: processes; 0: everything is read here, while the training waits.
        stays: whether the workers go on from one epoch to the next.

    Attributes:
        workers: of a stream one, or its images would come in another order.
        waited_s: seconds that were waited for batches so far.
    """

    def __init__(self, shown: Shown, *, workers: int, device: torch.device, stays: bool) -> None:
        self._shown, self._device = shown, device
        self.workers = 1 if shown.stream is not None else workers
        self._sampler = _Sampler()
        self._options: dict[str, Any] = {
            "collate_fn": _together,
            "num_workers": self.workers,
            "pin_memory": device.type == "cuda",
            "worker_init_fn": _quiet,
            "prefetch_factor": AHEAD if self.workers else None,
            "multiprocessing_context": "fork" if self.workers and "fork" in get_all_start_methods() else None,
        }
        self._stays = stays and self.workers > 0
        self._loader: DataLoader | None = None
        self.waited_s = 0.0

    def batches(self, number: int, wanted: Sequence[Sequence[int]], first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of epoch `number`: of each the rows, in their order.

        Args:
            wanted: of a stream only how many count: it has an order of its own.
            first: of a stream, how many batches were left out before.

        Raises:
            UserError: an image cannot be read, or a stream ends early.
        """
        given = 0
        left = iter(self._over(number, wanted, first))
        while given < len(wanted):
            started_s = time.perf_counter()
            batch = next(left, None)
            self.waited_s += time.perf_counter() - started_s
            if batch is None or (not isinstance(batch, str) and len(batch[0]) < len(wanted[given])):
                sizes = sum(map(len, wanted))
                raise UserError(
                    f"the data set ends before {plural(sizes, 'image')} are through; allowed are as many in each epoch as "
                    "its length"
                )
            if isinstance(batch, str):
                raise UserError(batch)
            images, targets = batch
            given += 1
            yield images.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True)

    def _over(self, number: int, wanted: Sequence[Sequence[int]], first: int) -> DataLoader:
        generator = torch.Generator()  # or a random number would be drawn from the one that methods draw from
        if self._shown.stream is not None:
            size = len(wanted[0]) if wanted else 1
            count = first * size + sum(map(len, wanted))
            streamed = _Streamed(self._shown, number, first * size, count)
            return DataLoader(streamed, batch_size=size, generator=generator, **self._options)
        if self._loader is None or not self._stays:
            self._loader = DataLoader(
                self._shown,
                batch_sampler=self._sampler,
                generator=generator,
                persistent_workers=self._stays,
                **self._options,
            )
        self._sampler.places = [[(number, row) for row in rows] for rows in wanted]
        return self._loader

    def close(self) -> None:
        """End the workers.

        By giving up the one reference to them. Where the collector of cycles comes upon them it takes the queues to the
        workers first; they then hear nothing, and torch waits five seconds for each before it terminates it.
        """
        self._loader = None


class _Sampler:
    """The places of the epoch that is asked for."""

    def __init__(self) -> None:
        self.places: list[list[Place]] = []

    def __iter__(self) -> Iterator[list[Place]]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _together(items: Sequence[tuple[Tensor, Tensor] | str]) -> tuple[Tensor, Tensor] | str:
    images, targets = [], []
    for item in items:
        if isinstance(item, str):
            return item
        images.append(item[0])
        targets.append(item[1])
    try:
        return torch.stack(images), torch.stack(targets)
    except (RuntimeError, TypeError) as e:
        return f"the images or the targets of a batch are not all of one shape: {brief(e)}"


def _quiet(worker: int) -> None:
    """A worker ends with the training, which heeds signals to stop."""
    assert get_worker_info() is not None
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
