"""What a user may have meant."""

from __future__ import annotations

import pytest
from greenprune.bench.errors import did_you_mean


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gatd", "gated"),
        ("CIFAR10", "cifar10"),
        ("adamw", "AdamW"),
        ("ADAM", "AdamW"),
        ("xyz", None),
    ],
)
def test_the_nearest_name_is_meant_whatever_its_capitals(name: str, meant: str | None) -> None:
    said = did_you_mean(name, ["gated", "cifar10", "AdamW"])
    assert said == ("" if meant is None else f' (did you mean "{meant}"?)')
