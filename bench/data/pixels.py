"""What is done to the pixels of a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

VOID = 255
"""In a mask: a pixel that counts for nothing, where nobody says another value."""


def pad(images: Tensor, padding: int, border: Sequence[int]) -> Tensor:
    """(N, C, H, W) to (N, H + 2 * padding, W + 2 * padding, C), with `border` (one value for each channel) around.

    A border of the mean colour becomes 0 by normalisation (to half a grey level): what a convolution's own padding adds,
    and what the CIFAR recipe of He et al. pads with.
    """
    count, _, height, width = images.shape
    around = torch.tensor(border, dtype=images.dtype, device=images.device)
    padded = around.repeat(count, height + 2 * padding, width + 2 * padding, 1)
    padded[:, padding : padding + height, padding : padding + width] = images.permute(0, 2, 3, 1)
    return padded


def all_crops(padded: Tensor, padding: int) -> Tensor:
    """A view of `padded` (N, H', W', C) whose row `(image * H' + top) * W' + left` is that crop, (H, W, C).

    So a batch of crops is one `index_select`, which copies row by row; indexing with (image, top, left) would go byte
    by byte, three times slower on a CPU. Rows that are no crop of one image exist in the view and are never asked for.
    """
    count, full_height, full_width, channels = padded.shape
    height, width = full_height - 2 * padding, full_width - 2 * padding
    last = (count * full_height - height) * full_width + full_width - width
    return padded.as_strided((last + 1, height, width, channels), (channels, full_width * channels, channels, 1))


def flip_where(pixels: Tensor, flipped: Tensor) -> Tensor:
    """Mirror the images (B, H, W, C) where `flipped` (B,).

    A selection from both versions: on a GPU a boolean mask would make every step wait for the device, and on a CPU
    `torch.where` is slower.
    """
    rows = torch.arange(len(pixels), device=pixels.device) + len(pixels) * flipped
    return torch.cat((pixels, pixels.flip(2))).index_select(0, rows)


class Normalise:
    """uint8 pixels (B, H, W, C) to `(pixels / 255 - mean) / std` in float32."""

    def __init__(
        self, shape: tuple[int, int, int], mean: Sequence[float], std: Sequence[float], device: torch.device
    ) -> None:
        channels, height, width = shape
        means, stds = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        # Of a whole image's size: broadcasting over three channels alone would leave the CPU with loops of length 3.
        self.scale, self.shift = (
            t.float().expand(height, width, channels).contiguous().to(device) for t in (1 / (255 * stds), -means / stds)
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        values = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return torch.addcmul(self.shift, values, self.scale, out=values)


def as_batch(values: Tensor, channels_last: bool) -> Tensor:
    """(B, H, W, C) to (B, C, H, W); as it lies in memory, that is channels_last already."""
    images = values.permute(0, 3, 1, 2)
    return images if channels_last else images.contiguous()
