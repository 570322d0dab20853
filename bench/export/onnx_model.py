"""A network as an ONNX model, in float32 or with 8-bit integers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.export.packages import require
from greenprune.bench.export.program import logits_alone, program_of, quiet
from greenprune.bench.foreign import shortened
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx

PACKAGES = ("onnx", "onnxscript")
INPUT, OUTPUT = "images", "logits"


def onnx_of(network: nn.Module, example: Tensor) -> tuple[onnx.ModelProto, bool]:
    """The network in eval mode in float32, and whether it takes batches of any size, see `program.program_of`.

    Its only output are the logits, whatever else the network returns.

    Raises:
        UserError: a package is missing, or the network cannot be exported.
    """
    require("ONNX", *PACKAGES)
    program, dynamic = program_of(logits_alone(network, example), example)
    with quiet(), torch.no_grad():
        try:
            made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT])
        except Exception as e:
            raise UserError(f"this network cannot be written as ONNX ({shortened(str(e))})") from None
    assert made is not None
    model = made.model_proto
    _named(model)
    return model, dynamic


def quantised(model: onnx.ModelProto, batches: Sequence[Tensor]) -> onnx.ModelProto:
    """The same with weights and activations as 8-bit integers: static, after training, ranges from `batches`.

    Weights have a scale for each output channel. On processors without VNNI weights get 7 bits, or sums would saturate.

    Args:
        batches: (B, ...) of images that were not trained on.

    Raises:
        UserError: onnxruntime is missing, or cannot do it.
    """
    require("int8", *PACKAGES, "onnxruntime")
    import onnx
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter([{model.graph.input[0].name: b.contiguous().cpu().numpy()} for b in batches])

        def get_next(self) -> dict[str, Any] | None:  # type: ignore[override]
            return next(self._left, None)

    with tempfile.TemporaryDirectory() as folder, quiet():
        made, prepared = Path(folder) / "int8.onnx", Path(folder) / "prepared.onnx"
        try:
            onnx.save(onnx.shape_inference.infer_shapes(model), prepared)
            q.quantize_static(
                prepared, made, Reader(),
                quant_format=q.QuantFormat.QDQ, activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
                per_channel=True, reduce_range=not _has_vnni(),
            )  # fmt: skip
            return onnx.load(made)
        except Exception as e:
            raise UserError(f"this network cannot be quantised ({shortened(str(e))})") from None


def _named(model: onnx.ModelProto) -> None:
    """Its input and output under their names, whatever the exporter called them."""
    for values, name in ((model.graph.input, INPUT), (model.graph.output, OUTPUT)):
        old = values[0].name
        for node in model.graph.node:
            for names in (node.input, node.output):
                for i, used in enumerate(names):
                    if used == old:
                        names[i] = name
        values[0].name = name


def _has_vnni() -> bool:
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
