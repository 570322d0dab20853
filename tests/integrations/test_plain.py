"""The context manager and decorator: blocks, functions, coroutines and generators, and what passes through them."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Generator

import pytest

from greenprune.integrations import measured
from greenprune.integrations.plain import to_tensorboard
from tests.integrations.conftest import UNSURE_J, Known

J, TOTAL = "energy/x/measured/j", "energy/x/measured/total_j"


def test_a_block_logs_its_joules_by_interval_and_at_its_end(meter, known: Known) -> None:
    told: list[dict[str, float]] = []
    with measured("x", log=told.append, meter=meter, every_steps=2, min_interval_s=0.0, gco2e_per_kwh=360.0) as block:
        for _ in range(5):
            known.use(3.0)
            block.step(samples=6)
    assert [part["energy/x/measured/interval_j"] for part in told[:2]] == [6.0, 6.0]
    assert told[0]["energy/x/measured/interval_low_j_per_sample"] == (6.0 - UNSURE_J) / 12
    (end,) = told[2:]
    assert (end[J], end["energy/x/measured/low_j"], end["energy/x/measured/high_j"]) == (
        15,
        15 - UNSURE_J,
        15 + UNSURE_J,
    )
    assert end["energy/x/measured/j_per_sample"] == 0.5
    assert end["energy/x/measured/gco2e"] == pytest.approx(15 / 3.6e6 * 360)


def test_what_is_raised_passes_through_after_it_was_logged(meter, known: Known) -> None:
    told: list[dict[str, float]] = []

    def interrupted() -> None:
        with measured("x", log=told.append, meter=meter):
            known.use(2.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert told[0][J] == 2.0
    assert meter._sampling.open_windows == []


def test_a_function_is_measured_at_every_call_and_recursion_within(meter, known: Known) -> None:
    told: list[dict[str, float]] = []

    @measured("x", log=told.append, meter=meter)
    def work(depth: int, *, joules: float = 1.0) -> int:
        """What it does."""
        known.use(joules)
        return work(depth - 1) + 1 if depth else 0

    assert work(1, joules=4.0) == 1
    assert [part[J] for part in told] == [1.0, 5.0]
    assert (work.__name__, work.__doc__) == ("work", "What it does.")


def test_coroutines_that_run_at_the_same_time(meter, known: Known) -> None:
    told: list[dict[str, float]] = []

    @measured("x", log=told.append, meter=meter)
    async def work(joules: float) -> float:
        known.use(joules)
        await asyncio.sleep(0)
        if joules == 3.0:
            raise ValueError("three")
        return joules

    async def both() -> list[object]:
        return await asyncio.gather(work(2.0), work(3.0), return_exceptions=True)

    assert inspect.iscoroutinefunction(work)
    first, second = asyncio.run(both())
    assert first == 2.0
    assert isinstance(second, ValueError)
    assert [part[J] for part in told] == [5.0, 3.0]  # the first waits while the second works
    assert meter._sampling.open_windows == []


def test_an_asynchronous_block(meter, known: Known) -> None:
    told: list[dict[str, float]] = []

    async def main() -> None:
        async with measured("x", log=told.append, meter=meter) as block:
            known.use(2.0)
            block.step(4)

    asyncio.run(main())
    assert told[0]["energy/x/measured/j_per_sample"] == 0.5


def test_of_a_generator_only_its_own_work_counts(meter, known: Known) -> None:
    told: list[dict[str, float]] = []

    @measured("x", log=told.append, meter=meter)
    def items() -> Generator[int, int, str]:
        known.use(1.0)
        for n in range(2):
            try:
                got = yield n
            except KeyError:
                got = 5
            known.use(got)
        return "end"

    generator = items()
    assert inspect.isgeneratorfunction(items)
    assert told == []
    assert next(generator) == 0
    known.use(100.0)
    assert generator.send(2) == 1
    known.use(100.0)
    with pytest.raises(StopIteration) as stopped:
        generator.throw(KeyError())
    assert stopped.value.value == "end"
    assert told[0][J] == 8.0


def test_a_generator_that_is_closed_early_or_raises(meter, known: Known) -> None:
    told: list[dict[str, float]] = []
    closed = []

    @measured("x", log=told.append, meter=meter)
    def items(fails: bool) -> Generator[int, None, None]:
        try:
            known.use(1.0)
            yield 0
            if fails:
                raise ValueError("no")
        finally:
            known.use(2.0)
            closed.append(fails)

    generator = items(False)
    next(generator)
    known.use(100.0)
    generator.close()
    with pytest.raises(ValueError, match="no"):
        list(items(True))
    assert closed == [False, True]
    assert [part[J] for part in told] == [3.0, 3.0]
    assert meter._sampling.open_windows == []


def test_an_asynchronous_generator(meter, known: Known) -> None:
    told: list[dict[str, float]] = []

    @measured("x", log=told.append, meter=meter)
    async def items() -> AsyncGenerator[int, float]:
        known.use(1.0)
        for n in range(3):
            try:
                got = yield n
            except KeyError:
                got = 5.0
            known.use(got or 0.0)

    async def main() -> None:
        generator = items()
        assert await anext(generator) == 0
        known.use(100.0)
        assert await generator.asend(2.0) == 1
        assert await generator.athrow(KeyError()) == 2
        known.use(100.0)
        await generator.aclose()

    assert inspect.isasyncgenfunction(items)
    asyncio.run(main())
    assert [part[J] for part in told] == [8.0]
    assert meter._sampling.open_windows == []


def test_threads_share_one_total(meter, known: Known) -> None:
    block = measured("x", meter=meter)
    inside = threading.Barrier(2)

    def work() -> None:
        with block.block() as b:
            inside.wait(10)
            b.step(3)
            inside.wait(10)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert block.total.samples == 6
    assert meter._sampling.open_windows == []


def test_a_part_may_be_left_out(meter, known: Known) -> None:
    told: list[dict[str, float]] = []
    block_of = measured("x", log=told.append, meter=meter)
    for joules in (2.0, 5.0):
        with block_of as block:
            known.use(joules)
            with block.paused():
                known.use(100.0)
    assert [part[J] for part in told] == [2.0, 5.0]
    assert [part[TOTAL] for part in told] == [2.0, 7.0]


@pytest.mark.parametrize(("rank", "reports"), [("0", True), ("1", False)])
def test_one_rank_of_a_node_reports(rank: str, reports: bool, meter, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, float]] = []
    monkeypatch.setenv("LOCAL_RANK", rank)
    with measured("x", log=told.append, meter=meter) as block, block.paused():
        block.step()
    assert bool(told) == reports


def test_an_interval_of_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"every_steps = 0: allowed is a whole number from 1"):
        measured("x", every_steps=0)


def test_a_summary_writer_gets_every_call_as_a_step() -> None:
    class Writer:
        def __init__(self) -> None:
            self.told: list[tuple[str, float, int]] = []

        def add_scalar(self, *scalar) -> None:
            self.told.append(scalar)

    writer = Writer()
    log = to_tensorboard(writer)
    log({"a": 1.0, "b": 2.0})
    log({"a": 3.0})
    assert writer.told == [("a", 1.0, 0), ("b", 2.0, 0), ("a", 3.0, 1)]


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_a_framework_that_is_missing_is_named_in_one_sentence(name: str) -> None:
    code = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "import greenprune.integrations as i\n"
        "i.measured\n"
        f"assert not {{'lightning', 'transformers', 'torch'}} & {{m for m in sys.modules if sys.modules[m]}}\n"
        f"try: i.{name.capitalize()}EnergyCallback\n"
        "except ImportError as e: print(e)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        f"greenprune.integrations.{name} needs {name}, which is not installed: pip install 'greenprune[{name}]'"
    )
