"""A network as a program of `torch.export`: what `torch.export.load` reads (.pt2), and what ONNX is made of."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.methods.structure.modes import evaluating
from torch import Tensor, nn


def program_of(network: nn.Module, example: Tensor) -> tuple[torch.export.ExportedProgram, bool]:
    """The network in eval mode, and whether it takes batches of any size; else it takes those of the size of `example`.

    Args:
        example: (B, ...) on the device of the network.

    Raises:
        UserError: torch.export cannot follow its forward.
    """
    if len(example) < 2:  # a size of 1 would be taken for a constant
        example = torch.cat([example, example])
    with evaluating(network), torch.no_grad(), quiet():
        try:
            return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)), True
        except Exception:  # tracing runs the user's own forward, and torch has many kinds of errors
            pass
        try:
            return torch.export.export(network, (example,)), False
        except Exception as e:
            raise UserError(f"torch.export cannot follow this network ({shortened(str(e))})") from None


def write_pt2(network: nn.Module, example: Tensor, path: Path) -> None:
    """Write `path`, which `torch.export.load(path).module()` reads. Raises UserError: as of `program_of`, or OSError."""
    program, _ = program_of(network, example)
    with quiet():
        torch.export.save(program, path)


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
