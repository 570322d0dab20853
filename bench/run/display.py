"""What the user sees while a suite runs: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

from typing import Any

from greenprune.bench.foreign import visible
from greenprune.bench.plan.plan import Run
from greenprune.bench.records.record import Record
from greenprune.bench.records.score import Score
from greenprune.bench.text import duration
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn


def make_display(console: Console, jobs: int = 1) -> Lines | Bars:
    """For so many runs at a time."""
    return Bars(console) if console.is_terminal else Lines(console, jobs)


class Lines:
    """One line for each epoch; right for log files and pipes. With several runs at a time, each line names its run."""

    def __init__(self, console: Console, jobs: int = 1) -> None:
        self.console = console
        self.jobs = jobs

    def start(self, run: Run, number: int, total: int) -> None:
        self._line(f"[{number}/{total}] {run.key}")

    def event(self, run: Run, event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["epoch_ended"]:
            self._line(self._indent(run) + describe(event))
        elif event["event"] == "resumed":
            self._line(f"{self._indent(run)}goes on after step {event['step']}")
        elif event["event"] == "held":
            self._line(f"{self._indent(run)}is at work elsewhere: {event['by']}; waiting for it")
        elif event["event"] in ("calibrating", "evaluating", "measuring"):
            self._line(f"{self._indent(run)}{event['event']}")

    def finish(self, run: Run, said: str) -> None:
        self._line(self._indent(run) + said)

    def close(self) -> None:
        pass

    def _indent(self, run: Run) -> str:
        return "  " if self.jobs == 1 else f"  {run.key}  "

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class Bars:
    """A live bar for each run in progress, and a line for each finished one. Redrawn twice a second, no more."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            TextColumn("{task.fields[key]}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[status]}", markup=False),
            console=console,
            refresh_per_second=2,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def start(self, run: Run, number: int, total: int) -> None:
        self._tasks[run.key] = self._progress.add_task("", key=f"[{number}/{total}] {run.key}", status="starting")

    def event(self, run: Run, event: dict[str, Any]) -> None:
        task = self._tasks[run.key]
        if event["event"] == "progress":
            self._progress.update(task, completed=event["step"], total=event["steps"], status=describe(event))
        elif event["event"] == "held":
            self._progress.update(task, status=f"waiting for {event['by']}")
        elif event["event"] in ("calibrating", "resumed", "evaluating", "measuring"):
            self._progress.update(task, status=event["event"])

    def finish(self, run: Run, said: str) -> None:
        self._progress.remove_task(self._tasks.pop(run.key))
        self.console.print(f"{run.key}: {said}", highlight=False, markup=False)

    def close(self) -> None:
        self._progress.stop()


def describe(event: dict[str, Any]) -> str:
    """A progress event in words: epoch, phase, loss, score, kept cost, power, time left."""
    score = Score.model_validate(event["score"])
    parts = [
        f"epoch {event['epoch']}/{event['epochs']}",
        event["phase"],
        f"loss {event['loss']:.3f}",
    ]
    for name in ("train", "held-out"):
        value = event["train_score" if name == "train" else "holdout_score"]
        if value is not None:
            parts.append(f"{name} {score.text(value, 1 if score.share else None)}")
    parts.append(f"MACs {event['kept_macs']:.1%}")
    if event["power_w"] is not None:
        parts.append(f"{event['power_w']:.0f} W")
    parts.append(f"{duration(event['seconds_left'])} left")
    return "  ".join(parts)


def verdict(record: Record) -> str:
    """One line on how a run ended."""
    if record.failure is not None:
        where = "; the last output is in its record.json" if record.failure.last_output else ""
        return f"failed: {visible(record.failure.reason)}{where}"
    assert record.cost is not None
    assert record.score is not None
    valid = "" if record.valid else f"  INVALID: {record.invalid_reason}"
    redone = ""
    if record.interruptions and record.ledger is not None:
        redone = f"  redone: {record.ledger.redone_share:.1%} of the training"
    figure = "unknown" if record.test_score is None else record.score.text(record.test_score)
    return f"test {record.score.name} {figure} at {record.cost.kept_macs:.1%} of the MACs{redone}{valid}"
