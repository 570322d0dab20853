"""What is done to training images, by name, through torchvision.transforms.v2.

    "crop-flip"        crops at random after padding, and mirrors; of a whole batch at once, where the images are
    "resized-crop"     a part of random size and shape, scaled to the size of the image, and mirrored
    "trivial-augment"  one operation of random strength for each image (Müller and Hutter 2021)
    "mixup", "cutmix"  two images of a batch are blended, or one is pasted into the other, and their classes with them
    "none"             nothing
    package.module:factory   a function of the image's size that returns a transform of (C, H, W) uint8

Random numbers depend on the seed, the epoch, and the image or the batch alone: every method sees the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.draw import drawing
from greenprune.bench.data.reference import brief, called
from greenprune.bench.data.splits import Part, target_of_one
from greenprune.bench.errors import UserError
from torch import Tensor

PER_IMAGE_STREAM, MIX_STREAM = 2, 3
MIXUP_ALPHA = 0.2  # Zhang et al. 2018 use 0.1 to 0.4 for ImageNet
CUTMIX_ALPHA = 1.0  # Yun et al. 2019
FACTORY = "a function of the image's size in pixels that returns a transform of a uint8 tensor (C, H, W)"


def refuse_augmentation(names: Sequence[str], data: Dataset) -> None:
    """See that the training images can be augmented so. Raises UserError: they cannot."""
    PerImage.of(names, data.train, flip=data.flip)
    Mix.of(names, data.classes, data.train, 0)


@dataclass(frozen=True)
class PerImage:
    """What is done to each image on its own, before it is part of a batch.

    Attributes:
        masks: whether the target is a mask, which is cut and mirrored as its image is.
    """

    transform: Callable[..., Any]
    said: str
    masks: bool = False

    @classmethod
    def of(cls, names: Sequence[str], split: Part, *, flip: bool) -> PerImage | None:
        """Of the names that are for single images, in their order; None where there are none.

        Raises:
            UserError: a factory cannot be used, or the images or targets are not of the kind that it can be done to.
        """
        own = [name for name in names if name in ("resized-crop", "trivial-augment") or ":" in name]
        if not own:
            return None
        if split.dtype != torch.uint8:
            raise UserError(
                f'augment = "{own[0]}": the images come as {split.dtype} and are taken as they are; allowed for those: none, '
                "mixup, cutmix"
            )
        masks = target_of_one(split).ndim == 2
        if masks and own != ["resized-crop"]:
            other = next(name for name in own if name != "resized-crop")
            raise UserError(
                f'augment = "{other}": does not change the masks with the images; allowed with masks: none, crop-flip, '
                "resized-crop"
            )
        from torchvision.transforms import v2  # late: its import takes a second

        size = split.shape[1]
        steps: list[Any] = []
        for name in own:
            if name == "resized-crop":
                steps += [v2.RandomResizedCrop(split.shape[1:], antialias=True)]
                steps += [v2.RandomHorizontalFlip()] if flip else []
            elif name == "trivial-augment":
                steps.append(v2.TrivialAugmentWide())
            else:
                steps.append(_made(name, size))
        made = cls(v2.Compose(steps) if len(steps) > 1 else steps[0], ", ".join(own), masks)
        for name in own:
            if ":" in name:
                made.check(split.shape)
        return made

    def __call__(self, image: Tensor, target: Tensor, *place: int) -> tuple[Tensor, Tensor]:
        """The image and its target as they are shown; everything random in it follows from `place`."""
        with drawing(*place, PER_IMAGE_STREAM):
            if not self.masks:
                return self.transform(image), target
            from torchvision import tv_tensors

            shown, mask = self.transform(tv_tensors.Image(image), tv_tensors.Mask(target))
            return shown.as_subclass(Tensor), mask.as_subclass(Tensor)

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise UserError where it does not give an image of this shape."""
        try:
            shown = self(torch.zeros(shape, dtype=torch.uint8), torch.zeros((), dtype=torch.int64), 0)[0]
        except Exception as e:  # somebody else's code
            raise UserError(f"augment = {self.said}: fails on a uint8 image {shape}: {brief(e)}") from e
        if not isinstance(shown, Tensor) or tuple(shown.shape) != shape or shown.dtype != torch.uint8:
            gives = f"{shown.dtype} {tuple(shown.shape)}" if isinstance(shown, Tensor) else type(shown).__name__
            raise UserError(
                f"augment = {self.said}: gives {gives} for a uint8 image {shape}; allowed is the same again"
            )


def _made(name: str, size: int) -> Any:
    factory = called("augment", name, FACTORY)
    try:
        made = factory(size)
    except Exception as e:  # somebody else's code
        raise UserError(f'augment = "{name}": fails with {brief(e)}; allowed is {FACTORY}') from e
    if not callable(made):
        raise UserError(f'augment = "{name}": returns a {type(made).__name__}; allowed is {FACTORY}')
    return made


@dataclass(frozen=True)
class Mix:
    """What is done to a batch as a whole: two images of it become one, and their classes with them."""

    choices: tuple[Callable[..., Any], ...]
    classes: int
    seed: int

    @classmethod
    def of(cls, names: Sequence[str], classes: int | None, split: Part, seed: int) -> Mix | None:
        """None where no name asks for it. Raises UserError: the targets are no classes."""
        own = [name for name in names if name in ("mixup", "cutmix")]
        if not own:
            return None
        target = target_of_one(split)
        if classes is None or target.ndim > 1 or (target.ndim == 0 and target.is_floating_point()):
            raise UserError(f'augment = "{own[0]}": mixes classes, and the targets are none; allowed: names without it')
        from torchvision.transforms import v2  # late: its import takes a second

        made = {
            "mixup": lambda: v2.MixUp(num_classes=classes, alpha=MIXUP_ALPHA),
            "cutmix": lambda: v2.CutMix(num_classes=classes, alpha=CUTMIX_ALPHA),
        }
        return cls(tuple(made[name]() for name in own), classes, seed)

    def __call__(self, images: Tensor, targets: Tensor, number: int, batch: int) -> tuple[Tensor, Tensor]:
        """A batch of epoch `number`; of several ways one is drawn."""
        with drawing(self.seed, number, batch, MIX_STREAM):
            way = self.choices[int(torch.randint(len(self.choices), ()))]
            return way(images, targets)
