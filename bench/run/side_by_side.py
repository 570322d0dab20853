"""The measuring of all networks of a suite side by side: whether it is due, and having it done in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from greenprune.bench.errors import UserError
from greenprune.bench.inference.job import JointJob
from greenprune.bench.records.joint import readable_joints
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import MODEL_FILE, RECORD_FILE, Record
from greenprune.bench.run.process import ENVIRONMENT, GRACE_S, MARK, kill_tree

CHILD = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from greenprune.bench.distributed.rank import end
from greenprune.bench.run.events import end_with_launcher
end_with_launcher(0)
from greenprune.bench.inference.together import main
from greenprune.bench.run.stop import stoppable
with stoppable():
    end(main(sys.argv[2:]))
"""
"""As of `greenprune.bench.run.process.WORKER`. Its standard input is a pipe that lasts as long as its launcher."""


def measure_in_child(job: JointJob) -> int:
    """Start `greenprune.bench.inference.together` and wait; its exit code: 0 well, 2 bad input (it has said what).

    A fresh process, because the environment of a run (`bench/run/process.py`) has to be there when it starts. It ends with
    this one, and with whatever interrupts this one: no signal but those from here reaches it.

    Raises:
        KeyboardInterrupt: after the child has ended.
    """
    command = [sys.executable, "-P", "-c", CHILD, json.dumps(sys.path), job.model_dump_json()]
    mark = uuid.uuid4().hex
    environment = ENVIRONMENT | os.environ | {MARK: mark}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        raise
    finally:  # at once where somebody is asked to stop twice
        kill_tree(process.pid, mark)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
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
    joints = [joint for joint in readable_joints(folder).values() if joint.complete]
    measured = {network.key: network.finished_at for joint in joints for network in joint.networks}
    told = {entry.key: joint.started_at for joint in joints for entry in joint.left_out}
    told |= {key: joint.started_at for joint in joints for key in made.get((joint.dataset, joint.model), ())}

    def is_new(key: str, record: Record) -> bool:
        if key in measured:
            return record.finished_at != measured[key]  # the clocks of machines may differ
        return key not in told or record.finished_at > told[key]

    methods = {pair: {record.method_name for record in own.values()} for pair, own in made.items()}
    return any(
        "dense" in methods[pair] and len(methods[pair]) > 1 and any(is_new(key, record) for key, record in own.items())
        for pair, own in made.items()
    )
