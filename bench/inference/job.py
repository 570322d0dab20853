"""What `greenprune.bench.inference.together` is told. Needs no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class JointJob(BaseModel):
    """What is to be measured side by side, and how. None: as in the record of the dense run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str  # results/<suite>
    command: str  # that the user typed
    data_root: str | None = None
    data_folders: dict[str, str] = {}  # where the images of tables with a folder lie, by data set
    device: str | None = None
    threads: int | None = None
    seconds: float | None = None
    batch_sizes: tuple[int, ...] | None = None
    runtimes: tuple[str, ...] | None = None  # besides eager PyTorch
    seeds: tuple[int, ...] | None = None  # None: all
    order_seed: int = 0
    trust: bool | tuple[str, ...] = False  # what `module:name` may be imported, as of `load_model`
