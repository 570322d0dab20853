"""Networks of timm (PyTorch Image Models): `timm/<name>`, `timm/<name>.<tag>` to name their published weights too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenprune.bench.data.reference import brief
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.models.kinds.hub import hub_file
from greenprune.bench.models.kinds.kind import Preprocessing, Pretrained, Shape

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm/"
FILES = ("model.safetensors", "pytorch_model.bin")


class Timm:
    form = "timm/<name>"

    def takes(self, name: str) -> bool:
        return name.startswith(PREFIX)

    def known(self) -> list[str]:
        """None where timm is not installed: a suggestion is not worth its error."""
        try:
            import timm
        except ImportError:
            return []
        return [PREFIX + name for name in timm.list_models()]

    def check(self, name: str) -> None:
        timm = _timm(name)
        architecture, _, tag = name.removeprefix(PREFIX).partition(".")
        if not timm.is_model(architecture):
            known = timm.list_models()
            near = did_you_mean(architecture, known)
            raise UserError(
                f'model = "{name}": timm has no model "{architecture}"{near}; allowed are the {len(known):,} names of '
                "timm.list_models()"
            )
        if tag and tag not in (tags := _tags(timm, architecture)):
            raise UserError(
                f'model = "{name}": timm has no weights "{tag}" of {architecture}{did_you_mean(tag, tags)}; allowed: '
                f"{', '.join(tags) or 'no tag'}"
            )

    def make(self, name: str, classes: int, shape: Shape) -> nn.Module:
        self.check(name)
        return _made(_timm(name), name.removeprefix(PREFIX), shape, pretrained=False, num_classes=classes)

    def pretrained(self, name: str, which: str, shape: Shape) -> Pretrained:
        """With as many input channels, and positions for images of the size, that `shape` says: timm fits both."""
        self.check(name)
        timm = _timm(name)
        architecture, _, tag = name.removeprefix(PREFIX).partition(".")
        tags = _tags(timm, architecture)
        if which != "DEFAULT":
            if which not in tags:
                raise UserError(
                    f'weights = "{which}": {PREFIX}{architecture} has no such weights{did_you_mean(which, tags)}; allowed: '
                    f"DEFAULT, {', '.join([*tags, 'a file of tensors'])}, or the folder of a finished run"
                )
            tag = which
        full = f"{architecture}.{tag}" if tag else architecture
        config = timm.get_pretrained_cfg(full)
        if config is None or not config.has_weights:
            raise UserError(f'weights = "{which}": timm has no published weights of {architecture}')
        options: dict[str, Any] = {}
        if config.hf_hub_id:
            named = config.hf_hub_filename
            place = hub_file(config.hf_hub_id, (named,) if named else FILES, f'weights = "{which}"')
            options["pretrained_cfg_overlay"] = {"file": str(place)}
        try:
            model = _made(timm, full, shape, pretrained=True, **options)
        except UserError:
            raise
        except Exception as error:  # of the network, or of a damaged file
            raise UserError(f'weights = "{which}": those of {name} cannot be had ({brief(error)})') from error
        preprocessing = Preprocessing(tuple(config.mean), tuple(config.std), tuple(config.input_size[1:]))
        return Pretrained(dict(model.state_dict()), f"{PREFIX}{architecture}.{config.tag}", preprocessing)


def _timm(name: str) -> Any:
    try:
        import timm
    except ImportError:
        raise UserError(f'model = "{name}": needs timm, which is not installed; "pip install timm" does') from None
    return timm


def _tags(timm: Any, architecture: str) -> list[str]:
    return [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]


def _made(timm: Any, name: str, shape: Shape, **options: Any) -> nn.Module:
    channels, height, width = shape
    options = {"in_chans": channels, **options}
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.fixed_input_size:  # it takes images of any size
        return timm.create_model(name, **options)
    try:
        return timm.create_model(name, img_size=(height, width), **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **options)
