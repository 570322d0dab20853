"""Which run is next where several go on at a time: it begins when those have ended that make its length."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from greenprune.bench.run.task import Task

POLL_S = 0.5


class Ready:
    """The tasks that are left, in their order. Its methods may be called from several threads."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._fresh, self._held = list(tasks), list[Task]()
        self._open = {task.key for task in tasks}
        self._changed = threading.Condition()

    def next(self, stopping: Callable[[], bool]) -> tuple[Task, bool] | None:
        """A task that may begin, and whether somebody else was found to do it; such ones come last. None: none is left.

        Waits while all that are left wait for others.

        Args:
            stopping: whether not to wait; it is asked where this would, and None is the answer then too.
        """
        with self._changed:
            while self._fresh or self._held:
                for tasks in (self._fresh, self._held):
                    for task in tasks:
                        if self._open.isdisjoint(task.after):
                            tasks.remove(task)
                            return task, tasks is self._held
                if stopping():
                    return None
                self._changed.wait(POLL_S)
        return None

    def ended(self, task: Task) -> None:
        """Well or not."""
        with self._changed:
            self._open.discard(task.key)
            self._changed.notify_all()

    def held(self, task: Task) -> None:
        """Somebody else does `task`."""
        with self._changed:
            self._held.append(task)
            self._changed.notify_all()
