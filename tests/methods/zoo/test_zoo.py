"""The list of networks, and what is measured of one."""

import time
from pathlib import Path

import pytest
import torch
from greenprune.methods import count_macs
from greenprune.methods.cost.costs import MacCost
from greenprune.methods.structure.surgery import evaluate, remove
from greenprune.methods.structure.trace import trace

from tests.methods.zoo import child, depgraph, gated, page
from tests.methods.zoo.catalogue import ALL, LISTED
from tests.methods.zoo.convolutions import LeNet
from tests.methods.zoo.drawing import Diffusion
from tests.methods.zoo.entry import of_image

ROOT = Path(__file__).parents[3]


def test_the_list_holds_the_networks_of_the_other_suites_and_more():
    assert len(LISTED) == 103
    assert len(ALL) > len(LISTED)
    assert set(ALL) >= {
        "oto/carn_raw",
        "tp/split_raw(tuple)",
        "timm/maxvit_nano_rw_256",
        "tv/r3d",
        "hf/gpt2",
        "own/c2f",
    }


@pytest.mark.parametrize(
    "name", ["oto/carn", "oto/groupnorm2", "tp/concat_split", "tp/split_raw(tuple)", "tp/reshape(convT)"]
)
def test_a_small_network_of_each_kind_is_pruned_to_its_budget(name):
    found = gated.measure(ALL[name])
    assert found["kept"] <= found["keep"]
    assert found["difference"] <= page.EXACT < found["effect"]
    assert found["reached_share"] > 0.5


def test_torch_pruning_is_measured_on_the_same_network():
    found = depgraph.measure(of_image("lenet", LeNet, 28, 1))
    assert 0.3 < found["kept"] <= 0.5


def _sleeps(_: object) -> dict[str, float]:
    time.sleep(30)
    return {}


def _fails(_: object) -> dict[str, float]:
    raise RuntimeError("on purpose")


def _works(_: object) -> dict[str, float]:
    return {"kept": 0.5}


def test_what_hangs_or_raises_is_a_result():
    entry = ALL["tp/lenet"]
    assert child.run(_works, entry, 60.0, 2**36) == {"kept": 0.5}
    assert child.run(_sleeps, entry, 0.01, 2**36) == {"failed": "does not end within 0 s"}
    assert child.run(_fails, entry, 60.0, 2**36)["failed"].startswith("RuntimeError: on purpose")


def test_a_branch_that_is_emptied_after_its_channels_were_cut_still_runs():
    torch.manual_seed(0)
    network = Diffusion((1, 1), 1, attention=4, size=8).eval()
    x = torch.randn(2, 4, 8, 8)
    structure = trace(network, x)
    emptied = [b for b in structure.branches if b.constants is None]
    assert {b.end for b in emptied} >= {"down.1.0.1.out", "middle.1.out"}
    keep = torch.ones(structure.units, dtype=torch.bool)
    for group in structure.groups:
        keep[group.start + group.width // 2 : group.start + group.width] = False
    keep[[b.unit for b in emptied]] = False
    predicted, dense_macs = float(MacCost(structure)(keep.float())), count_macs(network, x)
    small = remove(network, structure, keep)
    assert evaluate(small, x).shape == (2, 3, 8, 8)
    assert count_macs(small, x) / dense_macs == pytest.approx(predicted, abs=1e-3)  # the code multiplies its zeros


def test_the_table_of_the_documentation_is_made_of_the_records():
    folder = ROOT / "results" / "networks"
    records = page.records(folder)
    assert page.text(records) == (folder / "table.md").read_text(encoding="utf-8")
    assert {record["network"] for record in records} <= set(ALL)
    assert sum(page.succeeds(record) for record in records if record["listed"]) >= 95
    assert "<!-- include: results/networks/table.md -->" in (ROOT / "docs/explanation/networks.md").read_text("utf-8")
