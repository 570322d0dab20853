"""What a suite asks for and this machine does not have, before anything is started."""

from __future__ import annotations

import os

from greenprune.bench.distributed.nodes import missing, nodes_here
from greenprune.bench.errors import UserError
from greenprune.bench.suite.recipe import Training
from greenprune.bench.text import plural


def refuse_devices(recipe: Training, device: str, jobs: int = 1) -> None:
    """See that this machine has the devices for the runs of a recipe, `jobs` of them at a time.

    Raises:
        UserError: it has fewer; names the key, the value and what is allowed.
    """
    if recipe.nodes > 1 and nodes_here() != recipe.nodes:
        raise UserError(missing(recipe.nodes, nodes_here()))
    if recipe.devices == 1:
        return
    if device.startswith("cuda"):
        import torch  # late: what else is wrong with a suite is said without it

        there, what = torch.cuda.device_count(), "GPU"
    else:
        there, what = _cores(), "core"
    if recipe.devices * jobs > there:
        at_a_time = "" if jobs == 1 else f" for each of --jobs {jobs}"
        raise UserError(
            f"training.devices = {recipe.devices}{at_a_time}: this machine has {plural(there, what)}; allowed with --device "
            f"{device}: 1 to {max(1, there // jobs)}"
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
