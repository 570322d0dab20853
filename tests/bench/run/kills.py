"""Kills a suite of all methods at random moments, lets it finish, and compares it with the same suite undisturbed.

    python -m tests.bench.run.kills FOLDER [--kills 20] [--model MODEL] [--methods gated dynamic] [--seed 0]
                                           [--pictures DIR]

With `--pictures` the images are those of class folders, decoded and changed at random by two processes while a run trains, two
mixed to one, and the weights averaged.

What must be equal bit for bit are the weights, and of the records everything but times, energies and how often the run was
interrupted. Kills are SIGKILL to the worker, SIGKILL to the launcher, and SIGTERM or SIGINT to the launcher.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from greenprune.methods import registry
from safetensors.torch import load_file
from torch import nn

from tests.methods.networks import SmallResidual

ROOT = Path(__file__).parents[3]

SUITE = """\
name = "kills"
{data}
train_images = {images}
model = "{model}"
budgets = [0.5]
seeds = [0]

[training]
epochs = {epochs}
batch_size = 32
precision = "float32"
{recipe}
[run]
checkpoint_minutes = {minutes}

{methods}
[measurement]
inference_seconds = 0.1
inference_batch_sizes = [16]
"""

PICTURES = 'dataset = {{ folder = "{folder}", image_size = 32, loading = "workers", workers = 2 }}'
WITH_PICTURES = 'augment = ["trivial-augment", "mixup"]\nema_decay = 0.9\nema_evaluate = true\n'

TIMES = {
    "started_at", "finished_at", "duration_s", "energy", "energy_j", "inference", "emissions", "energy_sources", "warnings",
    "interruptions", "checkpoints", "checkpoint_s", "redone", "command", "crosscheck", "kept_latency", "kept_energy",
    "calibration", "machine", "files", "checksum", "beside", "waited_s", "waited_share",
}  # fmt: skip
"""What of a record may differ."""


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def differences(disturbed: Path, undisturbed: Path) -> list[str]:
    """What differs between the runs of two results folders (of one suite), in words."""
    found = []
    for path in sorted(undisturbed.glob("*/record.json")):
        key = path.parent.name
        other = disturbed / key
        if not (other / "record.json").exists():
            found.append(f"{key}: has no record")
            continue
        ours, theirs = (json.loads((folder / "record.json").read_text()) for folder in (other, path.parent))
        if without_times(ours) != without_times(theirs):
            names = [k for k in theirs if without_times(ours.get(k)) != without_times(theirs[k]) and k not in TIMES]
            found.append(f"{key}: records differ in {', '.join(names)}")
            continue
        a, b = (load_file(folder / "model.safetensors") for folder in (other, path.parent))
        if a.keys() != b.keys() or not all(torch.equal(a[name], b[name]) for name in a):
            found.append(f"{key}: weights differ")
        if left := sorted(file.name for file in other.iterdir() if "checkpoint" in file.name or "spent" in file.name):
            found.append(f"{key}: {', '.join(left)} left behind")
    return found


def start(suite: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "greenprune", "run", str(suite), "--out", str(out), "--skip-measure"]
    command += ["--jobs", str(min(2, os.cpu_count() or 1))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores Ctrl-C
    with (suite.parent / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=suite.parent, env=environment, preexec_fn=heed)


def small(classes: int) -> nn.Module:
    """A network with residual branches that is quick to train."""
    return SmallResidual()


def worker_of(launcher: subprocess.Popen[bytes]) -> psutil.Process | None:
    try:
        children = psutil.Process(launcher.pid).children()
    except psutil.Error:
        return None
    return next((child for child in children if "greenprune.bench.run.worker" in " ".join(child.cmdline())), None)


def wait_for_training(out: Path, launcher: subprocess.Popen[bytes]) -> bool:
    """Until a run trains; whether one does."""
    since_s = time.time()
    while launcher.poll() is None:
        logs = [path for path in out.glob("*/*/spent.jsonl") if path.exists()]
        if any(path.stat().st_mtime > since_s for path in logs):
            return True
        time.sleep(0.1)
    return False


def disturbed(suite: Path, out: Path, kills: int, longest_s: float, seed: int) -> list[str]:
    """Kill and start again until there were `kills`, then let it finish; what was done."""
    dice = random.Random(seed)
    done: list[str] = []
    launcher = start(suite, out)
    while len(done) < kills and launcher.poll() is None:
        if dice.random() < 0.8:  # starting takes most of the time here: else it would be hit again and again
            training = wait_for_training(out, launcher)
            time.sleep(dice.uniform(0.0, longest_s) if training else 0.0)
        else:
            time.sleep(dice.uniform(0.5, 4 * longest_s))
        how = dice.choice(["worker SIGKILL", "worker SIGKILL", "SIGKILL", "SIGTERM", "SIGINT"])
        worker = worker_of(launcher)
        if launcher.poll() is not None:
            break
        if how.startswith("worker"):
            if worker is None:
                continue
            worker.kill()
        else:
            launcher.send_signal(signal.Signals[how])
            launcher.wait(timeout=120)
            launcher = start(suite, out)
        done.append(how)
    launcher.wait()
    for _ in range(2):  # what was killed as a worker alone is tried again
        if start(suite, out).wait() == 0:
            break
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="tests.bench.run.kills:small")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=320, help="of the training set")
    parser.add_argument("--methods", nargs="+", default=sorted(registry()))
    parser.add_argument("--longest", type=float, default=8.0, help="seconds of training to the next kill, at most")
    parser.add_argument("--checkpoint-minutes", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, help="class folders")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    suite = folder / "kills.toml"
    methods = "".join(f'[[methods]]\nname = "{name}"\n\n' for name in arguments.methods)
    minutes, pictures = arguments.checkpoint_minutes, arguments.pictures
    suite.write_text(
        SUITE.format(
            model=arguments.model,
            epochs=arguments.epochs,
            methods=methods,
            minutes=minutes,
            images=arguments.images,
            data=PICTURES.format(folder=pictures.resolve()) if pictures else 'dataset = "digits"',
            recipe=WITH_PICTURES if pictures else "",
        )
    )
    if start(suite, folder / "undisturbed").wait() != 0:
        print(f"the undisturbed suite failed, see {folder / 'log'}")
        return 2
    done = disturbed(suite, folder / "disturbed", arguments.kills, arguments.longest, arguments.seed)
    found = differences(folder / "disturbed/kills", folder / "undisturbed/kills")
    print(f"{len(done)} kills: {', '.join(done)}")
    for path in sorted((folder / "disturbed/kills").glob("*/record.json")):
        record = json.loads(path.read_text())
        redone = (record["ledger"] or {}).get("redone") or {"duration_s": 0.0, "samples": 0}
        print(
            f"{path.parent.name}: interrupted {record['interruptions']} times, {redone['samples']} images and "
            f"{redone['duration_s']:.1f} s twice"
        )
    if not any(
        json.loads(path.read_text())["interruptions"] for path in (folder / "disturbed/kills").glob("*/record.json")
    ):
        found.append("no run went on from a checkpoint")
    print("\n".join(found) if found else "weights and records are equal")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
