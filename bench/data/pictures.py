"""One picture of whatever format, as pixels of one size."""

from __future__ import annotations

import errno
import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MODES = ("RGB", "L", "P", "1", "RGBA", "LA", "PA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB")
"""Pillow's names for 8 bits a channel; 16-bit and float pictures would be cut off at 255."""

NOT_OPENED = {"EPS", "PDF", "PS"}
"""Formats for which Pillow would start another program."""

TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
GREYS = {1: "L", 3: "RGB"}


class PictureError(ValueError):
    """A picture that cannot be read; the message is half a sentence that says why."""


class PassingError(PictureError):
    """It cannot be read because of the machine: another time it may be."""


def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in NOT_OPENED)


def suffixes() -> frozenset[str]:
    """Of files that hold pictures: ".jpg" and so on."""
    known = formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def decode(
    source: Path | bytes | Image.Image, size: int, channels: int, names: tuple[str, ...] | None = None
) -> np.ndarray:
    """The middle of a picture whose shorter side is scaled to `size`: (size, size, channels) uint8.

    A picture of that size comes as it is, bit for bit where its format is lossless. It is turned as its EXIF data says;
    what is transparent is white.

    Args:
        names: of the formats to try; naming the usual ones halves the time that Pillow takes to guess.

    Raises:
        PictureError: it cannot be read; a PassingError: for the moment.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow: of strange metadata, of a picture that is very large
        try:
            if isinstance(source, Image.Image):
                return _fitted(source, size, channels)
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(file, formats=names or formats()) as image:
                return _fitted(image, size, channels)
        except PictureError:
            raise
        except Exception as e:  # on damaged bytes Pillow's plugins raise almost anything
            kind = PassingError if is_of_machine(e) else PictureError
            raise kind(f"cannot be decoded: {first_line(e)}") from e


def _fitted(image: Image.Image, size: int, channels: int) -> np.ndarray:
    if image.mode not in MODES:
        raise PictureError(
            f"has pixels of the kind {image.mode}, which would become black or white; allowed are 8 bits for each colour"
        )
    image.draft(GREYS[channels] if image.mode in ("L", "RGB", "YCbCr") else image.mode, (size, size))  # of JPEG alone
    image = ImageOps.exif_transpose(image)
    pixels = np.asarray(scaled(_coloured(image, GREYS[channels]), size, Image.Resampling.BILINEAR))
    return pixels.reshape(size, size, channels)


def _coloured(image: Image.Image, mode: str) -> Image.Image:
    if image.mode in TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)


def scaled(image: Image.Image, size: int, how: Image.Resampling) -> Image.Image:
    """The shorter side scaled to `size`, and the middle taken."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), how, box=(left, top, left + side, top + side))


def is_of_machine(error: Exception) -> bool:
    """Whether what was raised while a picture was decoded tells of the machine, so that it may go well another time.

    Pillow's own complaints of a file have no number; of a place in it that cannot be, the system has EINVAL.
    """
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in (None, errno.EINVAL))


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
