"""What `gated_paper` stands for, and that its loss leads where the paper's is said to."""

from __future__ import annotations

import pytest
from greenprune.bench.suite.entry import MethodEntry
from greenprune.methods import count_macs, find
from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.options.base import MethodOptions, with_defaults
from pydantic import Field, ValidationError

from tests.methods.contract import run
from tests.methods.networks import SmallResidual, images


def test_a_suite_names_it_and_its_records_hold_all_options() -> None:
    entry = MethodEntry.model_validate({"name": "gated_paper", "options": {"drift": 40.0}})
    assert (entry.name, entry.label) == ("gated_paper", "gated_paper")
    stored = entry.model_dump()["options"]
    assert stored.keys() == GatingOptions().model_dump().keys()
    told = ("execution", "target", "closed_layers", "prior_spread", "balance", "layers", "channels", "drift")
    assert [stored[key] for key in told] == ["per_sample", "loss", "removed", 0.0, 0.0, True, True, 40.0]
    assert MethodEntry.model_validate_json(entry.model_dump_json()) == entry


def test_tuning_leaves_alone_what_makes_it_what_it_is() -> None:
    paper, gated = find("gated_paper"), find("gated")
    own = {"execution", "target", "closed_layers", "prior_spread", "balance", "within_layer"}
    assert own.isdisjoint(paper.tuning)
    assert own & set(gated.tuning)


def test_its_images_come_to_agree_and_the_budget_is_met() -> None:
    dense = SmallResidual()
    result, method = run("gated_paper", SmallResidual(), 0.5, steps=150, batch=16)
    assert 0.48 <= count_macs(result, images(2, 16)) / count_macs(dense, images(2, 16)) <= 0.5
    found = method.history()
    assert method.masked_max_abs_diff <= 1e-4
    _, without = run("gated_paper", SmallResidual(), 0.5, steps=150, batch=16, options={"polarization_weight": 0.0})
    assert without.history()["polarized_share"] < found["polarized_share"]


class Small(MethodOptions):
    """Two options."""

    share: float = Field(0.5, gt=0, description="a share")
    kind: str = Field("a", description="a kind")


def test_a_variant_has_other_defaults_and_the_same_bounds() -> None:
    variant = with_defaults(Small, "Variant", "Of small ones.", share=0.25)
    assert variant().model_dump() == {"share": 0.25, "kind": "a"}
    assert issubclass(variant, Small)
    assert variant.model_json_schema()["properties"]["share"]["description"] == "a share"
    for wrong in ({"share": 0.0}, {"shar": 0.1}):
        with pytest.raises(ValidationError):
            variant.model_validate(wrong)
        with pytest.raises(ValidationError):
            with_defaults(Small, "Variant", "", **wrong)
