"""What a suite says about training: the recipe, and what each run may spend on it."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from greenprune.bench.data.names import AUGMENTATIONS, CROP_FLIP, NO_AUGMENTATION
from greenprune.bench.errors import did_you_mean
from greenprune.bench.suite.validation import REFUSED, shown
from greenprune.bench.text import plural
from greenprune.methods.plugins import REFERENCE
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError


class Part(BaseModel):
    """Base of a suite and its tables: immutable, unknown keys refused, no conversion between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    stored_where_used: ClassVar[frozenset[str]] = frozenset()
    """Keys that are not stored where they have their defaults: settings that know none of them are those of the same run."""

    @model_serializer(mode="wrap")
    def _without_unused(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        unused = {name for name in self.stored_where_used if getattr(self, name) == fields[name].default}
        return {name: value for name, value in inner(self).items() if name not in unused}


def refused(sentence: str) -> PydanticCustomError:
    """An error whose message is the whole `sentence`: `key = value: what is wrong; allowed: ...`."""
    return PydanticCustomError(REFUSED, sentence)


OF_OPTIMIZER: dict[str, dict[str, Any]] = {
    "sgd": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
    "adam": {"learning_rate": 1e-3, "betas": (0.9, 0.999)},
    "adamw": {"learning_rate": 1e-3, "betas": (0.9, 0.999)},
}
"""What each optimizer takes besides a weight decay, with its defaults. What it does not take is None in a recipe."""

MOST_EPOCHS = 1_000_000

Beta = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]


def _augmentations(value: Any) -> tuple[str, ...]:
    """One name stands for a list of one."""
    names = [value] if isinstance(value, str) else value
    allowed = f"{', '.join(AUGMENTATIONS)}, package.module:factory, or a list of such, each once"
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise refused(f"augment = {shown(value)}: is no name and no list of names; allowed: {allowed}")
    for name in names:
        if name not in AUGMENTATIONS and not re.match(REFERENCE, name):
            raise refused(f"augment = {shown(name)}: is unknown; allowed: {allowed}{did_you_mean(name, AUGMENTATIONS)}")
    if len(set(names)) < len(names):
        raise refused(f"augment = {shown(value)}: has a name twice; allowed: {allowed}")
    if NO_AUGMENTATION in names and len(names) > 1:
        raise refused(f'augment = {shown(value)}: has "none" beside others; allowed: "none" alone, or the others')
    return tuple(names)


_NAME = {"anyOf": [{"type": "string", "enum": list(AUGMENTATIONS)}, {"type": "string", "pattern": REFERENCE}]}
Augment = Annotated[
    tuple[str, ...],
    Field(strict=False),
    BeforeValidator(_augmentations),
    WithJsonSchema({"anyOf": [*_NAME["anyOf"], {"type": "array", "items": _NAME, "minItems": 1, "uniqueItems": True}]}),
]


class Training(Part):
    """The recipe, the same for every method."""

    stored_where_used = frozenset({
        "betas", "decay_norms_and_biases", "step_at", "step_factor", "clip_gradient_norm", "accumulate_steps", "ema_decay",
        "ema_evaluate", "freeze", "head_learning_rate", "layer_decay", "devices", "nodes",
    })  # fmt: skip

    epochs: int = Field(
        ge=1, le=MOST_EPOCHS, description="passes over the training images, all phases of a method together"
    )
    batch_size: int = Field(128, ge=1, le=65536, description="images per optimizer step, on all devices together")
    optimizer: Literal["sgd", "adam", "adamw"] | Annotated[str, Field(pattern=REFERENCE)] = Field(
        "sgd",
        description="sgd: stochastic gradient descent with momentum; adam; adamw: Adam with decoupled weight decay; "
        "package.module:make, called with parameter groups, lr and weight_decay",
    )
    learning_rate: float = Field(
        0.1, gt=0, description="learning rate at the end of the warm-up; by default 0.1 with sgd, else 0.001"
    )
    momentum: float | None = Field(None, ge=0, lt=1, description="momentum, of sgd alone; by default 0.9")
    nesterov: bool | None = Field(
        None, description="use Nesterov's form of the momentum, of sgd alone; by default true"
    )
    betas: Annotated[tuple[Beta, ...], Field(min_length=2, max_length=2, strict=False)] | None = Field(
        None,
        description="decay of the means of gradients and of their squares, of adam and adamw alone; by default [0.9, 0.999]",
    )
    weight_decay: float = Field(
        5e-4,
        ge=0,
        description="factor of the L2 penalty on the weights; with adamw the share, times the learning rate, that a weight "
        "loses in each step",
    )
    decay_norms_and_biases: bool = Field(
        True, description="weight decay on parameters of one dimension too: scales of norms and biases"
    )
    schedule: Literal["linear", "cosine", "step", "one-cycle"] = Field(
        "cosine",
        description="how the learning rate decays: to 0, by a factor at some epochs, or in one cycle with a rise of its own, "
        "30 % of it, in place of the warm-up",
    )
    step_at: Annotated[tuple[Share, ...], Field(min_length=1, strict=False)] = Field(
        (0.5, 0.75), description="of schedule step: at which fractions of a cycle the learning rate falls"
    )
    step_factor: float = Field(0.1, gt=0, lt=1, description="of schedule step: by which factor it falls each time")
    warmup_epochs: float = Field(1.0, ge=0, description="epochs over which the learning rate rises from 0")
    clip_gradient_norm: float | None = Field(
        None,
        gt=0,
        description="largest norm of all gradients together, before what a method adds to them; by default none",
    )
    accumulate_steps: int = Field(
        1, ge=1, le=65536, description="parts that each batch is taken in, one after the other, to need less memory"
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="keep an exponential moving average of the weights, with this decay for each step"
    )
    ema_evaluate: bool = Field(
        True, description="evaluate and keep the average in place of the weights; false: note its score alone"
    )
    freeze: Annotated[tuple[Pattern, ...], Field(strict=False)] = Field(
        (), description="modules and parameters that are not trained, by patterns of their names such as layer1.*"
    )
    head_learning_rate: float | None = Field(
        None, gt=0, description="learning rate of the layer that gives the outputs; by default that of all"
    )
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="factor by which the learning rate falls from each layer to the one before it"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target that is spread over all classes")
    augment: Augment = Field(
        (CROP_FLIP,),
        description="what is done to training images: none, crop-flip (crop at random after padding, and mirror where the "
        "data set allows it), resized-crop, trivial-augment, mixup, cutmix, package.module:factory, or a list of such",
    )
    crop_padding: int | None = Field(
        None, ge=0, le=16, description="pixels around the image for random crops; by default the data set's"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the device is faster with it, else float32"
    )
    devices: int = Field(
        1, ge=1, le=1024, description="GPUs of a node that each run trains on together; on the CPU, processes"
    )
    nodes: int = Field(
        1, ge=1, le=10_000, description="nodes that each run trains on together, each with that many devices"
    )
    channels_last: bool = Field(True, description="keep images and convolution weights in channels-last memory format")

    @field_validator("step_at", "step_factor")
    @classmethod
    def _is_of_the_schedule(cls, value: Any, info: ValidationInfo) -> Any:
        chosen = info.data.get("schedule")
        if chosen not in (None, "step"):
            raise refused(
                f'{info.field_name} = {shown(value)}: schedule = "{chosen}" has none; allowed: no such key, or '
                'schedule = "step"'
            )
        return value

    @field_validator("accumulate_steps")
    @classmethod
    def _parts_have_images(cls, parts: int, info: ValidationInfo) -> int:
        images = info.data.get("batch_size", parts)
        if parts > images:
            raise refused(f"accumulate_steps = {parts}: a batch has {plural(images, 'image')}; allowed: 1 to {images}")
        return parts

    @property
    def ranks(self) -> int:
        """Processes that a run trains with."""
        return self.devices * self.nodes

    @field_validator("devices", "nodes")
    @classmethod
    def _divides_the_batch(cls, value: int, info: ValidationInfo) -> int:
        known = info.data
        if not {"batch_size", "accumulate_steps"} <= known.keys():
            return value
        ranks = value * (known.get("devices", 1) if info.field_name == "nodes" else 1)
        parts = ranks * known["accumulate_steps"]
        if parts > 1 and value > 1 and known["batch_size"] % parts:
            of = f" in {known['accumulate_steps']} parts each" if known["accumulate_steps"] > 1 else ""
            raise refused(
                f"{info.field_name} = {value}: batch_size = {known['batch_size']} is that of all {ranks} devices "
                f"together{of}; allowed: a batch_size that {parts} divides"
            )
        return value

    @field_validator("ema_evaluate")
    @classmethod
    def _there_is_an_average(cls, evaluated: bool, info: ValidationInfo) -> bool:
        if not evaluated and info.data.get("ema_decay") is None:
            raise refused("ema_evaluate = false: there is no average; allowed: no such key, or an ema_decay")
        return evaluated

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_optimizer(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        chosen = data.get("optimizer", "sgd")
        return {**(OF_OPTIMIZER.get(chosen, {}) if isinstance(chosen, str) else {}), **data}

    @field_validator("momentum", "nesterov", "betas")
    @classmethod
    def _is_of_the_optimizer(cls, value: Any, info: ValidationInfo) -> Any:
        chosen = info.data.get("optimizer")
        if value is not None and chosen is not None and info.field_name not in OF_OPTIMIZER.get(chosen, {}):
            owners = " or ".join(f'"{name}"' for name, own in OF_OPTIMIZER.items() if info.field_name in own)
            raise refused(
                f'{info.field_name} = {shown(value)}: optimizer = "{chosen}" has none; allowed: no such key, or '
                f"optimizer = {owners}"
            )
        return value

    @field_validator("nesterov")
    @classmethod
    def _has_momentum(cls, nesterov: bool | None, info: ValidationInfo) -> bool | None:
        if nesterov and info.data.get("momentum") == 0:
            raise refused("nesterov = true: needs a momentum; allowed: false, or a momentum above 0")
        return nesterov

    @field_validator("warmup_epochs")
    @classmethod
    def _ends_in_time(cls, warmup_epochs: float, info: ValidationInfo) -> float:
        epochs = info.data.get("epochs", warmup_epochs)
        if warmup_epochs > epochs:
            raise refused(
                f"warmup_epochs = {warmup_epochs:g}: is longer than the training; allowed: a number at most {epochs}"
            )
        return warmup_epochs


LONGEST_MINUTES = 365 * 24 * 60.0


class Running(Part):
    """How runs are kept going. Nothing here decides what a run results in."""

    checkpoint_minutes: float = Field(
        5.0,
        gt=0,
        le=LONGEST_MINUTES,
        description="between two checkpoints of a training; one that was interrupted goes on from the last",
    )
    timeout_minutes: float | None = Field(
        None,
        gt=0,
        le=LONGEST_MINUTES,
        description="a run that takes longer is saved and ended; started again it goes on; by default none is",
    )
    heartbeat_minutes: float = Field(
        30.0,
        gt=0,
        le=LONGEST_MINUTES,
        description="a run that gives no sign of life for so long is ended: no step, and no processor time",
    )


class Allowance(Part):
    """What a run may spend on training, all phases of its method together. A run that overdraws it stops and fails."""

    samples: int | None = Field(
        None,
        ge=1,
        le=2**63 - 1,
        description="training images, repeats counted; by default those of the recipe's epochs",
    )
    macs: float | None = Field(
        None,
        gt=0,
        description="forward multiply-accumulates, as a multiple of what the dense network takes for the epochs",
    )
    joules: float | None = Field(
        None,
        gt=0,
        description=(
            "joules of the training: measured where there is a counter, else sampled, else modelled; with a GPU of the best "
            "kind that it is in"
        ),
    )
