"""Joules of a block or a function, for programs without a training framework."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

from greenprune.bench.energy import EnergyMeter
from greenprune.integrations.account import Account
from greenprune.integrations.recorder import MIN_INTERVAL_S, PhaseLog, meter_of_process, reports_here

Log = Callable[[dict[str, float]], object]


class Block:
    """A block that is being measured. Tell it what was done."""

    def __init__(self, phases: PhaseLog, every_steps: int) -> None:
        self.paused = phases.paused  # `with block.paused():` what is inside does not count
        self._phases = phases
        self._every_steps = every_steps
        self._steps = 0

    def step(self, samples: float = 1) -> None:
        """A step is done, of so many samples. Every `every_steps` of them the joules since the last time are logged."""
        self._phases.count(samples)
        self._steps += 1
        if self._steps % self._every_steps == 0:
            self._phases.interval()


class measured:  # noqa: N801 (used as `with measured(...)` and `@measured(...)`)
    """Measure a block or every call of a function, and log its joules.

    ```
    with measured("train", log=wandb.log) as block:
        for images, labels in loader:
            ...
            block.step(samples=len(images))
    ```

    As decorator of a function, a coroutine, a generator or an asynchronous generator; of a generator what its caller does
    between two items does not count. What the block or function raises passes through, after its joules were logged.
    While a coroutine waits, the energy of what else this process does is counted as its own. `async with` works as `with`.
    `with` opens one block at a time; `with some.block() as block` as many at once as threads, tasks and generators need.

    `log` gets {"energy/train/KIND/j": ..., "low_j", "high_j", and each "_per_sample"} at the end of a block, with
    `interval_` before j every `every_steps` steps, and `total_` for all blocks of this `measured`. KIND is measured,
    sampled or modelled. Of the processes that a launcher started on a node, only that with local rank 0 measures and logs.
    """

    def __init__(
        self,
        phase: str,
        *,
        log: Log | None = None,
        meter: EnergyMeter | None = None,
        every_steps: int = 50,
        prefix: str = "energy",
        gco2e_per_kwh: float | None = None,
        min_interval_s: float = MIN_INTERVAL_S,
    ) -> None:
        """Args:
        phase: its name in the log.
        log: takes a dict of names and numbers: `wandb.log`, `mlflow.log_metrics`, `to_tensorboard(writer)`.
        meter: the meter to use; None: one of all GPUs that this process sees and of the CPU.
        every_steps: logging interval, in calls of `Block.step`.
        prefix: what the names in the log begin with.
        gco2e_per_kwh: grid intensity, to log grams of CO2 equivalent too.
        min_interval_s: shorter logging intervals are joined with the next.

        Raises:
            ValueError: `every_steps` is not at least 1.
        """
        if every_steps < 1:
            raise ValueError(f"every_steps = {every_steps}: allowed is a whole number from 1")
        self.total = Account()
        """What all blocks used that have ended."""
        self._phase = phase
        self._log = log
        self._meter = meter
        self._every_steps = every_steps
        self._options: dict[str, Any] = {
            "totals": {phase: self.total},
            "prefix": prefix,
            "gco2e_per_kwh": gco2e_per_kwh,
            "min_interval_s": min_interval_s,
        }
        self._opening = threading.Lock()
        self._open: PhaseLog | None = None  # the block of `with`

    @contextlib.contextmanager
    def block(self) -> Iterator[Block]:
        """A block of its own, whatever other blocks are open."""
        phases = self._begin()
        try:
            yield Block(phases, self._every_steps)
        finally:
            phases.leave(self._phase)

    def __enter__(self) -> Block:
        """Raises RuntimeError: the last block of `with` is still open, and which of two ends could not be told."""
        with self._opening:
            if self._open is not None:
                raise RuntimeError(
                    f'measured("{self._phase}"): its block is still open; for several at once open each with '
                    "`with some.block() as block`, where `some` is this measured(...)"
                )
            phases = self._open = self._begin()
        return Block(phases, self._every_steps)

    def __exit__(self, *_: object) -> None:
        phases, self._open = self._open, None
        if phases is not None:
            phases.leave(self._phase)

    async def __aenter__(self) -> Block:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Measure every call of `function`."""
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def items_later(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
                phases = self._begin()
                generator = function(*args, **kwargs)
                try:
                    step = generator.asend(None)
                    while True:
                        try:
                            item = await step
                        except StopAsyncIteration:
                            return
                        with phases.paused():
                            try:
                                sent = yield item
                                step = generator.asend(sent)
                            except GeneratorExit:
                                raise
                            except BaseException as e:
                                step = generator.athrow(e)
                finally:
                    await generator.aclose()
                    phases.leave(self._phase)

            return items_later
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def items(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                phases = self._begin()
                try:
                    return (yield from _Paused(function(*args, **kwargs), phases))
                finally:
                    phases.leave(self._phase)

            return items
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def later(*args: Any, **kwargs: Any) -> Any:
                with self.block():
                    return await function(*args, **kwargs)

            return later

        @functools.wraps(function)
        def now(*args: Any, **kwargs: Any) -> Any:
            with self.block():
                return function(*args, **kwargs)

        return now

    def _begin(self) -> PhaseLog:
        phases = PhaseLog(self._meter, **self._options)
        if reports_here():
            phases.start(self._log, meter_of_process)
        phases.enter(self._phase)
        return phases


class _Paused(Generator[Any, Any, Any]):
    """A generator whose phase rests while nobody asks it for an item."""

    def __init__(self, generator: Generator[Any, Any, Any], phases: PhaseLog) -> None:
        self._generator = generator
        self._phases = phases
        self._rest: contextlib.ExitStack = contextlib.ExitStack()

    def send(self, value: Any) -> Any:
        return self._run(lambda: self._generator.send(value))

    def throw(self, *error: Any) -> Any:
        return self._run(lambda: self._generator.throw(*error))

    def close(self) -> None:
        self._rest.close()
        self._generator.close()

    def _run(self, proceed: Callable[[], Any]) -> Any:
        self._rest.close()
        item = proceed()
        self._rest.enter_context(self._phases.paused())
        return item


def to_tensorboard(writer: Any) -> Log:
    """A `log` for `measured` that writes to a SummaryWriter of torch.utils.tensorboard; its steps are the calls."""
    calls = itertools.count()

    def log(metrics: dict[str, float]) -> None:
        step = next(calls)
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    return log
