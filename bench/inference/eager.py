"""A finished network in eager PyTorch, beside dense at every batch size of its suite."""

from __future__ import annotations

from greenprune.bench.energy import EnergyMeter
from greenprune.bench.foreign import shortened
from greenprune.bench.inference.calibration import how_much_longer
from greenprune.bench.inference.pair import compare
from greenprune.bench.records.inference import Inference
from greenprune.bench.runtimes.names import EAGER
from greenprune.bench.suite.settings import Settings
from torch import Tensor, nn


def compare_at_each_size(
    settings: Settings, network: nn.Module, dense: nn.Module, images: Tensor, meter: EnergyMeter
) -> tuple[tuple[Inference, ...], tuple[str, ...]]:
    """What is measured, and a sentence for each batch size at which one of the two does not run: no training is lost to that.

    Args:
        images: (N, C, H, W), normalised, of the test set.
    """
    found, problems = [], []
    for size in settings.measurement.inference_batch_sizes:
        try:
            measured = compare(
                network, dense, images, batch_size=size, seconds=settings.measurement.inference_seconds,
                precision=settings.training.precision, meter=meter, seed=settings.seed,
                longer=how_much_longer(settings, EAGER, size),
            )  # fmt: skip
        except Exception as e:  # for lack of memory, or whatever a user's network raises
            problems.append(
                f"inference at batch size {size} was not measured ({type(e).__name__}: {shortened(str(e))})"
            )
            continue
        found.append(measured)
    return tuple(found), tuple(problems)
