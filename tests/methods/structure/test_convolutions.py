"""Convolutions of every kind: gated with the right result, or listed with the reason."""

import pytest
import torch
from greenprune.methods.structure.trace import trace
from torch import nn

from tests.methods.networks import images
from tests.methods.structure.odd import conv, exact, groups, head, reasons


def test_depthwise_separable_with_a_shift_behind_the_mask():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.PReLU(8), nn.Conv2d(8, 6, 1), head(6)
    )
    structure = exact(model, images(2, 8))
    assert groups(structure) == ["0", "4"]
    assert structure.layers["4"].masks_input  # the depthwise layer's bias


@pytest.mark.parametrize(("groups_", "out"), [(2, 8), (4, 16), (8, 24)])
def test_grouped_convolutions(groups_, out):
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, out, groups=groups_), nn.ReLU(), conv(out, 6), head(6))
    structure = exact(model, images(2, 8))
    assert [(g.width, g.producers) for g in structure.groups] == [(groups_, ("0", "2")), (6, ("4",))]


def test_a_grouped_convolution_of_the_input_is_fixed():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), conv(8, 6), head(6))
    x = torch.randn(2, 4, 8, 8)
    assert "ties them to channels that cannot be removed" in reasons(model, x)["0"]
    assert groups(exact(model, x)) == ["2"]


def test_two_groupings_of_the_same_channels():
    model = nn.Sequential(conv(3, 12), conv(12, 12, groups=3), conv(12, 12, groups=2), conv(12, 6), head(6))
    structure = trace(model, images(2, 8))
    assert all(g.width in (1, 6) for g in structure.groups)  # 3 and 2 groups of 12 have no part in common but all


@pytest.mark.parametrize("groups_", [1, 4])
def test_transposed_convolution(groups_):
    model = nn.Sequential(
        conv(3, 8), nn.ReLU(), nn.ConvTranspose2d(8, 12, 2, stride=2, groups=groups_), nn.ReLU(), conv(12, 6), head(6)
    )
    structure = exact(model, images(2, 8))
    assert {p for g in structure.groups for p in g.producers} == {"0", "2", "4"}
    assert structure.layers["2"].macs == 8 * 8 * 8 * 12 // groups_ * 2 * 2


def test_one_dimensional_convolutions():
    model = nn.Sequential(
        nn.Conv1d(2, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 10)
    )
    assert groups(exact(model, torch.randn(2, 2, 14))) == ["0", "3"]
