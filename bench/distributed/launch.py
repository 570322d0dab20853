"""Starts the ranks of a run, by torchrun's own launcher, and starts them again when one of them was lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from types import FrameType

import torch
from greenprune.bench.distributed.nodes import Nodes
from greenprune.bench.distributed.rank import BOOT, Ended, Shared

LAUNCHER = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from greenprune.bench.distributed.rank import end
from greenprune.bench.run.worker import main
end(main(sys.argv[2:]))
"""
"""On each of several nodes."""

RESTARTS = 3
"""How often the ranks are started again, from the last checkpoint, when one is lost: killed, or its node gone."""

LOOK_S = 0.5
"""Between two looks at the ranks. The launcher must not use the processor while energy is measured."""

SHUTDOWN_S = 50
"""For ranks that were asked to stop: less than what the launcher of runs gives their run."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def start_on_nodes(job_file: Path, command: list[str]) -> int:
    """Start the launcher of ranks once on each node, by the command that does it; its exit code."""
    process = subprocess.Popen([*command, sys.executable, "-P", "-c", LAUNCHER, json.dumps(sys.path), str(job_file)])

    def hand_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, hand_on)
    return process.wait()


def start_ranks(
    job_file: Path, folder: Path, device: str, devices: int, nodes: int, stopped: int
) -> tuple[int, str | None]:
    """Do the job of `job_file` with `devices` ranks on each of `nodes` nodes; its exit code, and a reason for having no result.

    Args:
        folder: of the run, which all nodes see.
        stopped: the code of a run that was asked to stop.

    Raises:
        UserError: there are not so many nodes.
    """
    # Seconds of importing, which most runs do without.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    here = Nodes.here(nodes)
    run_id = here.run_id or uuid.uuid4().hex
    # Only where other nodes have to see it the word lies in the run's folder: a killed launcher leaves it behind.
    own = Path(tempfile.mkdtemp(prefix="greenprune-"))
    ended = Ended((folder if nodes > 1 else own) / f".ended.{run_id}.tmp")
    threads = _threads()
    os.environ.update(Shared(str(ended.path), _gpus(devices) if device == "cuda" else (), threads).in_environment())
    for name in THREADS:
        os.environ[name] = str(max(1, threads // devices))
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=devices,
        run_id=run_id,
        max_restarts=RESTARTS,
        monitor_interval=LOOK_S,
        rdzv_backend=here.backend,
        rdzv_endpoint=here.endpoint,
        rdzv_configs=dict(here.options),
        logs_specs=DefaultLogsSpecs(log_dir=str(own)),
    )
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SHUTDOWN_S))
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _as_terminated)
    try:
        elastic_launch(config, sys.executable)("-P", "-c", BOOT, json.dumps(sys.path), str(job_file))
        return ended.told() or (1 if here.node == 0 else 0, None)
    except ChildFailedError:
        return ended.told() or (
            1,
            f"its ranks were lost {RESTARTS + 1} times, and started again each time but the last",
        )
    except SignalException:
        return ended.told() or (stopped, None)
    finally:
        if here.node == 0:
            ended.clear()
        shutil.rmtree(own, ignore_errors=True)


def _as_terminated(number: int, frame: FrameType | None) -> None:
    """torchrun's launcher hands on SIGTERM; a batch system may send others."""
    os.kill(os.getpid(), signal.SIGTERM)


def _threads() -> int:
    """That this node's part of the run has."""
    named = next((int(os.environ[name]) for name in THREADS if os.environ.get(name, "").isdigit()), None)
    return named or torch.get_num_threads()


def _gpus(devices: int) -> tuple[str, ...]:
    """The first of those that this process is shown."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(torch.cuda.device_count())] if shown is None else shown.split(",")
    return tuple(names[:devices])
