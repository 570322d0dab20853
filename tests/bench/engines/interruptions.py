"""Interrupts jobs of a real Slurm, lets them finish, and compares them with the same suite done by the engine `local`.

    python -m tests.bench.engines.interruptions FOLDER [--kinds worker requeue preempt job slurmd cancel] [--time-limit]
                                                       [--devices 2] [--json results/engines/interruptions.json]

Needs a Slurm of one node that this user may command (`.ci/slurm up DIR`). `--time-limit` waits for Slurm's own signal before
the end of a limit of one minute, again and again, in place of the kinds.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from greenprune.bench.engines.cluster import queue
from greenprune.bench.engines.cluster.stored import read_jobs
from greenprune.bench.records.load import read_record
from greenprune.bench.records.lock import holder_of

from tests.bench.run.kills import differences
from tests.conftest import wait_until

ROOT = Path(__file__).parents[3]
LIMIT_S = 240.0

NETWORKS = '''\
"""A network whose steps are slow until there is a file `go`; the first of each process are not."""

import time
from pathlib import Path

import torch
from torch import nn

import greenprune.bench.inference.pair

QUICK = 5


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.training and self.steps > QUICK and not Path("go").exists():
            time.sleep(0.5)
        return x


def slow(classes):
    greenprune.bench.inference.pair.CPU_BLOCK_S = 0.01
    return nn.Sequential(
        Slow(),
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )
'''

SUITE = """\
name = "slow"
dataset = "digits"
train_images = 640
model = "slow_networks:slow"
budgets = [0.5]
seeds = [0]

[training]
epochs = {epochs}
batch_size = 64
precision = "float32"
devices = {devices}

[run]
checkpoint_minutes = 0.003

[[methods]]
name = "dense"

[[methods]]
name = "magnitude"

[measurement]
inference_seconds = 0.1
inference_batch_sizes = [16]
"""

CLUSTER = """\
slurm_cpus_per_task = {devices}
slurm_time = {minutes}
slurm_signal_delay_s = {delay_s}
"""

KEY = "magnitude-0.5-s0"


class Place:
    """A folder with the suite, and the commands that are given in it."""

    def __init__(
        self, folder: Path, *, minutes: int = 5, delay_s: int = 90, epochs: int = 10, devices: int = 1
    ) -> None:
        self.folder, self.results = folder, folder / "results" / "slow"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "slow_networks.py").write_text(NETWORKS)
        (folder / "slow.toml").write_text(SUITE.format(epochs=epochs, devices=devices))
        (folder / "cluster.toml").write_text(CLUSTER.format(minutes=minutes, delay_s=delay_s, devices=devices))

    def start(self, *arguments: str, out: str = "results") -> subprocess.Popen[str]:
        """`greenprune run` of the suite; its output goes to `log`."""
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
        command = [sys.executable, "-m", "greenprune", "run", "slow.toml", "--out", out, "--device", "cpu", *arguments]
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log, text=True)

    def by_slurm(self) -> subprocess.Popen[str]:
        return self.start("--engine", "slurm", "--engine-config", "cluster.toml")

    @property
    def job(self) -> str:
        return read_jobs(self.results).runs[KEY]

    def job_pid(self) -> int:
        """Of submitit's process, which holds the run's lock."""
        holder = holder_of(self.results / KEY / ".lock")
        assert holder is not None
        return holder.pid

    def worker(self) -> psutil.Process:
        (child,) = psutil.Process(self.job_pid()).children()
        return child

    def wait_for_checkpoint(self, after_s: float, start: subprocess.Popen[str]) -> None:
        """One that was written later than that, by a run that is training."""
        path = self.results / KEY / "checkpoint.pt"

        def there() -> bool:
            hurry(self.job if KEY in read_jobs(self.results).runs else "")
            return start.poll() is not None or (path.exists() and path.stat().st_mtime > after_s)

        assert wait_until(there, LIMIT_S), (self.folder / "log").read_text()
        assert start.poll() is None, (self.folder / "log").read_text()


def hurry(job: str) -> None:
    """Slurm lets a job that is queued again wait for two minutes."""
    there = (queue.queued() or {}).get(job)
    if there is not None and there.state == "PENDING" and there.where == "BeginTime":
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False, capture_output=True)


def kill_worker(place: Place) -> None:
    place.worker().kill()


def kill_rank(place: Place) -> None:
    """One of those that train together."""
    for process in place.worker().children(recursive=True):
        if process.environ().get("RANK") == "1":
            process.kill()


def requeue(place: Place) -> None:
    subprocess.run(["scontrol", "requeue", place.job], check=True)


def preempt(place: Place) -> None:
    """As Slurm does before the end of the time limit."""
    subprocess.run(["scancel", "--signal=USR2", place.job], check=True)


def kill_job(place: Place) -> None:
    os.kill(place.job_pid(), signal.SIGKILL)


def kill_slurmd(place: Place) -> None:
    conf = Path(os.environ["SLURM_CONF"])
    pid = int((conf.parent / "slurmd.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(pid))
    subprocess.run(["/usr/sbin/slurmd", "-f", str(conf)], check=True)


def cancel(place: Place) -> None:
    subprocess.run(["scancel", place.job], check=True)


KINDS: dict[str, Callable[[Place], None]] = {
    "worker": kill_worker,
    "rank": kill_rank,
    "requeue": requeue,
    "preempt": preempt,
    "job": kill_job,
    "slurmd": kill_slurmd,
    "cancel": cancel,
}
"""Each goes on from the checkpoint: by itself, but for "cancel", after which the suite is started again."""

INTERRUPT = set(KINDS) - {"slurmd"}
"""Those that end the training; jobs do not notice that slurmd is gone for a moment."""


def interrupted(place: Place, kinds: Sequence[str]) -> int:
    """Do the suite by Slurm with these interruptions; the exit code of its last start."""
    start = place.by_slurm()
    after_s = 0.0
    for kind in kinds:
        place.wait_for_checkpoint(after_s, start)
        print(f"{time.strftime('%X')} {kind}: job {place.job}", flush=True)
        KINDS[kind](place)
        after_s = time.time() + 1.0
        if kind == "cancel":
            assert start.wait(LIMIT_S) == 1
            start = place.by_slurm()
    if kinds:
        place.wait_for_checkpoint(after_s, start)
    (place.folder / "go").touch()
    return start.wait(LIMIT_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--time-limit", action="store_true")
    parser.add_argument(
        "--devices", type=int, default=1, help="that each run trains on together; from 2 on a rank is killed too"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    limits = {"minutes": 1, "delay_s": 30, "epochs": 20} if arguments.time_limit else {}
    place = Place(arguments.folder, devices=arguments.devices, **limits)
    if arguments.devices == 1:
        arguments.kinds = [kind for kind in arguments.kinds if kind != "rank"]
    if arguments.time_limit:
        start = place.by_slurm()
        while start.poll() is None:
            hurry(read_jobs(place.results).runs.get(KEY, ""))
            time.sleep(1.0)
        code = start.returncode
    else:
        code = interrupted(place, arguments.kinds)
    (place.folder / "go").touch()
    assert place.start("--skip-measure", out="local").wait(LIMIT_S) == 0
    found = differences(place.results, place.folder / "local" / "slow")
    print(f"exit code {code}; differences from local: {found or 'none'}")
    if arguments.json is not None:
        said = {
            "devices": arguments.devices,
            "kinds": ["time limit"] if arguments.time_limit else arguments.kinds,
            "interruptions": read_record(place.results / KEY / "record.json").interruptions,
            "exit_code": code,
            "differences": found,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(said, indent=1) + "\n")
    return int(bool(code or found))


if __name__ == "__main__":
    sys.exit(main())
