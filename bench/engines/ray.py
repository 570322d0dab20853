"""Runs as tasks of Ray, on this machine or on a cluster that Ray knows; needs greenprune[ray].

A run is one task with cores and GPUs of its own. Ray starts a task again whose process was killed, on whichever node: it goes
on from the checkpoint in the run's folder, which all nodes must see.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from greenprune.bench.engines.cluster.ray_options import EngineOptions
from greenprune.bench.engines.engine import ENDED, Event, Place, Tell, ended
from greenprune.bench.engines.names import RAY
from greenprune.bench.engines.perform import perform
from greenprune.bench.engines.ready import Ready
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.inference.job import JointJob
from greenprune.bench.machine.cards import cards_of
from greenprune.bench.records.folder import running
from greenprune.bench.run import stop
from greenprune.bench.run.process import GRACE_S, Workers
from greenprune.bench.run.shares import ALONE, Share
from greenprune.bench.run.side_by_side import measure_in_child
from greenprune.bench.run.stop import Stopped
from greenprune.bench.run.task import Status, Task
from greenprune.bench.suite.recipe import Training

LOOK_S = 0.5
"""Between two looks at what has ended; what a task tells is shown as often."""

OTHERS = "other tasks of Ray may be on this node, and it counts all of them"

KILLED = "killed by signal 9"

NOT_HERE = "--engine ray: Ray is not installed; allowed: python -m pip install 'greenprune[ray]'"


@dataclass(frozen=True)
class Where:
    """How a task finds what the launcher had."""

    folder: str = field(default_factory=os.getcwd)
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    def go(self) -> None:
        """Be there, as far as this node has it."""
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        sys.path += [place for place in self.path if place not in sys.path]


def do(task: str, where: Where, tell: Callable[[str, dict[str, Any]], None], gpus: int, again: int) -> tuple[str, str]:
    """A run, in a process of Ray's: how it ended, as of `engine.ended`.

    Args:
        task: as JSON.
        gpus: that Ray has given it.
        again: how often it is gone on with at once where its own process was killed, and not that of Ray.
    """
    where.go()
    last: list[Mapping[str, Any]] = []

    def told(event: Event) -> None:
        if event.told["event"] == ENDED:
            last.append(event.told)
        else:
            tell(event.key, dict(event.told))

    own, share = Task.model_validate_json(task), share_here() if gpus else ALONE
    for attempt in itertools.count():
        perform(own, Workers(own.running), told, share=share, shared=OTHERS, again=attempt > 0)
        if KILLED not in last[-1]["said"] or attempt == again:
            break
    return last[-1]["status"], last[-1]["said"]


def do_measure(job: str, where: Where) -> int:
    """The last measuring, in a process of Ray's; its exit code."""
    where.go()
    return measure_in_child(JointJob.model_validate_json(job))


def share_here() -> Share:
    """The GPUs that Ray gave this process, by UUID where the driver tells it; Ray names them in CUDA_VISIBLE_DEVICES."""
    found = cards_of(os.environ).usable
    return Share(gpu_uuids=tuple(card.gpu.uuid for card in found), gpus=tuple(card.label for card in found))


def refuse_devices(recipe: Training, cpus: int, gpus: int) -> None:
    """Raise UserError where a run trains on more devices than a task has, `cpus` cores and `gpus` GPUs, or on several nodes."""
    if recipe.nodes > 1:
        raise UserError(f"training.nodes = {recipe.nodes}: a task of Ray is on one node; allowed: 1, or --engine slurm")
    key, there = ("num_gpus", gpus) if gpus else ("num_cpus", cpus)
    if recipe.devices > there:
        raise UserError(
            f"training.devices = {recipe.devices}: by --engine-config a task has {key} = {there}; allowed: {key} = "
            f"{recipe.devices} at least, or training.devices = {there}"
        )


class RayTasks:
    """As of `Engine`. What it does ends with the process that it is in: the cluster's tasks are those of its driver."""

    name = RAY

    def __init__(self, options: EngineOptions, place: Place) -> None:
        self._options = options
        self._gpus = options.num_gpus if options.num_gpus is not None else int(place.device != "cpu")
        self.elsewhere = options.address is not None

    @cached_property
    def _ray(self) -> Any:
        """Ray, imported when something is to be done by it. Raises UserError: it is not installed."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        try:
            import ray
        except ImportError:
            raise UserError(NOT_HERE) from None
        except Exception as e:  # of what it imports in turn: another package's library may be missing
            raise UserError(f"--engine ray: Ray cannot be imported ({type(e).__name__}: {e})") from None
        return ray

    def submit(self, tasks: Sequence[Task], tell: Tell, measuring: JointJob | None = None) -> None:
        with self._connected():
            for task in tasks[:1]:  # all runs of a suite have one recipe
                refuse_devices(task.settings.training, self._options.num_cpus, self._gpus)
            self._refuse_too_much()
            self._do(tasks, tell)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """With a Ray, started here or joined; one that was there before stays. Raises UserError."""
        ray, options = self._ray, self._options
        started_here = not ray.is_initialized()
        if started_here:
            try:
                ray.init(
                    address=options.address,
                    runtime_env=options.runtime_env or None,
                    include_dashboard=None if options.address else False,
                    log_to_driver=False,
                    configure_logging=False,
                )
            except Exception as e:  # of many kinds
                raise UserError(
                    f"--engine ray: Ray does not start ({type(e).__name__}: {shortened(str(e), 200)})"
                ) from None
        try:
            yield
        finally:
            if started_here:
                ray.shutdown()

    def _refuse_too_much(self) -> None:
        """Raise UserError where no node could ever do a run: Ray would wait for one for ever."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        needed = {"CPU": self._options.num_cpus, "GPU": self._gpus, **self._options.resources}
        if not any(all(node.get(name, 0) >= amount for name, amount in needed.items()) for node in nodes):
            asked = ", ".join(f"{amount:g} {name}" for name, amount in needed.items() if amount)
            largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in needed}
            there = ", ".join(f"{amount:g} {name}" for name, amount in largest.items())
            raise UserError(f"--engine ray: a run needs {asked}, and no node has as much; the most of each is {there}")

    def _do(self, tasks: Sequence[Task], tell: Tell) -> None:
        from ray.util.queue import Empty, Queue

        ray = self._ray
        queue = Queue(actor_options={"num_cpus": 0})
        remote, where = self._remote(do), Where()
        left: dict[Any, Task] = {}
        ready = Ready(tasks)

        def begin() -> None:
            """Those that wait for none any more."""
            while (found := ready.next(lambda: True)) is not None:
                task, told = found[0], Teller(queue)
                each = remote.remote(task.model_dump_json(), where, told, self._gpus, self._options.max_retries)
                left[each] = task

        def show() -> None:
            while True:
                try:
                    key, told = queue.get_nowait()
                except Empty:
                    return
                tell(Event(key, told))

        try:
            begin()
            while left:
                if why := stop.asked():
                    raise Stopped(why)
                done, _ = ray.wait(list(left), timeout=LOOK_S)
                show()
                for each in done:
                    task = left.pop(each)
                    status, said = self._result(each)
                    tell(ended(task.key, status, said))
                    ready.ended(task)
                begin()
        except BaseException:
            for each in left:
                ray.cancel(each)  # as Ctrl-C: the run is saved
            ray.wait(list(left), num_returns=len(left), timeout=GRACE_S)
            raise
        finally:
            queue.shutdown()

    def _remote(self, function: Callable[..., Any]) -> Any:
        """`function` as a task that has what a run has."""
        options = self._options
        return self._ray.remote(
            num_cpus=options.num_cpus,
            num_gpus=self._gpus,
            resources=options.resources,
            max_retries=options.max_retries,
            max_calls=1,  # a process that has done a run ends: its GPU memory and its threads are nobody's
        )(function)

    def measure(self, job: JointJob) -> int:
        """On a node of the cluster as a task, which may have others beside it; here as every other engine does."""
        if not self.elsewhere:
            return measure_in_child(job)
        with self._connected():
            there = job.model_copy(update={"folder": str(Path(job.folder).absolute())})
            code: int = self._ray.get(self._remote(do_measure).remote(there.model_dump_json(), Where()))
            return code

    def _result(self, done: Any) -> tuple[Status, str]:
        """How a task ended. Raises UserError: as of `perform`."""
        try:
            return self._ray.get(done)
        except self._ray.exceptions.RayTaskError as e:
            if isinstance(e.cause, UserError):
                raise e.cause from None
            return "failed", f"failed: {shortened(str(e.cause), 300)}"
        except self._ray.exceptions.RayError as e:
            return "failed", f"failed: {type(e).__name__}: {shortened(str(e).splitlines()[0], 300)}"

    def resume(self, folder: Path) -> Mapping[str, str]:
        return {key: f"run by {holder or 'somebody'}" for key, holder in running(folder).items()}

    def cancel(self, folder: Path, leaving: Collection[str] = ()) -> Iterable[tuple[str, str]]:
        return ()


class Teller:
    """What happens in a task, put where the launcher looks. Goes with the task to its process."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def __call__(self, key: str, told: dict[str, Any]) -> None:
        self._queue.put((key, told))


def make(options: EngineOptions, place: Place) -> RayTasks:
    return RayTasks(options, place)
