"""A stored network gives the logits that it gave when it was stored: asked in a process that has only the disk.

A run calls `refuse_changed_by_storing` before it is done; `main` is what runs in the other process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.records.store import load_model
from greenprune.methods import logits_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

IMAGES = 64
TOLERANCE = 1e-3
"""Largest |delta logit| that counts as equal, as a fraction of the largest logit: kernels may add up in another order."""

LIMIT_S = 900
CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from greenprune.bench.verify.reload import main; "
    "sys.exit(main(sys.argv[2:]))"
)


def refuse_changed_by_storing(model: nn.Module, folder: Path, images: Tensor) -> None:
    """Load the network that lies in `folder` in a fresh process, and compare it with `model`, which it was stored from.

    Args:
        model: on the device of `images`.
        images: (N, C, H, W), normalised; the first 64 are enough.

    Raises:
        UserError: it cannot be loaded, or gives other logits.
    """
    images = images[:IMAGES]
    with tempfile.TemporaryDirectory() as place:
        probe = Path(place) / "probe.safetensors"
        channels_last = images.is_contiguous(memory_format=torch.channels_last)
        tensors = {"images": images.cpu().contiguous(), "logits": logits_from(model, images).cpu().contiguous()}
        save_file(tensors, probe, metadata={"channels_last": str(channels_last)})
        arguments = [json.dumps(sys.path), str(folder), str(probe), str(images.device)]
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", CHILD, *arguments],
                capture_output=True, text=True, timeout=LIMIT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UserError(f"its network could not be loaded from disk again within {LIMIT_S} s") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"its network cannot be loaded from disk again ({said})")
    difference, allowed = json.loads(done.stdout.splitlines()[-1])
    if difference > allowed:
        raise UserError(
            f"its network, loaded from disk again in a fresh process, gives other logits (max |delta logit| "
            f"{difference:.2e}, allowed {allowed:.2e}): what it computes is not in its weights alone"
        )


@torch.no_grad()
def logits_from(model: nn.Module, images: Tensor) -> Tensor:
    """In eval mode; the modules are left in the mode they were in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    logits = logits_of(model(images))
    for module, mode in modes:
        module.training = mode
    return logits.float()


def main(argv: list[str]) -> int:
    """Print the largest difference of a logit, and what is allowed, as JSON."""
    folder, probe, device = argv
    tensors = load_file(probe, device=device)
    with safe_open(probe, framework="pt") as stored:
        channels_last = stored.metadata()["channels_last"] == "True"
    try:
        model = load_model(folder, trust=True).to(device)  # the run's own suite names it
    except UserError as e:
        print(e, file=sys.stderr)
        return 2
    images, expected = tensors["images"], tensors["logits"]
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.contiguous(memory_format=torch.channels_last)
    logits = logits_from(model, images)
    if logits.shape != expected.shape or not torch.equal(logits.isfinite(), expected.isfinite()):
        print(json.dumps([1e9, 0.0]))
        return 0
    known = expected[expected.isfinite()]
    difference = (logits[expected.isfinite()] - known).abs()
    largest = float(known.abs().max()) if known.numel() else 0.0
    print(json.dumps([float(difference.max()) if known.numel() else 0.0, TOLERANCE * max(1.0, largest)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
