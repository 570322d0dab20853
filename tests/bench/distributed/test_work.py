"""Two ranks that train together against one process: every method, and what else a recipe may say."""

from __future__ import annotations

import pytest
import torch

from tests.bench.distributed.work import LENGTHS, METHODS, Found, alone, by_ranks

SAME = 2e-6
"""Of losses, which are float32 numbers made in float64. A gradient of another scale makes more than 1e-3."""

COARSE = {"bfloat16": 2e-2}
"""Where numbers are rounded to fewer digits."""

TESTED = (*METHODS, "per_sample", "parts", "adamw", "bfloat16")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Found]]:
    return by_ranks(tmp_path_factory.mktemp("ranks"), "test", TESTED)


@pytest.mark.parametrize("name", TESTED)
def test_two_ranks_train_as_one_process(name: str, ranks: dict[str, list[Found]]) -> None:
    first, second = ranks[name]
    one = alone(name, "test")
    assert len(one.losses) == LENGTHS["test"].steps
    assert first.losses == pytest.approx(one.losses, abs=COARSE.get(name, SAME), rel=0)
    assert second.losses == first.losses  # the loss is that of the whole batch
    assert second.weights.keys() == first.weights.keys() == one.weights.keys()
    assert all(torch.equal(first.weights[key], second.weights[key]) for key in first.weights)
    assert [tensor.shape for tensor in first.weights.values()] == [tensor.shape for tensor in one.weights.values()]
    assert second.ledger == first.ledger
    assert [entry[:2] for entry in first.ledger] == [entry[:2] for entry in one.ledger]
    assert second.scores == first.scores
    assert first.scores == pytest.approx(one.scores, abs=0.1 if name in COARSE else 1e-5)
