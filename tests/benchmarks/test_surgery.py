"""Cutting half of the channels and one residual branch out of a network."""

from __future__ import annotations

import copy

import torch
from greenprune.bench.models import build
from greenprune.methods import count_macs
from greenprune.methods.structure import surgery
from greenprune.methods.structure.trace import trace

from tests.benchmarks import references
from tests.benchmarks.side_by_side import SideBySide


def test_surgery(side_by_side: SideBySide) -> None:
    network = build("resnet20", 10, seed=0)
    example = references.images()[:2]
    structure = trace(network, example)
    keep = torch.ones(structure.units, dtype=torch.bool)
    for group in structure.groups:
        keep[group.units][::2] = False  # a slice, so this writes into `keep`
    keep[structure.branches[0].unit] = False
    results = []

    def cut() -> None:
        results[:] = [surgery.remove(copy.deepcopy(network), structure, keep)]

    cut()
    assert count_macs(results[0], example) < count_macs(network, example)
    side_by_side(cut, references.rebuilding())
