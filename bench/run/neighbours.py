"""Which runs of one start went on at the same time: each is told of the others in a file in its folder."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

from greenprune.bench.records.record import Neighbour
from greenprune.bench.run.job import Job
from greenprune.bench.training.files import CHECKPOINT_FILE

FILE = "beside.jsonl"  # there while a run goes on, and while it is interrupted


class Neighbours:
    """The runs that go on, of one launcher; may be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._there: dict[Path, Neighbour] = {}

    def enter(self, folder: Path, run: Neighbour) -> None:
        """`run`, in `folder`, begins: tell it of all others, and them of it."""
        with self._lock:
            if not (folder / CHECKPOINT_FILE).exists():  # it begins anew: who was beside it before is of no account
                (folder / FILE).unlink(missing_ok=True)
            for other, there in self._there.items():
                _tell(other, run)
                _tell(folder, there)
            self._there[folder] = run

    def leave(self, folder: Path, *, finished: bool) -> None:
        """The run in `folder` is over; where it is not `finished` it goes on some time, and is still to know of these."""
        with self._lock:
            self._there.pop(folder, None)
            if finished:
                (folder / FILE).unlink(missing_ok=True)


def _tell(folder: Path, of: Neighbour) -> None:
    path = folder / FILE
    if path.is_symlink():  # nothing is written to where it leads
        path.unlink()
    with contextlib.suppress(FileNotFoundError), path.open("a", encoding="utf-8") as file:
        file.write(of.model_dump_json() + "\n")


def neighbours(folder: Path) -> tuple[Neighbour, ...]:
    """Those of the run in `folder` so far, each once, by name. Half a line, of a launcher that was killed, is left out."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    found = set()
    for line in lines:
        try:
            found.add(Neighbour.model_validate(json.loads(line)))
        except ValueError:
            continue
    return tuple(sorted(found, key=lambda each: (each.key, each.gpu_uuids)))


def beside(job: Job) -> list[str]:
    """What the record of a run that had others beside it has to confess."""
    if job.jobs == 1:
        return []
    what = (
        "they share memory and what feeds the GPUs; its joules are those of its GPUs and of its own processes"
        if job.share.gpu_uuids
        else "they share caches and memory, and counters of the whole machine count all of them; compare training by MACs, "
        "or run it alone"
    )
    return [f"up to {job.jobs} runs at a time (--jobs {job.jobs}), this one {job.share.text}: {what}"]
