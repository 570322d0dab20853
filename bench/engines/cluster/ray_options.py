"""Options of Ray for the runs of a suite: what a run needs of the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from greenprune.bench.engines.engine import Options
from greenprune.bench.errors import UserError
from greenprune.bench.plan.cluster import Site
from greenprune.bench.suite.recipe import refused
from greenprune.bench.suite.validation import shown
from pydantic import Field, field_validator

LEAST = 1e-4
"""That Ray counts of anything, beside nothing."""

Amount = Annotated[float, Field(ge=0)]


class EngineOptions(Options):
    """Under Ray's own names."""

    address: str | None = Field(
        None, description='of the cluster, "auto" on one of its nodes; by default Ray starts here'
    )
    num_cpus: int = Field(1, ge=1, le=4096, description="cores of a run")
    num_gpus: int | None = Field(
        None, ge=0, le=1024, description="GPUs of a run; by default 1 where runs are on CUDA, which --device auto takes where "
        "this machine has it, else 0. Whole ones: joules of two runs on one GPU cannot be told apart"
    )  # fmt: skip
    resources: dict[str, Amount] = Field({}, description="other resources of a run, as the cluster calls them")
    max_retries: int = Field(3, ge=-1, le=1000, description="how often a run is started again whose process was killed")
    runtime_env: dict[str, Any] = Field({}, description="what Ray sets up for the tasks")

    @field_validator("resources")
    @classmethod
    def _can_be_counted(cls, resources: dict[str, float]) -> dict[str, float]:
        for name, own in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
            if name in resources:
                raise refused(f"resources = {shown(resources)}: {name} has a key of its own; allowed: {own}")
        for name, amount in resources.items():
            if 0 < amount < LEAST:
                raise refused(f"resources.{name} = {amount:g}: is too small for Ray; allowed: 0, or at least {LEAST:g}")
        return resources

    def device(self, asked: str) -> str | None:
        """As of `Options.device`: that of the nodes, which this machine may not have."""
        if self.num_gpus is None:
            return asked if self.address is not None and asked != "auto" else None
        if asked == "cuda" and not self.num_gpus:
            raise UserError("--device cuda: runs have no GPU; say so in --engine-config: num_gpus = 1, or more")
        return asked if asked != "auto" else "cuda" if self.num_gpus else "cpu"

    def site(self, asked: Site) -> Site:
        """As of `Options.site`."""
        return replace(asked, gpus=asked.gpus if self.num_gpus is None else self.num_gpus, cores=self.num_cpus)
