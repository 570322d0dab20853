"""A trial of `greenprune tune`: what makes it lose whatever its score."""

from __future__ import annotations

import pytest
from greenprune.bench.run.trial import why_out
from greenprune.methods.cost.kinds import CostKind
from greenprune.methods.dense import Dense

from tests.plots.records import record


@pytest.mark.parametrize("kind", ["macs", "latency", "energy"])
def test_a_cut_that_changes_the_outputs_is_out_whatever_the_budget_counts(kind: CostKind) -> None:
    method, cost = Dense(keep=1.0, steps=10), record().cost
    assert cost is not None
    assert why_out(kind, method, cost) is None
    method.masked_max_abs_diff = 0.5
    found = why_out(kind, method, cost)
    assert found is not None
    assert found.startswith("masked and removed network differ by 5.00e-01")
