"""One counter of multiply-accumulates for everything: convolutions (transposed ones too) and linear layers.

The same definition serves published-table comparisons (ResNet-20 with option-B shortcuts: 40.8 M) and the ledger of a
run, which adds up what was really executed.
"""

from __future__ import annotations

from types import TracebackType

import torch
from greenprune.methods.structure.inputs import ExampleInputs, Inputs
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
COUNTED = (*CONVOLUTIONS, nn.Linear)


def layer_macs(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Multiply-accumulates of one call of a convolution or linear layer that made `output` of `inputs` (whole batch)."""
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    weight: Tensor = layer.weight  # type: ignore[assignment]
    filter_size = (
        weight.numel() // weight.shape[0]
    )  # by shapes alone: an operation would be taken for one of the network
    return (inputs if isinstance(layer, TRANSPOSED) else output).numel() * filter_size


class MacMeter:
    """Counts the multiply-accumulates of every convolution and linear layer executed by this process while open.

    A skipped layer costs nothing, a masked one costs what it executes, and a gate head counts like any other layer.

        with MacMeter() as meter:
            network(images)
        meter.total
    """

    def __init__(self) -> None:
        self.total = 0

    def __enter__(self) -> MacMeter:
        self._handle = register_module_forward_hook(self._count)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._handle.remove()

    def _count(self, module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(module, COUNTED) and isinstance(output, Tensor):
            self.total += layer_macs(module, inputs[0], output)
        else:  # a wrapper that called a part of its layer says what that cost
            self.total += getattr(module, "executed_macs", 0)


@torch.no_grad()
def count_macs(model: nn.Module, example_inputs: ExampleInputs) -> int:
    """Multiply-accumulates of one forward pass of `model`, for one example of `example_inputs` (see `inputs.Inputs`).

    The model is evaluated in eval mode and left in the mode it was in.
    """
    inputs, training = Inputs.of(example_inputs), model.training
    model.eval()
    try:
        with MacMeter() as meter:
            inputs.call(model)
    finally:
        model.train(training)
    return meter.total // inputs.batch_size


def count_params(model: nn.Module) -> int:
    """Number of parameters (weights, biases, normalisation scale and shift; no statistics)."""
    return sum(p.numel() for p in model.parameters())
