"""A suite: one TOML file that says what is trained and how, with which methods and budgets, and what is measured."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from greenprune.bench import models
from greenprune.bench.data.options import label_of
from greenprune.bench.errors import UserError
from greenprune.bench.models.kinds.kind import SUFFIXES
from greenprune.bench.runtimes.names import EAGER
from greenprune.bench.suite.entry import MethodEntry, method_of
from greenprune.bench.suite.images import Entries
from greenprune.bench.suite.lists import EachOnce, alone
from greenprune.bench.suite.measurement import BatchSize, Measurement
from greenprune.bench.suite.pair import Pair, for_folder
from greenprune.bench.suite.recipe import Allowance, Part, Running, Training, refused
from greenprune.bench.suite.task import TaskEntry, TaskOfSuite
from greenprune.bench.suite.validation import shown
from greenprune.bench.suite.views import View
from greenprune.methods.cost.kinds import COST_NAMES, MEASURED
from pydantic import AfterValidator, Field, ValidationInfo, WrapValidator, field_validator, model_validator


def _model_is_known(model: str) -> str:
    try:
        models.check(model)
    except UserError as e:
        raise refused(str(e)) from None
    return model


CostChoice = Literal["macs", "params", "latency", "energy", "auto"]
"""A kind of cost, or "auto": see `bench.plan.cost`."""

MOST_IMAGES = 10_000_000_000
Budget = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every library's generator takes


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
        None,
        ge=1,
        le=MOST_IMAGES,
        description="how many of the training images to use, every class alike; by default all",
    )
    model: Annotated[EachOnce[Annotated[str, AfterValidator(_model_is_known)]], WrapValidator(alone)] = Field(
        description="network to prune, or several: resnet20, vgg16_bn, torchvision/<name>, timm/<name>, hf/<id or folder>, or "
        "package.module:factory"
    )
    weights: str | None = Field(
        None,
        min_length=1,
        max_length=4000,
        description="to start from: DEFAULT or a name of published weights, a file (.safetensors, .pt, .pth, .bin), or the "
        "folder of a finished run, looked for beside the suite file, then in the working directory; by default drawn at "
        "the seed",
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
        only = (info.context or {}).get("only")  # those that are to run; None: all
        unable: dict[str, ValueError] = {}
        for entry in entries:
            if only is not None and entry.label not in only:
                continue
            method = method_of(entry.name)
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

    @model_validator(mode="after")
    def _runs_have_folders_of_their_own(self) -> Suite:
        before: dict[str, tuple[Pair, int]] = {}
        for pair in self.pairs:
            for i, entry in enumerate(self.methods):
                other, k = before.setdefault(f"{pair.prefix}{entry.label}", (pair, i))
                if (other, k) == (pair, i):
                    continue
                if other == pair:
                    raise refused(
                        f"methods[{i}].label = {shown(entry.label)}: is that of methods[{k}] too, by default its name; "
                        "allowed: a label of its own"
                    )
                key, names = "dataset", (other.dataset, pair.dataset)
                if other.dataset == pair.dataset:
                    key, names = "model", (other.model, pair.model)
                raise refused(
                    f"{key} = {shown(names[1])}: its runs and those of {shown(names[0])} would have the same folders "
                    f"({pair.prefix}{entry.label}-…); allowed: names, and labels of methods, that differ in it"
                )
        return self

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
