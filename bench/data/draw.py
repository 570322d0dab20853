"""Random numbers that depend on what they are for alone: the seed, the epoch, the image."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def generator(*place: int) -> torch.Generator:
    """On the CPU, for (seed, epoch, stream) or any other place."""
    return torch.Generator().manual_seed(seed_of(*place))


def seed_of(*place: int) -> int:
    """A hash, since neighbouring seeds must not share streams, as e.g. seed + epoch would."""
    return int(np.random.SeedSequence(place).generate_state(1)[0])


@contextmanager
def drawing(*place: int) -> Iterator[None]:
    """Inside, the generators that code draws from without naming one (torch's, Python's, NumPy's) start at this place.

    Afterwards they are as they were.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = seed_of(*place)
    try:
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
