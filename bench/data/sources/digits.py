"""1,797 handwritten digits that come with scikit-learn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from greenprune.bench.data.data import HOLDOUT_SHARE, TEST_SHARE, Dataset, stratified
from greenprune.bench.data.names import CLASSES
from greenprune.bench.data.splits import Split
from greenprune.bench.data.statistics import statistics

SIDE = 32


def read() -> Dataset:
    """Of 8×8 pixels with values 0..16 (UCI "Optical Recognition of Handwritten Digits"), scaled to 32×32 and three channels."""
    from sklearn.datasets import load_digits  # late: its import takes a second, and others do not need it

    bunch = load_digits()
    grey = torch.from_numpy(bunch.images).float().unsqueeze(1) * (255 / 16)
    grey = F.interpolate(grey, size=(SIDE, SIDE), mode="bilinear").round().to(torch.uint8)
    everything = Split(grey.repeat(1, 3, 1, 1), torch.from_numpy(bunch.target).long())
    published, test = stratified(everything, TEST_SHARE)
    train, holdout = stratified(published, HOLDOUT_SHARE)
    mean, std = statistics(published.images)
    names = tuple(str(digit) for digit in range(10))
    # A mirrored 2 is no digit; one original pixel is four wide, so half of one is enough to shift.
    return Dataset(
        "digits", CLASSES["digits"], train, holdout, test, mean, std, flip=False, padding=2, class_names=names
    )
