from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NETWORK = """\
from torch import nn


def tiny(classes):
    layers = []
    for width, before in ((8, 3), (16, 8)):
        layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))


def wrong(classes):
    return "no network"
"""


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures of 20x20 of two classes: dark ones and bright ones."""
    place = tmp_path_factory.mktemp("pictures") / "shades"
    random = np.random.default_rng(0)
    for name, shade in (("bright", 200), ("dark", 50)):
        (place / name).mkdir(parents=True)
        for i in range(30):
            pixels = random.integers(shade - 40, shade + 40, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / name / f"{i}.png")
    return place
