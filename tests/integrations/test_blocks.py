"""Blocks of `measured` that overlap, and pauses within them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator

import pytest

from greenprune.integrations import measured
from tests.integrations.conftest import Known

J = "energy/x/measured/j"


def test_generators_that_share_one_measured_end_their_own_blocks(meter, known: Known) -> None:
    shared = measured("x", meter=meter)

    def work(samples: int) -> Generator[None, None, None]:
        with shared.block() as block:
            yield
            block.step(samples)
            yield

    first, second = work(3), work(5)
    for generator in (first, second, second, first):
        next(generator)
    first.close()
    assert shared.total.samples == 3
    second.close()
    assert shared.total.samples == 8
    assert meter._sampling.open_windows == []


def test_a_second_block_of_with_is_refused_while_the_first_is_open(meter, known: Known) -> None:
    told: list[dict[str, float]] = []
    shared = measured("x", log=told.append, meter=meter)
    with shared:
        known.use(2.0)
        with pytest.raises(RuntimeError, match=r'measured\("x"\): its block is still open; .*some\.block\(\)'), shared:
            pass
        known.use(3.0)
    with shared:
        known.use(1.0)
    assert [part[J] for part in told] == [5.0, 1.0]


def test_a_block_may_be_ended_by_another_task(meter, known: Known) -> None:
    told: list[dict[str, float]] = []

    async def items() -> AsyncGenerator[int, None]:
        async with measured("x", log=told.append, meter=meter):
            known.use(2.0)
            yield 0

    async def main() -> None:
        generator = items()
        await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
        await asyncio.create_task(generator.aclose())  # type: ignore[arg-type]

    asyncio.run(main())
    assert [part[J] for part in told] == [2.0]


def test_steps_within_a_pause_join_the_next_interval_and_pauses_may_overlap(meter, known: Known) -> None:
    told: list[dict[str, float]] = []
    with measured("x", log=told.append, meter=meter, every_steps=1, min_interval_s=0.0) as block:
        known.use(2.0)
        with block.paused():
            known.use(100.0)
            block.step()
            with block.paused():
                known.use(100.0)
            known.use(100.0)
        known.use(3.0)
        block.step()
    assert [part["energy/x/measured/interval_j"] for part in told[:-1]] == [5.0]
    assert told[-1][J] == 5.0
    assert meter._sampling.open_windows == []


def test_a_pause_may_outlast_its_block(meter, known: Known) -> None:
    told: list[dict[str, float]] = []
    with measured("x", log=told.append, meter=meter) as block:
        known.use(2.0)
        pause = block.paused()
        pause.__enter__()
        known.use(100.0)
    pause.__exit__(None, None, None)
    assert [part[J] for part in told] == [2.0]
    assert meter._sampling.open_windows == []
