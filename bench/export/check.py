"""What is written is run and compared with the network before it lies where it belongs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.export.program import quiet, relative_difference
from greenprune.bench.foreign import shortened
from greenprune.methods import logits_of
from greenprune.methods.structure.modes import evaluating
from torch import Tensor, nn

LARGEST_DIFFERENCE = 1e-3
"""max |difference| / max |output| in float32 up to which a file holds the same network."""

Run = Callable[[Tensor], Tensor]
"""What a file makes of a batch."""


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        files: the first is the one to open.
        difference: from eager PyTorch, max |difference| / max |output|; None where it was not run.
        dynamic: whether it takes batches of any size; else it takes one image at a time.
    """

    files: tuple[Path, ...]
    difference: float | None
    dynamic: bool


def difference(run: Run, network: nn.Module, example: Tensor, dynamic: bool) -> float:
    """The largest relative difference from eager PyTorch: on `example` and on one image of it, or on that image alone.

    Args:
        example: (B, ...) on the device of the network.
        dynamic: whether `run` takes batches of any size.

    Raises:
        UserError: the network does not run. Whatever `run` raises passes through.
    """
    batches = [example, example[:1]] if dynamic else [example[:1]]
    with evaluating(network), torch.no_grad(), quiet():
        with taken_by("eager PyTorch"):
            expected = [logits_of(network(batch)) for batch in batches]
        found = [relative_difference(run(batch), wanted) for batch, wanted in zip(batches, expected, strict=True)]
    return float(torch.tensor(found).max())  # NaN where one is


def refuse_different(name: str, found: float) -> None:
    """Raise UserError where the file `name` computes something else than the network, by `difference`."""
    if not found <= LARGEST_DIFFERENCE:
        raise UserError(
            f"{name}: its results differ from those of eager PyTorch by {found:.1e} of the largest, more than "
            f"{LARGEST_DIFFERENCE:g}; it is not to be used"
        )


@contextlib.contextmanager
def taken_by(name: str) -> Iterator[None]:
    """Whatever is raised inside, but for UserError and OSError, becomes a UserError: what `name` does not take."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as e:  # runtimes have many kinds of errors, and a network may be anybody's
        raise UserError(f"{name} does not take this network ({shortened(str(e))})") from None


@contextlib.contextmanager
def apart(folder: Path) -> Iterator[Path]:
    """A new folder inside `folder`, which is made; the files in it come into `folder` where nothing was raised.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as place:
        yield Path(place)
        for path in sorted(Path(place).iterdir()):
            path.replace(folder / path.name)
