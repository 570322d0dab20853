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
from greenprune.methods import logits_of
from greenprune.methods.structure.modes import evaluating
from torch import Tensor, nn

INSIDE = "network."
"""What the names of tensors begin with in a `LogitsAlone`."""


class LogitsAlone(nn.Module):
    """A network that returns its logits and nothing else, for formats whose reader would have to know which output they are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Tensor) -> Tensor:
        return logits_of(self.network(batch))


def logits_alone(network: nn.Module, example: Tensor) -> nn.Module:
    """The network itself where it returns a tensor, else a `LogitsAlone` of it.

    Raises:
        UserError: it does not run, or returns nothing that could be logits.
    """
    with evaluating(network), torch.no_grad(), quiet():
        try:
            output = network(example[:1])
            logits_of(output)
        except Exception as e:  # a network may be anybody's
            raise UserError(f"eager PyTorch does not take this network ({shortened(str(e))})") from None
    return network if isinstance(output, Tensor) else LogitsAlone(network)


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
    """max |found - expected| / max |expected|.

    Raises:
        UserError: they have other shapes; one might be broadcast to the other and look alike.
    """
    if found.shape != expected.shape:
        raise UserError(
            f"what was made of the network gives results of the shape {tuple(found.shape)}, and eager PyTorch of "
            f"{tuple(expected.shape)}; it is not to be used"
        )
    largest = float(expected.abs().max())
    return float((found.float() - expected.float()).abs().max()) / max(largest, 1e-12)
