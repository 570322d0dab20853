"""A network as a program of `torch.export`: what `torch.export.load` reads (.pt2), and what ONNX is made of."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.methods.structure.modes import evaluating
from torch import Tensor, nn


def program_of(network: nn.Module, example: Tensor) -> tuple[torch.export.ExportedProgram, bool]:
    """The network in eval mode, and whether it takes batches of any size; else it takes one image at a time, (1, ...).

    Args:
        example: (B, ...) on the device of the network.

    Raises:
        UserError: torch.export cannot follow its forward.
    """
    several = example if len(example) > 1 else torch.cat([example, example])  # a 1 would be taken for a constant
    with evaluating(network), torch.no_grad(), quiet():
        try:
            return torch.export.export(network, (several,), dynamic_shapes=({0: torch.export.Dim("batch")},)), True
        except Exception:  # tracing runs the user's own forward, and torch has many kinds of errors
            pass
        try:
            return torch.export.export(network, (example[:1],)), False
        except Exception as e:
            raise UserError(f"torch.export cannot follow this network ({shortened(str(e))})") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say of themselves: a failure is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """max |found - expected| / max |expected|."""
    largest = float(expected.abs().max())
    return float((found.float() - expected.float()).abs().max()) / max(largest, 1e-12)
