"""The measuring of all networks of a suite side by side: whether it is due, and having it done in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from greenprune.bench.errors import UserError
from greenprune.bench.inference.job import JointJob
from greenprune.bench.records.joint import joint_file, read_joint
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import MODEL_FILE, RECORD_FILE, Record
from greenprune.bench.run.process import ENVIRONMENT

CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from greenprune.bench.inference.together import main; "
    "sys.exit(main(sys.argv[2:]))"
)
"""As of `greenprune.bench.run.process.WORKER`."""


def measure_in_child(job: JointJob) -> int:
    """Start `greenprune.bench.inference.together` and wait; its exit code: 0 well, 2 bad input (it has said what).

    A fresh process, because the environment of a run (`bench/run/process.py`) has to be there when it starts.

    Raises:
        KeyboardInterrupt: after the child has stored what it has.
    """
    command = [sys.executable, "-P", "-c", CHILD, json.dumps(sys.path), job.model_dump_json()]
    process = subprocess.Popen(command, env=ENVIRONMENT | os.environ)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # it reaches the child too
        raise
    except BaseException:
        process.terminate()
        raise
    if code == 130:
        raise KeyboardInterrupt
    return code


def is_due(folder: Path) -> bool:
    """Whether a suite has networks to compare, and one of them is newer than the last measurement of all together."""
    made: dict[tuple[str, str], dict[str, Record]] = {}  # by data set and network, and by key
    for path in sorted(folder.glob(f"*/{RECORD_FILE}")):
        with contextlib.suppress(UserError):
            record = read_record(path)
            if record.status == "done" and (path.parent / MODEL_FILE).is_file():
                made.setdefault(record.pair, {})[path.parent.name] = record
    made = {pair: own for pair, own in made.items() if "dense" in {record.method_name for record in own.values()}}
    return any(_is_due(folder, joint_file(*pair, alone=len(made) == 1), own) for pair, own in made.items())


def _is_due(folder: Path, name: str, made: dict[str, Record]) -> bool:
    if len({record.method_name for record in made.values()}) < 2:
        return False
    try:
        joint = read_joint(folder, name)
    except UserError:
        return True
    if joint is None or not joint.complete:
        return True
    measured = {network.key: network.finished_at for network in joint.networks}  # the clocks of machines may differ
    return any(
        record.finished_at != measured[key] if key in measured else record.finished_at > joint.started_at
        for key, record in made.items()
    )
