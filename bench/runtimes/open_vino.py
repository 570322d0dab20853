"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from greenprune.bench.errors import UserError
from greenprune.bench.export.onnx_layer import layer_model
from greenprune.bench.export.onnx_model import PACKAGES, onnx_of, quantised
from greenprune.bench.export.packages import lacking, version
from greenprune.bench.foreign import shortened
from greenprune.bench.runtimes.runtime import Runtime, Session
from greenprune.methods.cost.segments import Segment
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx


class OpenVino(Runtime):
    """One stream, tuned for latency, in float32 (its default may be bfloat16); compiled for each shape of the batch."""

    name = "openvino"
    quantises: ClassVar = True

    def lacks(self) -> str | None:
        return lacking("openvino", *PACKAGES)

    def describe(self) -> dict[str, str]:
        return {name: version(name) for name in ("openvino", "onnx", "onnxscript", "torch")}

    def prepare(
        self, network: nn.Module, example: Tensor, *, threads: int, calibration: Sequence[Tensor] = ()
    ) -> Session:
        if calibration and (wrong := lacking("onnxruntime")):
            raise UserError(f"int8: {wrong}")
        model, _ = onnx_of(network, example)
        if calibration:
            model = quantised(model, calibration)
        return OpenVinoSession(model, threads=threads)

    def layer(self, segment: Segment, inputs: int, outputs: int, *, threads: int) -> Callable[[], object] | None:
        made = layer_model(segment, inputs, outputs)
        if made is None:
            return None
        request = OpenVinoSession(made[0], threads=threads).request()
        feeds = {name: np.ones(shape, np.float32) for name, shape in made[1].items()}
        return lambda: request.infer(feeds)


class OpenVinoSession(Session):
    """An ONNX model in OpenVINO. Raises UserError where it does not take it."""

    def __init__(self, model: onnx.ModelProto, *, threads: int) -> None:
        import openvino

        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._core, self._bytes = openvino.Core(), model.SerializeToString()
        self._requests: dict[tuple[int, ...], Any] = {}
        try:
            self._core.read_model(self._bytes)
        except Exception as e:
            raise UserError(f"OpenVINO does not take this network ({shortened(str(e))})") from None

    def run(self, batch: Tensor) -> Tensor:
        shape = tuple(batch.shape)
        if shape not in self._requests:
            self._requests[shape] = self.request(shape)
        return torch.from_numpy(self._requests[shape].infer([batch.numpy()])[0].copy())

    def request(self, shape: tuple[int, ...] | None = None) -> Any:
        """What infers, compiled for inputs of `shape`; None: as the model says."""
        model = self._core.read_model(self._bytes)
        if shape is not None:
            model.reshape(list(shape))
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()
