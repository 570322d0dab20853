"""What a process tells its launcher: events, as JSON lines; and that it ends with it."""

from __future__ import annotations

import json
import os
import select
import sys
import threading
from typing import Any

from greenprune.bench.run.process import MARK, kill_tree


class Events:
    """The lines for the launcher, on what was standard output. Whatever else is printed goes to standard error."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # a crash must not swallow the last words
        end_with_launcher(self._lines.fileno())

    def __call__(self, event: str, **values: Any) -> None:
        print(json.dumps({"event": event, **values}), file=self._lines, flush=True)


def end_with_launcher(pipe: int) -> None:
    """From now on this process, and what it starts, ends when nobody has the other end of `pipe` any more, a descriptor.

    Without its launcher it would only disturb what is started next.
    """

    def watch() -> None:
        poll = select.poll()
        poll.register(pipe, 0)  # no events asked for: what remains is that the other end was closed
        poll.poll()
        if os.getpgid(0) == os.getpid():
            kill_tree(os.getpid(), os.environ.get(MARK, ""))  # what it started would go on, too
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def told_to_nobody(event: str, **values: Any) -> None:
    """The events of a rank that does not lead."""
