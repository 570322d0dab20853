"""When a training saves itself, what it has spent meanwhile, and when it has to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from greenprune.bench.distributed.team import told
from greenprune.bench.energy import EnergyMeter, Reading
from greenprune.bench.training import checkpoint, files, spent
from greenprune.bench.training.checkpoint import Identity
from greenprune.bench.training.ledger import Ledger
from greenprune.methods.structure.plain import StateError

LOG_S = 3.0
"""Between two lines of what was spent; so much of a training may be lost without a trace when its process is killed."""


class StoppedError(Exception):
    """The training was asked to stop, and did after a whole step; the message says whether it was saved."""


class Keeper:
    """Keeps one run's training.

    Args:
        folder: of the run.
        identity: of the training; see `checkpoint.newest`.
        interval_s: between two checkpoints.
        started_at: of this process, ISO 8601.
        suite: the results folder of the suite; by default the one that `folder` lies in.

    Attributes:
        folder: of the run.
        suite: the results folder of the suite, where its calibrations lie.
        found: checkpoints to go on from, the newest first.
        said: in a sentence each, what a reader has to know of how it was kept.
    """

    def __init__(
        self, folder: Path, identity: Identity, *, interval_s: float, started_at: str, suite: Path | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.suite = suite or folder.parent
        self.folder, self._identity, self._interval_s = folder, dict(identity), interval_s
        self.found, self.said = checkpoint.newest(folder, identity)
        if not self.found and self.said:
            self.said.append("it began anew")
        self.log = spent.SpentLog(folder, identity, started_at)
        self.number = 0  # of the checkpoint that the training goes on from
        self._wrote = False  # whether this process has written a checkpoint
        self.checkpoints, self.checkpoint_s = 0, 0.0  # saved in all, and the seconds that took
        self.active = False  # whether a training is running that looks at `stop`
        self.stop: str | None = None  # why the training has to stop
        self.unable: str | None = None  # why it cannot be saved

    @property
    def interruptions(self) -> int:
        return self.log.attempt - 1

    def goes_on_from(self, state: dict[str, Any] | None) -> list[spent.Spent]:
        """Take on the counts of a checkpoint (None: there is none); what was spent after it and is lost."""
        if state is None:  # also where one was tried that does not fit
            state = {"number": 0, "checkpoints": 0, "checkpoint_s": 0.0}
        self.number = state["number"]
        self.checkpoints, self.checkpoint_s = state["checkpoints"], state["checkpoint_s"]
        return self.log.lost(self.number)

    def begin(self, meter: EnergyMeter, ledger: Ledger) -> None:
        """The training runs."""
        self._meter, self._ledger = meter, ledger
        self.active = True
        self._mark()

    def paused(self) -> AbstractContextManager[None]:
        """Time and energy inside are not the training's."""
        return self._window.paused()

    def end(self) -> None:
        """It is over: what was spent since the last checkpoint is noted."""
        self.note()
        self._window.end()
        self.active = False

    def _mark(self) -> None:
        self._window = self._meter.begin("training")  # since the last checkpoint
        self._before = self._ledger.totals()
        self._saved_s = self._noted_s = time.perf_counter()

    def due(self) -> bool:
        """Whether to save now."""
        if self.stop is None and self.unable is not None:
            return False
        return self.stop is not None or time.perf_counter() - self._saved_s >= self._interval_s

    def note_if_due(self) -> None:
        if time.perf_counter() - self._noted_s >= LOG_S:
            self.note()

    def note(self) -> None:
        """Write down what was spent since the last checkpoint. Raises OSError."""
        samples, forward_macs, duration_s = (
            now - before for now, before in zip(self._ledger.totals(), self._before, strict=True)
        )
        self.note_part("training", self._window.so_far(), int(samples), int(forward_macs), duration_s)
        self._noted_s = time.perf_counter()

    def note_part(self, part: str, reading: Reading, samples: int, forward_macs: int, duration_s: float) -> None:
        """Raises OSError."""
        self.log.note(
            spent.Spent(
                attempt=self.log.attempt, after=self.number, part=part, samples=samples,
                forward_macs=forward_macs, duration_s=duration_s, reading=reading,
            )
        )  # fmt: skip

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Store what `state` gives; its time and energy are not the training's. To be called after a whole step, in all ranks.

        Raises:
            StoppedError: the training was asked to stop.
            OSError: it cannot be written.
        """
        started_s = time.perf_counter()
        if self.unable is None:
            self.note()
            number = int(told(str(max(self.number, self.log.last_checkpoint) + 1).encode()))
            counts = {
                "identity": self._identity,
                "number": number,
                "checkpoints": self.checkpoints + 1,
                "checkpoint_s": self.checkpoint_s,
            }
            try:
                self._write(state() | counts)
                why = ""
            except StateError as e:
                why = f"it cannot be saved in the middle, and begins anew when it is interrupted: {e}"
            self.unable = told(why.encode()).decode() or None
            if self.unable is not None:
                self.said.append(self.unable)
            else:
                self.number, self._wrote = number, True
                self.log.shorten()
                self.checkpoints += 1
                self.checkpoint_s += time.perf_counter() - started_s
        if self.stop is not None:
            saved = "saved" if self.unable is None else "not saved"
            raise StoppedError(f"{self.stop}; {saved} after a whole step, start it again to go on")

    def _write(self, state: dict[str, Any]) -> None:
        checkpoint.write(self.folder, state, check=not self._wrote)

    def resume_clock(self) -> None:
        """The training goes on after `save`. Where that stored nothing, all counts since the last checkpoint as before."""
        if self.unable is not None:
            self._saved_s = time.perf_counter()
            return
        self._window.end()
        self._mark()

    def clear(self) -> None:
        """The run is finished: delete what it kept."""
        files.clear(self.folder)


class Follower(Keeper):
    """Of a rank that does not lead: it saves when the one that leads does, and keeps an account of its own energy alone.

    Args:
        folder: of this rank.
        found: the checkpoints that the rank that leads goes on from.
    """

    def __init__(self, folder: Path, identity: Identity, *, started_at: str, found: list[dict[str, Any]]) -> None:
        super().__init__(folder, identity, interval_s=math.inf, started_at=started_at)
        self.found, self.said = found, []

    def due(self) -> bool:
        return self.stop is not None

    def _write(self, state: dict[str, Any]) -> None:
        pass

    def clear(self) -> None:
        pass
