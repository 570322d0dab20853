"""Networks of torchvision for classification and segmentation: `torchvision/<name>`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenprune.bench.data.reference import brief
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.models.kinds.kind import Preprocessing, Pretrained, Shape

if TYPE_CHECKING:
    from torch import nn

PREFIX = "torchvision/"

OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},  # otherwise it returns three outputs while training
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Heads for training alone, which are not made here."""

CENTRED = ("googlenet", "inception_v3")
"""Trained on pixels from -1 to 1; torchvision's own `transform_input` turns its usual normalisation into that."""

SQUARE = ("vit_",)
"""Beginnings of names whose constructors need the size of the images as one number; `maxvit_t` takes height and width."""


class Torchvision:
    form = "torchvision/<name>"

    def takes(self, name: str) -> bool:
        return name.startswith(PREFIX)

    def known(self) -> list[str]:
        import torchvision

        # Classification models sit directly in torchvision.models; detection, segmentation, video in packages below it.
        names = [*torchvision.models.list_models(module=torchvision.models), *_segmenting()]
        return [PREFIX + name for name in names]

    def check(self, name: str) -> None:
        known = self.known()
        if name not in known:
            raise UserError(
                f'model = "{name}": torchvision has no classification model "{name.removeprefix(PREFIX)}"'
                f"{did_you_mean(name, known)}; allowed are the {len(known)} names of "
                "torchvision.models.list_models(module=torchvision.models) and of torchvision.models.segmentation"
            )

    def make(self, name: str, classes: int, shape: Shape) -> nn.Module:
        self.check(name)
        import torchvision

        short = name.removeprefix(PREFIX)
        channels, height, width = shape
        if channels != 3:
            raise UserError(f"{name}: takes images with three channels, and the data has {channels}")
        options: dict[str, Any] = dict(OPTIONS.get(short, {}))
        if short in _segmenting():
            options["weights_backbone"] = None  # or the weights of the trunk would be downloaded
        if short.startswith(SQUARE):
            if height != width:
                raise UserError(f"{name}: takes square images, and the data has {height}×{width}")
            options["image_size"] = height
        elif short.startswith("maxvit"):
            options["input_size"] = (height, width)
        return torchvision.models.get_model(short, weights=None, num_classes=classes, **options)

    def pretrained(self, name: str, which: str, shape: Shape) -> Pretrained:
        self.check(name)
        import torchvision

        short = name.removeprefix(PREFIX)
        weights = torchvision.models.get_model_weights(short)
        names = [entry.name for entry in weights]
        if which != "DEFAULT" and which not in names:
            raise UserError(
                f'weights = "{which}": {name} has no such weights{did_you_mean(which, names)}; allowed: DEFAULT, '
                f"{', '.join(names)}, a file of tensors, or the folder of a finished run"
            )
        chosen = weights["DEFAULT" if which == "DEFAULT" else which]
        try:
            tensors = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except Exception as error:  # of the network, of the file system, of a damaged file
            raise UserError(
                f'weights = "{which}": those of {name} are not in the cache and cannot be downloaded ({brief(error)})'
            ) from error
        preset = chosen.transforms()
        mean, std = ([0.5] * 3, [0.5] * 3) if short in CENTRED else (preset.mean, preset.std)
        side = (preset.crop_size if hasattr(preset, "crop_size") else preset.resize_size)[0]  # of masks nothing is cut
        return Pretrained(
            tensors,
            f"{name} {chosen.name}",
            Preprocessing(tuple(mean), tuple(std), (side, side)),
            ("aux_classifier.",) if short in _segmenting() else AUXILIARY.get(short, ()),
        )


def _segmenting() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models.segmentation)
