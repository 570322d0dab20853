"""Norms of every kind: gated with the right result, or listed with the reason."""

import pytest
import torch
from greenprune.methods.structure.surgery import masked, remove
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from tests.methods.networks import images
from tests.methods.structure.odd import Net, conv, exact, groups, head, reasons


def test_a_layer_norm_forgets_closed_channels():
    class ChannelsFirst(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    model = Net(
        lambda m, x: m.head(m.b(m.norm(m.a(x)))), a=conv(3, 8), norm=ChannelsFirst(8), b=conv(8, 8), head=head(8)
    )
    structure = exact(model, images(2, 8))
    assert groups(structure) == ["a", "b"]
    assert structure.layers["norm"].channel_dim == 1
    model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 10))
    structure = exact(model, torch.randn(2, 5, 6))
    assert structure.layers["1"].channel_dim == -1


def test_a_layer_norm_over_more_than_the_channels_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LayerNorm([8, 6, 6]), nn.Conv2d(8, 8, 3), head(8))
    assert "a norm is taken over them in 1 (LayerNorm)" in reasons(model, images(2, 8))["0"]


@pytest.mark.parametrize("affine", [True, False])
def test_group_norm_loses_whole_groups(affine):
    model = nn.Sequential(conv(3, 12), nn.GroupNorm(4, 12, affine=affine), nn.ReLU(), conv(12, 6), head(6))
    structure = exact(model, images(2, 8))
    assert [(g.name, g.width) for g in structure.groups] == [("0", 4), ("3", 6)]


def test_one_group_over_all_channels_is_refused():
    model = nn.Sequential(conv(3, 12), nn.GroupNorm(1, 12), conv(12, 6), head(6))
    assert "group norm is taken over all of them in 1 (GroupNorm)" in reasons(model, images(2, 8))["0"]
    assert groups(exact(model, images(2, 8))) == ["2"]


def test_instance_norm():
    model = nn.Sequential(conv(3, 8), nn.InstanceNorm2d(8, affine=True), nn.ReLU(), conv(8, 6), head(6))
    assert groups(exact(model, images(2, 8))) == ["0", "3"]


class Frozen(nn.Module):
    """A norm of buffers, as detection networks have it; a fresh one changes no zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), FrozenBatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head(torch.relu(self.second(x)).mean((2, 3)))


def test_the_shift_of_a_frozen_norm_goes_with_its_channel() -> None:
    """Also where it is loaded after the network was looked at."""
    torch.manual_seed(0)
    model, x = Frozen().eval(), torch.randn(2, 3, 8, 8)
    structure = trace(model, x)
    model.norm.bias.fill_(1.0)
    model.norm.running_mean.fill_(-0.5)
    (group,) = (g for g in structure.groups if "first" in g.producers)
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[group.start : group.start + 4] = False
    with torch.no_grad():
        with masked(model, structure, keep):
            expected = model(x)
        assert torch.allclose(remove(model, structure, keep)(x), expected, atol=1e-6)
