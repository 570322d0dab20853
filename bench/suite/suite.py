"""A suite: one TOML file that says what is trained and how, with which methods and budgets, and what is measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from greenprune.bench import models
from greenprune.bench.data.options import Entry, label_of
from greenprune.bench.energy.carbon import GridIntensity, check_country, grid_intensity
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.models.kinds.kind import SUFFIXES
from greenprune.bench.runtimes.names import EAGER, RUNTIMES
from greenprune.bench.suite.images import Entries, schema_of_entries
from greenprune.bench.suite.recipe import Allowance, Part, Running, Training, refused
from greenprune.bench.suite.task import TaskEntry, TaskOfSuite, describe_in
from greenprune.bench.suite.validation import REPEATED, shown
from greenprune.bench.suite.views import View
from greenprune.methods.catalogue import card, cards
from greenprune.methods.cost.kinds import COST_NAMES, MEASURED
from greenprune.methods.options.base import Card, MethodOptions
from greenprune.methods.plugins import REFERENCE, MethodError, UnknownMethodError
from pydantic import (
    AfterValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError


def _refuse_repeats(values: Any, inner: ValidatorFunctionWrapHandler) -> Any:
    """Refuse what occurs twice in a list (of methods: a label), together with whatever else is wrong with the list."""
    details: list[InitErrorDetails] = []
    seen: set[tuple[type, Any]] = set()  # with its type, because true equals 1
    for i, value in enumerate(values if isinstance(values, list | tuple) else ()):
        is_method = isinstance(value, dict | MethodEntry)
        word = dict(value).get("label", dict(value).get("name")) if is_method else value
        known = (type(word), word if isinstance(word, str | int | float) else repr(word))
        if word is not None and known in seen:
            loc = (i, "label") if is_method else (i,)
            details.append(InitErrorDetails(type=PydanticCustomError(REPEATED, "is there twice"), loc=loc, input=word))
        seen.add(known)
    try:
        valid = inner(values)
    except ValidationError as e:
        details += [
            InitErrorDetails(
                type=PydanticCustomError(d["type"], d["msg"], d.get("ctx")), loc=d["loc"], input=d["input"]
            )
            for d in e.errors()
        ]
    if details:
        raise ValidationError.from_exception_data("list", details)
    return valid


T = TypeVar("T")
EachOnce = Annotated[
    tuple[T, ...],
    Field(min_length=1, strict=False, json_schema_extra={"uniqueItems": True}),  # TOML has lists, not tuples
    WrapValidator(_refuse_repeats),
]


def _alone(value: Any, inner: ValidatorFunctionWrapHandler) -> Any:
    """One text stands for a list of one."""
    if not isinstance(value, str):
        return inner(value)
    try:
        return inner([value])
    except ValidationError as e:
        details = [
            InitErrorDetails(type=PydanticCustomError(d["type"], d["msg"], d.get("ctx")), loc=d["loc"][1:], input=value)
            for d in e.errors()
        ]
        raise ValidationError.from_exception_data("text", details) from None


def _model_is_known(model: str) -> str:
    try:
        models.check(model)
    except UserError as e:
        raise refused(str(e)) from None
    return model


CostChoice = Literal["macs", "params", "latency", "energy", "auto"]
"""A kind of cost, or "auto": see `bench.plan.cost`."""

Budget = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every library's generator takes
BatchSize = Annotated[int, Field(ge=1, le=65536)]
CrossChecks = Annotated[
    tuple[Literal["codecarbon", "zeus"], ...],
    Field(strict=False, json_schema_extra={"uniqueItems": True}),
    WrapValidator(_refuse_repeats),
]


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class MethodEntry(Part):
    """A method and its options. The same method may occur several times, under different labels."""

    stored_where_used = frozenset({"most_seeds", "views"})

    name: str = Field(description="a registered method, or module:Class")
    label: str = Field(
        "",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$",
        max_length=100,  # part of a folder's name
        description="what tables, figures and folders call it; by default the method's name",
        json_schema_extra=_without_default,
    )
    options: SerializeAsAny[MethodOptions] = Field(
        default={}, validate_default=True, description="the method's own options; those left out have their defaults"
    )
    most_seeds: int | None = Field(
        None, ge=1, description="at most so many of the suite's seeds, the first ones; by default all"
    )
    views: EachOnce[View] | None = Field(
        None, description="those of the suite's views that the method is in, samples among them; by default all"
    )

    @property
    def alone(self) -> MethodEntry:
        """Without what is said of the suite that it is in, and no part of a run."""
        return self.model_copy(update={"most_seeds": None, "views": None})

    @model_validator(mode="before")
    @classmethod
    def _label_defaults_to_name(cls, entry: Any) -> Any:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            return {"label": entry["name"].rpartition(":")[2], **entry}
        return entry

    @field_validator("name")
    @classmethod
    def _is_registered(cls, name: str) -> str:
        if name in cards():
            return name
        try:
            card(name)
        except UnknownMethodError:
            raise PydanticCustomError("unknown_name", "is unknown") from None
        except MethodError as e:
            raise refused(f'name = "{name}": {e}') from None
        return name

    @field_validator("options", mode="plain")
    @classmethod
    def _are_the_methods_own(cls, options: Any, info: ValidationInfo) -> Any:
        method = _method(info.data.get("name", ""))
        if method is None or isinstance(options, method.Options):
            return options  # nothing can be said about the options of an unknown method; its name is refused already
        if not isinstance(options, dict):
            raise PydanticKnownError("dict_type")
        # Strict JSON rather than strict Python: there a list may become a tuple.
        return method.Options.model_validate_json(json.dumps(options, default=str), strict=True)


class Measurement(Part):
    """What is measured on each finished network, side by side with the dense one."""

    stored_where_used = frozenset({"runtimes", "int8", "crosscheck", "region", "cloud", "gco2e_per_kwh", "pue"})

    inference_batch_sizes: EachOnce[BatchSize] = Field((1, 64), description="images per forward pass")
    runtimes: EachOnce[str] = Field(
        (EAGER,),
        description="what runs the networks: eager (in any case), compile, onnxruntime, openvino, or module:Class",
    )
    int8: bool = Field(
        False, description="in runtimes that can, measure the networks with 8-bit integers too, with their accuracy"
    )
    inference_seconds: float = Field(3.0, gt=0, le=3600, description="seconds measured per network and batch size")
    country: str | None = Field(
        None, description="ISO 3166 alpha-3 code of the country whose grid is used; by default the world's average"
    )
    region: str | None = Field(None, description="province, state or zone of the country, such as quebec with CAN")
    cloud: tuple[str, str] | None = Field(
        None, description='provider and region of a cloud instead of country and region, such as ["aws", "us-east-1"]'
    )
    gco2e_per_kwh: float | None = Field(
        None, ge=0, le=5000, description="your own figure of the grid, in grams of CO2 equivalent per kilowatt-hour"
    )
    pue: float = Field(1.0, ge=1, le=10, description="power usage effectiveness of the data centre, which CO2 includes")
    crosscheck: CrossChecks = Field((), description="other energy meters to run beside each training")

    @field_validator("runtimes")
    @classmethod
    def _are_runtimes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in RUNTIMES and not re.fullmatch(REFERENCE, name):
                meant = did_you_mean(name, list(RUNTIMES))
                raise refused(
                    f"runtimes = {shown(list(names))}: {shown(name)} is unknown; allowed: {', '.join(RUNTIMES)}, or "
                    f"module:Class{meant}"
                )
        return names

    @field_validator("country")
    @classmethod
    def _is_known(cls, country: str | None) -> str | None:
        try:
            return None if country is None else check_country(country)
        except UserError as e:
            raise refused(str(e)) from None

    @model_validator(mode="after")
    def _is_a_place(self) -> Measurement:
        try:
            self.grid()
        except UserError as e:
            raise refused(str(e)) from None
        return self

    def grid(self) -> GridIntensity:
        """What a kilowatt-hour emits there."""
        return grid_intensity(self.country, self.region, self.cloud, self.gco2e_per_kwh)


class Suite(Part):
    """What a suite file holds."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100, description="name of the folder with the results"
    )
    description: str = Field("", description="what the suite is for")
    dataset: Entries = Field(
        description="images to learn: a name, package.module:factory, or a table; of several, each with each network"
    )
    train_images: int | None = Field(
        None, ge=1, description="how many of the training images to use, every class alike; by default all"
    )
    model: Annotated[EachOnce[Annotated[str, AfterValidator(_model_is_known)]], WrapValidator(_alone)] = Field(
        description="network to prune, or several: resnet20, vgg16_bn, torchvision/<name>, timm/<name>, hf/<id or folder>, or "
        "package.module:factory"
    )
    weights: str | None = Field(
        None,
        min_length=1,
        max_length=4000,
        description="to start from: DEFAULT or a name of published weights, a file (.safetensors, .pt, .pth), or the folder of "
        "a finished run, looked for beside the suite file, then in the working directory; by default drawn at the seed",
    )
    task: TaskOfSuite = Field(
        TaskEntry(), description="what is trained for: its loss, its scores, and how a batch is fed to the network"
    )
    budgets: EachOnce[Budget] = Field(description="fractions of the dense network's cost to keep")
    cost: CostChoice = Field(
        "macs",
        description="what budgets are stated in: multiply-accumulates, parameters, or time or energy of inference, which "
        "the first run measures layer by layer before it trains; auto: energy where this machine measures it, else time",
    )
    budget_batch_size: BatchSize | None = Field(
        None,
        description="images per forward pass that a budget of time or energy is stated for, one of "
        "measurement.inference_batch_sizes; by default the largest of them",
    )
    budget_runtime: str = Field(
        EAGER,
        description="the runtime that a budget of time or energy is stated for, one of measurement.runtimes",
    )
    round_to: int = Field(
        1, ge=1, le=1024, description="groups of channels keep a multiple of so many, or stay as they are"
    )
    tolerance: float = Field(
        0.02, gt=0, lt=1, description="how far below its budget a network may end, as a fraction of the dense cost"
    )
    seeds: EachOnce[Seed] = Field((0,), description="seeds of weights, data order and augmentation: one run for each")
    training: Training = Field(description="the recipe, the same for every method")
    allowance: Allowance | None = Field(
        None, description="what each run may spend; by default the images of the recipe's epochs"
    )
    views: EachOnce[View] = Field(
        ("samples",),
        description="samples: all methods see equally many images; macs, joules: besides, each method trains once more, "
        "for as long as it may until it has taken the training MACs, or the joules, of dense",
    )
    methods: EachOnce[MethodEntry] = Field(description="what is compared")
    measurement: Measurement = Field(Measurement(), description="what is measured on the finished networks")
    run: Running = Field(Running(), description="how runs are kept going: checkpoints, and when one is given up")

    @field_validator("methods")
    @classmethod
    def _can_keep_the_cost(cls, entries: tuple[MethodEntry, ...], info: ValidationInfo) -> tuple[MethodEntry, ...]:
        unable: dict[str, ValueError] = {}
        for entry in entries:
            method = _method(entry.name)
            try:
                if method is not None:
                    cost = info.data.get("cost", "macs")
                    method.check_cost("latency" if cost == "auto" else cost)
            except ValueError as e:
                unable[entry.label] = e
        if unable:
            told = next(iter(unable.values()))
            raise refused(f'{told}; allowed: cost = "macs", or a suite without {", ".join(unable)}')
        return entries

    @model_validator(mode="after")
    def _budget_is_measured_there(self) -> Suite:
        size, sizes = self.budget_batch_size, self.measurement.inference_batch_sizes
        name, names = self.budget_runtime, (EAGER, *self.measurement.runtimes)
        for key, value, everywhere, changed in (
            ("budget_batch_size", size, "at every batch size", size is not None),
            ("budget_runtime", name, "in every runtime", name != EAGER),
        ):
            if changed and self.cost != "auto" and self.cost not in MEASURED:
                raise refused(
                    f"{key} = {shown(value)}: a budget of {COST_NAMES[self.cost]} holds {everywhere}; allowed: with "
                    'cost = "latency", "energy" or "auto"'
                )
        if size is not None and size not in sizes:
            raise refused(
                f"budget_batch_size = {size}: is not among measurement.inference_batch_sizes; allowed: "
                f"{', '.join(map(str, sizes))}"
            )
        if name not in names:
            raise refused(
                f"budget_runtime = {shown(name)}: is not among measurement.runtimes; allowed: "
                f"{', '.join(dict.fromkeys(names))}"
            )
        return self

    @model_validator(mode="after")
    def _views_have_a_basis(self) -> Suite:
        if self.views == ("samples",):
            return self
        given = f"views = {shown(self.views)}"
        if "samples" not in self.views:
            raise refused(f'{given}: lacks "samples", which the others start from; allowed: a list with "samples"')
        if all(entry.name != "dense" for entry in self.methods):
            raise refused(f'{given}: needs a method with name = "dense" to be equal to; allowed: ["samples"]')
        if self.allowance is not None:
            raise refused(f'{given}: sets the allowance itself; allowed: ["samples"], or a suite without [allowance]')
        return self

    @model_validator(mode="after")
    def _methods_are_in_its_views(self) -> Suite:
        seeds = max(len(self.seeds_of(entry)) for entry in self.methods)
        for i, entry in enumerate(self.methods):
            if entry.views is not None and (missing := [v for v in entry.views if v not in self.views]):
                raise refused(
                    f"methods[{i}].views = {shown(entry.views)}: {shown(missing[0])} is not among the views of the suite; "
                    f"allowed: {', '.join(map(shown, self.views))}"
                )
            if entry.views is not None and "samples" not in entry.views:
                raise refused(
                    f'methods[{i}].views = {shown(entry.views)}: lacks "samples", which the others start from; allowed: '
                    'a list with "samples"'
                )
            if entry.name == "dense" and len(self.seeds_of(entry)) < seeds:
                raise refused(
                    f"methods[{i}].most_seeds = {entry.most_seeds}: others have more, and are compared with dense seed by "
                    f"seed; allowed: at least {seeds}"
                )
        return self

    def seeds_of(self, entry: MethodEntry) -> tuple[int, ...]:
        """The seeds that a method of it runs with."""
        return self.seeds[: entry.most_seeds]

    def views_of(self, entry: MethodEntry) -> tuple[View, ...]:
        """The views that a method of it is in."""
        return self.views if entry.views is None else entry.views

    @model_validator(mode="after")
    def _weights_are_of_one_network(self) -> Suite:
        given = self.weights
        if given is not None and len(self.model) > 1 and ("/" in given or given.endswith(SUFFIXES)):
            raise refused(
                f"weights = {shown(given)}: are of one network, and the suite has {len(self.model)}; allowed: a suite with one "
                "model, or DEFAULT"
            )
        return self

    @field_validator("budgets", "model")
    @classmethod
    def _have_folders_of_their_own(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        before: dict[str, Any] = {}
        for value in values:
            name = for_folder(value)
            if name in before:
                raise refused(
                    f"{info.field_name} = {shown(list(values))}: the runs of {shown(before[name])} and {shown(value)} would "
                    f"have the same folder ({name}); allowed: values that differ in it"
                )
            before[name] = value
        return values

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Each data set with each network."""
        return tuple(
            Pair(
                label_of(entry),
                model,
                "".join([
                    f"{for_folder(label_of(entry))}-" if len(self.dataset) > 1 else "",
                    f"{for_folder(model)}-" if len(self.model) > 1 else "",
                ]),
                entry,
            )
            for entry in self.dataset
            for model in self.model
        )  # fmt: skip

    @property
    def about(self) -> str:
        """Data sets and networks, in words."""
        return f"{', '.join(map(label_of, self.dataset))} on {', '.join(self.model)}"


@dataclass(frozen=True)
class Pair:
    """A data set and a network of a suite.

    Attributes:
        dataset: as tables and figures call it.
        prefix: of the keys of its runs: what of it the suite has several of.
        entry: what the suite says of the data set.
    """

    dataset: str
    model: str
    prefix: str = ""
    entry: Entry = ""


def for_folder(value: float | str) -> str:
    """A budget or a network as the names of folders spell it."""
    return re.sub(r"[^\w.+-]+", "-", value) if isinstance(value, str) else f"{value:g}"


def _method(name: str) -> Card | None:
    """The method that a suite calls `name`; None where there is none that can be used."""
    known = cards().get(name)
    if known is not None:
        return known
    try:
        return card(name)
    except MethodError:
        return None


def schema(references: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON schema of a suite file, with the names and the options of all registered methods.

    Args:
        references: methods given as `module:Class` whose options are to be described too.
    """
    result = Suite.model_json_schema()
    definitions = result["$defs"]
    one = {"type": "string"}
    several = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
    for key, may_be in (("dataset", schema_of_entries(definitions)), ("model", {"anyOf": [one, several]})):
        about = result["properties"][key]
        result["properties"][key] = {**may_be, "description": about["description"], "title": about["title"]}
    describe_in(result)
    entry = definitions["MethodEntry"]
    described = entry["properties"]["name"].pop("description")
    entry["properties"]["name"] = {
        "anyOf": [{"type": "string", "enum": list(cards())}, {"type": "string", "pattern": REFERENCE}],
        "description": described,
        "title": "Name",
    }
    entry["allOf"] = []
    named_otherwise = {name: method for name in references if (method := _method(name)) is not None}
    for name, method in {**named_otherwise, **cards()}.items():
        options = method.Options.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= options.pop("$defs", {})
        named = {"properties": {"name": {"const": name}}, "required": ["name"]}
        entry["allOf"].append({"if": named, "then": {"properties": {"options": options}}})
    return result
