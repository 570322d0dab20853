"""How the networks of a suite are measured side by side: as the job says, or else the record of the dense run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from greenprune.bench.data.options import DataOptions
from greenprune.bench.errors import UserError
from greenprune.bench.inference.job import JointJob
from greenprune.bench.records.record import Record
from greenprune.bench.runtimes.names import EAGER
from pydantic import BaseModel, Field, ValidationError


class JointSettings(BaseModel):
    """What of the settings in a dense run's record decides how networks are measured."""

    dataset: str
    data: DataOptions | None
    model: str
    device: Literal["cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    channels_last: bool
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...]
    threads: Annotated[int, Field(ge=1)] | None
    runtimes: tuple[str, ...]  # besides eager PyTorch

    @classmethod
    def of(cls, record: Record, job: JointJob, folder: Path) -> JointSettings:
        """Raises UserError: the record has none of it, or something else."""
        parts = (record.settings.get(name) for name in ("training", "measurement"))
        training, measurement = (part if isinstance(part, dict) else {} for part in parts)
        runtimes = job.runtimes if job.runtimes is not None else measurement.get("runtimes", ())
        try:
            return cls.model_validate({
                "dataset": record.settings.get("dataset"),
                "data": _data_options(record),
                "model": record.settings.get("model"),
                "device": (job.device or str(record.settings.get("device"))).partition(":")[0],
                "precision": training.get("precision"),
                "channels_last": training.get("channels_last"),
                "seconds": job.seconds or measurement.get("inference_seconds"),
                "batch_sizes": job.batch_sizes or measurement.get("inference_batch_sizes"),
                "threads": job.threads or record.machine.get("threads"),
                "runtimes": [name for name in runtimes if name != EAGER],
            })  # fmt: skip
        except ValidationError as e:
            first = e.errors()[0]
            key = first["loc"][0] if first["loc"] else "data"
            raise UserError(
                f"{folder / record.key}: its settings have no usable {key} ({first['msg']}); run it again"
            ) from None


def _data_options(record: Record) -> DataOptions | None:
    """Raises ValidationError."""
    stored = record.settings.get("data")
    return None if stored is None else DataOptions.model_validate_json(json.dumps(stored))
