"""Finished networks in the runtimes that a suite names: checked against eager PyTorch, and measured beside dense there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.errors import UserError
from greenprune.bench.export.program import quiet, relative_difference
from greenprune.bench.foreign import shortened
from greenprune.bench.inference.calibration import how_much_longer
from greenprune.bench.inference.pair import batch_of, compare_subjects, warmed
from greenprune.bench.records.inference import Inference, Served
from greenprune.bench.runtimes.catalogue import described, find
from greenprune.bench.runtimes.names import EAGER
from greenprune.bench.runtimes.runtime import Runtime, Session
from greenprune.bench.suite.settings import Settings
from greenprune.methods import logits_of
from greenprune.methods.structure.modes import evaluating
from torch import Tensor, nn

LARGEST_DIFFERENCE = 1e-3
"""max |difference| / max |output| in float32 up to which a runtime computes the same network."""

CHECKED_IMAGES = 8
HELD_OUT_BATCHES = 4


class Through(nn.Module):
    """A session as a module, for what evaluates modules."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def forward(self, batch: Tensor) -> Tensor:
        return self._session.run(batch.contiguous())


def serve(
    settings: Settings,
    network: nn.Module,
    dense: nn.Module,
    images: Tensor,
    meter: EnergyMeter,
    *,
    held_out: Callable[[], Sequence[Tensor]],
    score: Callable[[nn.Module], float | None],
) -> tuple[Served, ...]:
    """An entry for each runtime of the suite but eager, and for int8 where it asks for that and the runtime can.

    What goes wrong with one is said in its entry; the others are measured all the same.

    Args:
        images: (N, C, H, W), normalised, of the test set.
        held_out: gives batches of images that were not trained on, for the ranges of 8-bit integers.
        score: the main score on the test set of what is called as the network is.
    """
    found = []
    for name in settings.measurement.runtimes:
        if name == EAGER:
            continue
        threads = torch.get_num_threads()
        about = Served(runtime=name, precision="float32", threads=threads)
        try:
            runtime = find(name)
            about = about.model_copy(update={"versions": described(name, runtime)})
        except UserError as e:
            found.append(about.model_copy(update={"problem": str(e)}))
            continue
        precisions: list[Literal["float32", "int8"]] = ["float32"]
        if settings.measurement.int8 and runtime.quantises:
            precisions.append("int8")
        for precision in precisions:
            own = about.model_copy(update={"precision": precision})
            try:
                calibration = held_out() if precision == "int8" else ()
                entry = _served(settings, runtime, network, dense, images, meter, calibration, score)
                found.append(Served.model_validate(own.model_dump() | entry))
            except UserError as e:
                found.append(own.model_copy(update={"problem": str(e)}))
            except Exception as e:  # of a runtime that is not ours; nothing else of the run is lost
                found.append(own.model_copy(update={"problem": f"{type(e).__name__}: {shortened(str(e))}"}))
    return tuple(found)


def difference(session: Session, model: nn.Module, images: Tensor) -> float:
    """max |difference| / max |output| between a runtime and eager PyTorch, on the first of `images`.

    Raises:
        UserError: what either gives is no finite number.
    """
    with evaluating(model), torch.no_grad():
        expected = logits_of(model(images[:CHECKED_IMAGES]))
    found = relative_difference(session.run(images[:CHECKED_IMAGES]).to(images.device), expected)
    if not math.isfinite(found):
        raise UserError("its results, or those of eager PyTorch, are not finite numbers")
    return found


def agreed(session: Session, model: nn.Module, images: Tensor) -> float:
    """As `difference`. Raises UserError where the runtime computes something else."""
    found = difference(session, model, images)
    if not found <= LARGEST_DIFFERENCE:
        raise UserError(
            f"its results differ from those of eager PyTorch by {found:.1e} of the largest, more than "
            f"{LARGEST_DIFFERENCE:g}"
        )
    return found


def _served(
    settings: Settings,
    runtime: Runtime,
    network: nn.Module,
    dense: nn.Module,
    images: Tensor,
    meter: EnergyMeter,
    calibration: Sequence[Tensor],
    score: Callable[[nn.Module], float | None],
) -> dict[str, object]:
    """Fields of an entry. Raises UserError where the runtime cannot take the network, or runs another one."""
    device = images.device
    if device.type not in runtime.devices:
        raise UserError(f"runs on {', '.join(runtime.devices)} alone, and this run is on {device.type}")
    images = images.float().contiguous()
    ours, reference = (
        runtime.prepare(model, images[:2], threads=torch.get_num_threads(), calibration=calibration)
        for model in (network, dense)
    )
    compared = difference if calibration else agreed
    result: dict[str, object] = {"difference": compared(ours, network, images)}
    compared(reference, dense, images)
    if calibration:
        result["test_score"] = score(Through(ours))
    measured: list[Inference] = []
    problems: list[str] = []
    for size in settings.measurement.inference_batch_sizes:
        try:
            batch = batch_of(images, size)
            with quiet():
                subjects = [
                    warmed(partial(session.run, batch), batch, name=f"inference, {side}{runtime.name}")
                    for session, side in ((ours, ""), (reference, "dense, "))
                ]
            measured.append(
                compare_subjects(
                    subjects[0], subjects[1], device=device, seconds=settings.measurement.inference_seconds, meter=meter,
                    seed=settings.seed, longer=how_much_longer(settings, runtime.name, size),
                )
            )  # fmt: skip
        except Exception as e:  # of a runtime that is not ours; the other sizes are measured all the same
            problems.append(f"batch size {size}: {type(e).__name__}: {shortened(str(e))}")
    return result | {"inference": tuple(measured), "problem": "; ".join(problems) or None}
