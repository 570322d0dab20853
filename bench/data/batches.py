"""Batches of a part of a data set: all of it on the device, without loader processes and copies per step, or read ahead.

Shuffling, cropping and flipping are a few tensor operations for a whole batch, and everything random in them is drawn
on the CPU from (seed, epoch): every method, on every device, sees the same batches, wherever the images come from. The
scheme is that of cifar10-airbench (Jordan 2024), with separate seeds for order and augmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from greenprune.bench.data.augment import Mix, PerImage
from greenprune.bench.data.data import Channels
from greenprune.bench.data.draw import generator
from greenprune.bench.data.loader import Loader, Shown
from greenprune.bench.data.names import CROP_FLIP
from greenprune.bench.data.pixels import VOID, Normalise, all_crops, as_batch, flip_where, pad
from greenprune.bench.data.splits import LazySplit, Part, Split
from greenprune.bench.errors import UserError
from torch import Tensor


@dataclass(frozen=True)
class EpochPlan:
    """Everything random in one epoch, on the CPU; entry i belongs to the i-th image shown.

    Attributes:
        order: (N,) int64, a permutation of the images.
        top, left: (N,) int64 in 0 .. 2 * padding, where the crop starts in the padded image.
        flipped: (N,) bool, whether the crop is mirrored left to right.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    flipped: Tensor


def plan_epoch(count: int, *, seed: int, number: int, padding: int, flip: bool) -> EpochPlan:
    """Draw the plan of epoch `number` for `count` images; it depends on the arguments alone."""
    augmentation = generator(seed, number, 1)
    top, left = torch.randint(0, 2 * padding + 1, (2, count), generator=augmentation)
    coin = torch.rand(count, generator=augmentation)
    return EpochPlan(
        order=torch.randperm(count, generator=generator(seed, number, 0)),
        top=top,
        left=left,
        flipped=coin < (0.5 if flip else 0.0),
    )


class _Feed(Protocol):
    """Where the pixels of a batch come from: (B, H, W, C) uint8 on the device, cropped and flipped, with their targets.

    Or images (B, C, H, W) in float32, which are left as they are.
    """

    @property
    def waited_s(self) -> float: ...

    @property
    def workers(self) -> int | None: ...

    def epoch(
        self, of: Batches, plan: EpochPlan, number: int, first: int, own: slice
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """`own`: which images of every batch are asked for."""

    def close(self) -> None:
        """End what reads ahead."""


class Batches:
    """Training batches, in a new random order every epoch.

    Args:
        split: the images; those in memory are copied to `device` as uint8, padded, once.
        batch_size: images per batch.
        mean, std: per channel, of images scaled to 0..1.
        seed: of order and augmentation, at least 0.
        augment: names of what is done to the images, see `greenprune.bench.data.augment`.
        padding: in pixels on each side, for crops of the size of the image.
        flip: whether images are mirrored with probability one half where they are cropped.
        classes: outputs of a network, for targets that are mixed.
        void: the value that a mask has outside of its picture, where crops reach; it counts for nothing.
        channels_last: memory format of the batches.
        drop_last: leave out the smaller last batch, so that every step sees as many images.
        share: which images of every batch are given: those that are `share[0]` modulo `share[1]`.

    Raises:
        UserError: there is not one full batch, or the images cannot be augmented in this way.
    """

    def __init__(
        self,
        split: Part,
        *,
        batch_size: int,
        mean: Channels,
        std: Channels,
        device: torch.device | str,
        seed: int,
        augment: Sequence[str] = (CROP_FLIP,),
        padding: int = 4,
        flip: bool = True,
        classes: int | None = None,
        void: int = VOID,
        channels_last: bool = True,
        drop_last: bool = True,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._share = slice(share[0], None, share[1])
        self._count = count = len(split)
        if not 1 <= batch_size <= count:
            raise UserError(f"batch_size = {batch_size}: allowed is 1 to {count}, the number of training images")
        self.batch_size, self.seed, self.channels_last = batch_size, seed, channels_last
        crops = CROP_FLIP in augment
        self.padding = padding if crops else 0
        self.flip = flip and crops
        self.void = void
        self.images_per_epoch = count - count % batch_size if drop_last else count
        self.device = torch.device(device)
        self._mix = Mix.of(augment, classes, split, seed)
        each = PerImage.of(augment, split, flip=flip)
        self._feed: _Feed
        if isinstance(split, Split) and each is None:
            self._feed = _OnDevice(self, split, mean)
        else:
            self._feed = _ReadAhead(self, split, each, mean)
        self._normalise = Normalise(split.shape, mean, std, self.device)

    @property
    def waited_s(self) -> float:
        """Seconds that the training has waited for images so far; 0 where they lie on the device."""
        return self._feed.waited_s

    @property
    def workers(self) -> int | None:
        """Processes that read ahead; None where all images lie on the device."""
        return self._feed.workers

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.images_per_epoch // self.batch_size)

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number`: normalised float32 images (B, C, H, W) and targets (B, ...), on the device.

        Of mixed images the targets are the shares of the classes, (B, classes) float32.

        Args:
            first: the number, from 0, of the batch to begin with.
        """
        # What is mixed are images of the whole batch.
        own = self._share if self._mix is None else slice(None)
        for batch, (images, targets) in enumerate(self._batches(number, first, own), start=first):
            if self._mix is None:
                yield images, targets
            else:
                mixed, shares = self._mix(images, targets, number, batch)
                yield mixed[self._share], shares[self._share]

    def close(self) -> None:
        """End the processes that read ahead. Further batches start new ones."""
        self._feed.close()

    def example(self) -> Tensor:
        """The images of one batch, all of them, not mixed: the same whatever the share."""
        return next(self._batches(0, 0, slice(None)))[0]

    def _batches(self, number: int, first: int, own: slice) -> Iterator[tuple[Tensor, Tensor]]:
        plan = plan_epoch(self._count, seed=self.seed, number=number, padding=self.padding, flip=self.flip)
        for pixels, targets in self._feed.epoch(self, plan, number, first, own):
            yield _images(pixels, self._normalise, self.channels_last), targets


class _OnDevice:
    """All images lie on the device."""

    waited_s = 0.0
    workers: int | None = None

    def __init__(self, batches: Batches, split: Split, mean: Channels) -> None:
        self._targets = split.targets.to(batches.device)
        self._padded = pad(split.images.to(batches.device), batches.padding, _border(mean))
        self._crops = all_crops(self._padded, batches.padding)

    def epoch(
        self, of: Batches, plan: EpochPlan, number: int, first: int, own: slice
    ) -> Iterator[tuple[Tensor, Tensor]]:
        _, height, width, _ = self._padded.shape
        crops = ((plan.order * height + plan.top) * width + plan.left).to(of.device)
        targets = self._targets[plan.order.to(of.device)]
        flipped = plan.flipped.to(of.device)
        masks = _are_masks(targets, (height - 2 * of.padding, width - 2 * of.padding))
        for start in range(first * of.batch_size, of.images_per_epoch, of.batch_size):
            batch = _part(start, of.batch_size, own)
            shown = targets[batch]
            if masks:
                shown = _cropped(shown[:, None], plan, batch, of.padding, [of.void])[..., 0]
            yield flip_where(self._crops.index_select(0, crops[batch]), flipped[batch]), shown

    def close(self) -> None:
        """Nothing reads ahead."""


class _ReadAhead:
    """Worker processes decode, and augment each image on its own; crops and flips are made here, as of images in memory."""

    def __init__(self, batches: Batches, split: Part, each: PerImage | None, mean: Channels) -> None:
        self._border = _border(mean)
        self._streams = isinstance(split, LazySplit) and split.stream is not None
        self._loader = Loader(
            Shown.of(split, each, batches.seed), workers=_workers(split), device=batches.device, stays=True
        )

    @property
    def waited_s(self) -> float:
        return self._loader.waited_s

    @property
    def workers(self) -> int | None:
        return self._loader.workers

    def epoch(
        self, of: Batches, plan: EpochPlan, number: int, first: int, own: slice
    ) -> Iterator[tuple[Tensor, Tensor]]:
        starts = range(first * of.batch_size, of.images_per_epoch, of.batch_size)
        read = slice(None) if self._streams else own  # a stream cannot be gone through in parts
        wanted = [plan.order[_part(start, of.batch_size, read)].tolist() for start in starts]
        for start, (images, targets) in zip(starts, self._loader.batches(number, wanted, first), strict=True):
            if self._streams:
                images, targets = images[own], targets[own]
            batch = _part(start, of.batch_size, own)
            if images.dtype != torch.uint8:
                yield images, targets
                continue
            if _are_masks(targets, images.shape[2:]):
                targets = _cropped(targets[:, None], plan, batch, of.padding, [of.void])[..., 0]
            yield _cropped(images, plan, batch, of.padding, self._border), targets

    def close(self) -> None:
        self._loader.close()


def _part(start: int, size: int, own: slice) -> slice:
    """Of a batch that begins at `start` the images of `own`."""
    return slice(start + (own.start or 0), start + size, own.step)


def _workers(split: Part) -> int:
    return split.workers if isinstance(split, LazySplit) else 1


def _cropped(images: Tensor, plan: EpochPlan, batch: slice, padding: int, border: Sequence[int]) -> Tensor:
    """(B, C, H, W) to the crops of these places of the plan, flipped: (B, H, W, C)."""
    padded = pad(images, padding, border)
    _, height, width, _ = padded.shape
    number = torch.arange(len(images))
    crops = (number * height + plan.top[batch]) * width + plan.left[batch]
    pixels = all_crops(padded, padding).index_select(0, crops.to(images.device))
    return flip_where(pixels, plan.flipped[batch].to(images.device))


def _are_masks(targets: Tensor, size: Sequence[int]) -> bool:
    return targets.ndim == 3 and tuple(targets.shape[1:]) == tuple(size) and targets.dtype == torch.int64


def _border(mean: Channels) -> list[int]:
    return [round(255 * m) for m in mean]


def _images(pixels: Tensor, normalise: Normalise, channels_last: bool) -> Tensor:
    if pixels.dtype == torch.uint8:
        return as_batch(normalise(pixels), channels_last)
    return pixels.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def evaluation_batches(
    split: Part,
    *,
    batch_size: int,
    mean: Channels,
    std: Channels,
    device: torch.device | str,
    channels_last: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order and as they are, the last and smaller batch included; shapes as in `Batches.epoch`."""
    normalise = Normalise(split.shape, mean, std, torch.device(device))
    for pixels, targets in _in_order(split, batch_size, torch.device(device)):
        yield _images(pixels, normalise, channels_last), targets


def _in_order(split: Part, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels (B, H, W, C) in uint8, or images (B, C, H, W) in float32, and targets."""
    starts = range(0, len(split), batch_size)
    if isinstance(split, Split):
        images, targets = split.images.to(device), split.targets.to(device)
        for start in starts:
            batch = slice(start, start + batch_size)
            yield images[batch].permute(0, 2, 3, 1), targets[batch].clone()  # the caller may change it
        return
    loader = Loader(Shown.of(split, None, 0), workers=_workers(split), device=device, stays=False)
    wanted = [list(range(start, min(start + batch_size, len(split)))) for start in starts]
    for images, targets in loader.batches(0, wanted, 0):
        yield images.permute(0, 2, 3, 1) if images.dtype == torch.uint8 else images, targets
