"""Batches from a dataset that lies on the device as a whole: no loader processes, no copies per step.

Shuffling, cropping and flipping are a few tensor operations for a whole batch, and everything random in them is drawn
on the CPU from (seed, epoch): every method, on every device, sees the same batches. The scheme is that of
cifar10-airbench (Jordan 2024), with separate seeds for order and augmentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from greenprune.bench.data.data import RGB, Split
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
    augmentation = _generator(seed, number, stream=1)
    top, left = torch.randint(0, 2 * padding + 1, (2, count), generator=augmentation)
    coin = torch.rand(count, generator=augmentation)
    return EpochPlan(
        order=torch.randperm(count, generator=_generator(seed, number, stream=0)),
        top=top,
        left=left,
        flipped=coin < (0.5 if flip else 0.0),
    )


def _generator(seed: int, number: int, stream: int) -> torch.Generator:
    # A hash, since neighbouring seeds must not share streams, as e.g. seed + epoch would.
    state = np.random.SeedSequence([seed, number, stream]).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


class Batches:
    """Training batches, in a new random order every epoch.

    Args:
        split: the images; they are copied to `device` as uint8, padded, once.
        batch_size: images per batch.
        mean, std: per channel, of images scaled to 0..1.
        seed: of order and augmentation, at least 0.
        augment: whether to crop and flip at random; otherwise images come as they are.
        padding: in pixels on each side; crops have the size of the image.
        flip: whether crops are mirrored with probability one half.
        channels_last: memory format of the batches.
        drop_last: leave out the smaller last batch, so that every step sees as many images.

    Raises:
        UserError: there is not one full batch.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        mean: RGB,
        std: RGB,
        device: torch.device | str,
        seed: int,
        augment: bool,
        padding: int = 4,
        flip: bool = True,
        channels_last: bool = True,
        drop_last: bool = True,
    ) -> None:
        count = len(split.labels)
        if not 1 <= batch_size <= count:
            raise UserError(f"batch_size = {batch_size}: allowed is 1 to {count}, the number of training images")
        self.batch_size, self.seed, self.channels_last = batch_size, seed, channels_last
        self.padding = padding if augment else 0
        self.flip = flip and augment
        self.images_per_epoch = count - count % batch_size if drop_last else count
        self.device = torch.device(device)
        self._labels = split.labels.to(self.device)
        self._padded = _pad(split.images.to(self.device), self.padding, mean)
        self._crops = _all_crops(self._padded, self.padding)
        self._normalise = _Normalise(split.images.shape[1:], mean, std, self.device)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.images_per_epoch // self.batch_size)

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number`: normalised float32 images (B, C, H, W) and labels (B,), on the device.

        Args:
            first: the number, from 0, of the batch to begin with.
        """
        count = len(self._labels)
        plan = plan_epoch(count, seed=self.seed, number=number, padding=self.padding, flip=self.flip)
        _, height, width, _ = self._padded.shape
        crops = ((plan.order * height + plan.top) * width + plan.left).to(self.device)
        labels = self._labels[plan.order.to(self.device)]
        flipped = plan.flipped.to(self.device)
        for start in range(first * self.batch_size, self.images_per_epoch, self.batch_size):
            batch = slice(start, start + self.batch_size)
            pixels = _flip(self._crops.index_select(0, crops[batch]), flipped[batch])
            yield _as_batch(self._normalise(pixels), self.channels_last), labels[batch]


def evaluation_batches(
    split: Split,
    *,
    batch_size: int,
    mean: RGB,
    std: RGB,
    device: torch.device | str,
    channels_last: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order and as they are, the last and smaller batch included; shapes as in `Batches.epoch`."""
    normalise = _Normalise(split.images.shape[1:], mean, std, torch.device(device))
    images, labels = split.images.to(device), split.labels.to(device)
    for start in range(0, len(labels), batch_size):
        batch = slice(start, start + batch_size)
        pixels = images[batch].permute(0, 2, 3, 1)
        yield _as_batch(normalise(pixels), channels_last), labels[batch].clone()  # the caller may change it


def _pad(images: Tensor, padding: int, mean: RGB) -> Tensor:
    """uint8 (N, C, H, W) to (N, H + 2 * padding, W + 2 * padding, C).

    The border has the mean colour, which normalisation turns into 0 (to half a grey level): what a convolution's own
    padding adds, and what the CIFAR recipe of He et al. pads with.
    """
    count, _, height, width = images.shape
    border = torch.tensor([round(255 * m) for m in mean], dtype=torch.uint8, device=images.device)
    padded = border.repeat(count, height + 2 * padding, width + 2 * padding, 1)
    padded[:, padding : padding + height, padding : padding + width] = images.permute(0, 2, 3, 1)
    return padded


def _all_crops(padded: Tensor, padding: int) -> Tensor:
    """A view of `padded` (N, H', W', C) whose row `(image * H' + top) * W' + left` is that crop, (H, W, C).

    So a batch of crops is one `index_select`, which copies row by row; indexing with (image, top, left) would go byte
    by byte, three times slower on a CPU. Rows that are no crop of one image exist in the view and are never asked for.
    """
    count, full_height, full_width, channels = padded.shape
    height, width = full_height - 2 * padding, full_width - 2 * padding
    last = (count * full_height - height) * full_width + full_width - width
    return padded.as_strided((last + 1, height, width, channels), (channels, full_width * channels, channels, 1))


def _flip(pixels: Tensor, flipped: Tensor) -> Tensor:
    """Mirror the images (B, H, W, C) where `flipped` (B,).

    A selection from both versions: on a GPU a boolean mask would make every step wait for the device, and on a CPU
    `torch.where` is slower.
    """
    rows = torch.arange(len(pixels), device=pixels.device) + len(pixels) * flipped
    return torch.cat((pixels, pixels.flip(2))).index_select(0, rows)


class _Normalise:
    """uint8 pixels (B, H, W, C) to `(pixels / 255 - mean) / std` in float32."""

    def __init__(self, shape: torch.Size, mean: RGB, std: RGB, device: torch.device) -> None:
        channels, height, width = shape
        means, stds = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        # Of a whole image's size: broadcasting over three channels alone would leave the CPU with loops of length 3.
        self.scale, self.shift = (
            t.float().expand(height, width, channels).contiguous().to(device) for t in (1 / (255 * stds), -means / stds)
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        values = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return torch.addcmul(self.shift, values, self.scale, out=values)


def _as_batch(values: Tensor, channels_last: bool) -> Tensor:
    """(B, H, W, C) to (B, C, H, W); as it lies in memory, that is channels_last already."""
    images = values.permute(0, 3, 1, 2)
    return images if channels_last else images.contiguous()
