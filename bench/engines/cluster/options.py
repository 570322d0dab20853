"""What `--engine-config` may say to Slurm: the keys are submitit's own, which are sbatch's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from greenprune.bench.energy.node.shared import WHOLE_NODE
from greenprune.bench.engines.engine import Options
from greenprune.bench.errors import UserError
from greenprune.bench.plan.cluster import Site
from greenprune.bench.run.stop import seconds_of
from greenprune.bench.suite.recipe import LONGEST_MINUTES, Training, refused
from greenprune.bench.suite.validation import shown
from greenprune.bench.text import plural
from pydantic import BeforeValidator, Field

DEFAULT_MINUTES = 24 * 60


def _minutes(value: Any) -> int:
    """Slurm's own forms, as the whole minutes that submitit counts with."""
    try:
        minutes = value if isinstance(value, int) else math.ceil(seconds_of(str(value)) / 60)
    except UserError:
        minutes = 0
    if isinstance(value, bool) or not 1 <= minutes <= LONGEST_MINUTES:
        allowed = 'minutes, or "hours:minutes:seconds", or "days-hours", at most 365 days'
        raise refused(f"slurm_time = {shown(value)}: is no time; allowed: {allowed}")
    return minutes


Count = Annotated[int, Field(ge=1, le=1_000_000)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]


class JobOptions(Options):
    """Of one kind of job. None: as the cluster says."""

    slurm_account: str | None = None
    slurm_additional_parameters: dict[str, str | int | bool] = Field(default_factory=dict)  # further options of sbatch
    slurm_comment: str | None = None
    slurm_constraint: str | None = None  # features that the node must have
    slurm_cpus_per_gpu: Count | None = None
    slurm_cpus_per_task: Count | None = None
    slurm_exclude: str | None = None
    slurm_exclusive: bool | str | None = None
    slurm_gpus_per_node: Count | str | None = None
    slurm_gpus_per_task: Count | str | None = None
    slurm_gres: str | None = None
    slurm_job_name: str | None = None
    slurm_mail_type: str | None = None
    slurm_mail_user: str | None = None
    slurm_mem: str | None = None
    slurm_mem_per_cpu: str | None = None
    slurm_mem_per_gpu: str | None = None
    slurm_nodelist: str | None = None
    slurm_partition: str | None = None
    slurm_qos: str | None = None
    slurm_setup: Texts = ()  # shell commands before the job
    slurm_signal_delay_s: Annotated[int, Field(ge=1, le=65535)] | None = None
    slurm_srun_args: Texts = ()
    slurm_stderr_to_stdout: bool | None = None
    slurm_teardown: Texts = ()
    slurm_time: Annotated[int, BeforeValidator(_minutes)] | None = None
    slurm_wckey: str | None = None

    def said(self) -> dict[str, Any]:
        """What was said, under submitit's names."""
        found = self.model_dump(exclude_defaults=True)
        return {key.removeprefix("slurm_"): value for key, value in found.items() if key.startswith("slurm_")}


class EngineOptions(JobOptions):
    """Of the engine."""

    slurm_array_parallelism: Annotated[int, Field(ge=1, le=100_000)] = 256  # runs side by side
    max_num_timeout: Annotated[int, Field(ge=0, le=100_000)] = 100  # how often a run goes on after its time limit
    measure: JobOptions = JobOptions()  # what differs for the last job, which measures inference side by side

    def for_runs(self, recipe: Training, device: str) -> dict[str, Any]:
        """Parameters of `submitit.SlurmExecutor` for the array of runs.

        Raises:
            UserError: a job has fewer GPUs or cores than a run trains on.
        """
        said = self.said() | {"array_parallelism": self.slurm_array_parallelism}
        if device == "cpu" and recipe.devices > 1:
            said.setdefault("cpus_per_task", recipe.devices)
        if recipe.devices > 1:
            self._refuse_fewer(recipe.devices, device, said)
        if recipe.nodes > 1:
            # One task, on the first node: it starts the others by srun (`greenprune.bench.distributed.nodes.spread`).
            more = {"nodes": recipe.nodes, "ntasks-per-node": 1}
            said["additional_parameters"] = more | said.get("additional_parameters", {})
            said["srun_args"] = (*self.slurm_srun_args, "--nodes=1", "--ntasks=1")
        return self._with_basics(said)

    def for_measuring(self) -> dict[str, Any]:
        """And for the last job: alone on its node."""
        said = {**self.said(), **self.measure.said()}
        said.pop("array_parallelism", None)
        return self._with_basics(said | {"exclusive": said.get("exclusive") or True})

    @property
    def has_gpus(self) -> bool:
        """Whether runs have a GPU."""
        return bool(
            self.slurm_gpus_per_node
            or self.slurm_gpus_per_task
            or any(part.startswith(("gpu", "shard")) for part in _parts(self.slurm_gres))
        )

    def device(self, asked: str) -> str:
        """As of `Options.device`."""
        if asked == "cuda" and not self.has_gpus:
            raise UserError(
                '--device cuda: the jobs have no GPU; say so in --engine-config: slurm_gres = "gpu:1", or the like'
            )
        return asked if asked != "auto" else "cuda" if self.has_gpus else "cpu"

    def site(self, asked: Site) -> Site:
        """As of `Options.site`."""
        of_node = self._gpus[1] if self.has_gpus else 0
        gpus = asked.gpus if not of_node else of_node * asked.spread
        return replace(
            asked,
            at_once=self.slurm_array_parallelism,
            gpus=gpus,
            cores=None if self.slurm_exclusive else self.slurm_cpus_per_task or asked.cores or 1,
            node_gpus=gpus // asked.spread if gpus and self.slurm_exclusive else max(asked.node_gpus, of_node),
            limit_s=60.0 * (self.slurm_time or DEFAULT_MINUTES),
        )

    @property
    def _gpus(self) -> tuple[str, int]:
        """The key that says how many GPUs a job has on a node, and how many: "gpu:2", "gpu:a100:2" and "a100:2" mean two, a
        name alone means one."""
        key = next(
            (key for key in ("slurm_gpus_per_node", "slurm_gpus_per_task", "slurm_gres") if getattr(self, key)),
            "slurm_gres",
        )
        parts = [part for part in _parts(getattr(self, key)) if key != "slurm_gres" or part.startswith("gpu")]
        numbers = [part.rpartition(":")[2] for part in parts]
        return key, sum(int(number) if number.isdecimal() else 1 for number in numbers)

    def _refuse_fewer(self, devices: int, device: str, said: Mapping[str, Any]) -> None:
        key, there, what = "slurm_cpus_per_task", said.get("cpus_per_task", devices), "core"
        if device != "cpu":
            (key, there), what = self._gpus, "GPU"
        if there < devices:
            raise UserError(
                f"training.devices = {devices}: by {key} of --engine-config a job has {plural(there, what)} on a node; allowed "
                f"are {devices} at least, or training.devices = {max(1, there)}"
            )

    @staticmethod
    def _with_basics(said: dict[str, Any]) -> dict[str, Any]:
        said = _without_false(said)
        extra = {"requeue": True} | said.get("additional_parameters", {})
        # srun takes no number of cores from sbatch, since Slurm 22.05.
        setup = ['export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}"']
        if said.get("exclusive") is True:  # not "user": others of the same user's jobs may be there
            setup.append(f"export {WHOLE_NODE}=1")
        lists: dict[str, Any] = {name: list(said[name]) for name in ("srun_args", "teardown") if name in said}
        # One process: on a node of its own srun would start one for each core.
        basics = {"time": DEFAULT_MINUTES, "nodes": 1, "ntasks_per_node": 1}
        return {
            **basics, **said, **lists, "additional_parameters": _without_false(extra), "setup": [*setup, *said.get("setup", ())]
        }  # fmt: skip


def _parts(said: object) -> list[str]:
    """Of a list with commas: "gpu:2, nvme:1"."""
    return [part.strip() for part in str(said or "").split(",") if part.strip()]


def _without_false(said: Mapping[str, Any]) -> dict[str, Any]:
    """An option that is off is not said at all: sbatch knows no `--exclusive=False`."""
    return {key: value for key, value in said.items() if value is not False}
