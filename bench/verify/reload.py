"""A stored network gives the outputs that it gave when it was stored: asked in a process that has only the disk.

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
from greenprune.methods.structure.outputs import tensors as tensors_in
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

IMAGES = 64
TOLERANCE = 1e-3
"""Largest difference that counts as equal, as a fraction of the largest output: kernels may add up in another order."""

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
        UserError: it cannot be loaded, or gives other outputs.
    """
    images = images[:IMAGES]
    with tempfile.TemporaryDirectory() as place:
        probe = Path(place) / "probe.safetensors"
        channels_last = images.is_contiguous(memory_format=torch.channels_last)
        outputs = enumerate(outputs_from(model, images))
        tensors = {"images": images.cpu().contiguous()} | {f"outputs.{i}": x.cpu().contiguous() for i, x in outputs}
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
            f"its network, loaded from disk again in a fresh process, gives other outputs (max |delta| "
            f"{difference:.2e}, allowed {allowed:.2e}): what it computes is not in its weights alone"
        )


@torch.no_grad()
def outputs_from(model: nn.Module, images: Tensor) -> list[Tensor]:
    """All floating-point tensors that it returns, in eval mode; the modules are left in the mode they were in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    found = [tensor.float() for tensor in tensors_in(model(images)) if tensor.is_floating_point()]
    for module, mode in modes:
        module.training = mode
    return found


def main(argv: list[str]) -> int:
    """Print the largest difference of an output, and what is allowed, as JSON."""
    folder, probe, device = argv
    tensors = load_file(probe, device=device)
    with safe_open(probe, framework="pt") as stored:
        channels_last = stored.metadata()["channels_last"] == "True"
    try:
        model = load_model(folder, trust=True).to(device)  # the run's own suite names it
    except UserError as e:
        print(e, file=sys.stderr)
        return 2
    images = tensors.pop("images")
    expected = [tensors[f"outputs.{i}"] for i in range(len(tensors))]
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.contiguous(memory_format=torch.channels_last)
    print(json.dumps(_difference(outputs_from(model, images), expected)))
    return 0


def _difference(found: list[Tensor], expected: list[Tensor]) -> tuple[float, float]:
    """The largest difference of two lists of outputs, of the output where it is largest for what is allowed; and that."""
    if [x.shape for x in found] != [x.shape for x in expected]:
        return 1e9, 0.0
    worst = (0.0, TOLERANCE)
    for ours, theirs in zip(found, expected, strict=True):
        finite = theirs.isfinite()
        if not torch.equal(ours.isfinite(), finite):
            return 1e9, 0.0
        known = theirs[finite]
        if not known.numel():
            continue
        allowed = TOLERANCE * max(1.0, float(known.abs().max()))
        worst = max(worst, (float((ours[finite] - known).abs().max()), allowed), key=lambda pair: pair[0] / pair[1])
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
