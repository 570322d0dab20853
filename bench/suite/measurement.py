"""What a suite has measured on its networks, and whose grid the joules come from."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from greenprune.bench.energy.carbon.intensity import GridIntensity, check_country, grid_intensity
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.runtimes.names import EAGER, RUNTIMES
from greenprune.bench.suite.lists import EachOnce, refuse_repeats
from greenprune.bench.suite.recipe import Part, refused
from greenprune.bench.suite.validation import shown
from greenprune.methods.plugins import REFERENCE
from pydantic import Field, ValidationError, WrapValidator, field_validator, model_validator
from pydantic_core import InitErrorDetails

LARGEST_BATCH = 65_536
BatchSize = Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
CrossChecks = Annotated[
    tuple[Literal["codecarbon", "zeus"], ...],
    Field(strict=False, json_schema_extra={"uniqueItems": True}),
    WrapValidator(refuse_repeats),
]


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
    inference_seconds: float = Field(
        3.0,
        gt=0,
        le=3600,
        description="seconds measured per network and batch size; up to 2 times as long until the ratio of the times is "
        "known to 2 %, up to 10 times where a budget of time or energy depends on it",
    )
    country: str | None = Field(
        None, description="ISO 3166 alpha-3 code of the country whose grid is used; by default the world's average"
    )
    region: str | None = Field(None, description="province, state or zone of the country, such as quebec with CAN")
    cloud: Annotated[tuple[str, ...], Field(min_length=2, max_length=2, strict=False)] | None = Field(
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
            of_a_key = InitErrorDetails(type=refused(str(e)), loc=("",), input=None)  # the sentence begins with the key
            raise ValidationError.from_exception_data("measurement", [of_a_key]) from None
        return self

    def grid(self) -> GridIntensity:
        """What a kilowatt-hour emits there."""
        cloud = None if self.cloud is None else (self.cloud[0], self.cloud[1])
        return grid_intensity(self.country, self.region, cloud, self.gco2e_per_kwh)
