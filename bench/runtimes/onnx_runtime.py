"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

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


class OnnxRuntime(Runtime):
    """All graph optimisations, operators one after the other."""

    name = "onnxruntime"
    quantises: ClassVar = True

    def lacks(self) -> str | None:
        return lacking("onnxruntime", *PACKAGES)

    def describe(self) -> dict[str, str]:
        return {name: version(name) for name in ("onnxruntime", "onnx", "onnxscript", "torch")}

    def prepare(
        self, network: nn.Module, example: Tensor, *, threads: int, calibration: Sequence[Tensor] = ()
    ) -> Session:
        model, _ = onnx_of(network, example)
        if calibration:
            model = quantised(model, calibration)
        return OnnxSession(model, threads=threads)

    def layer(self, segment: Segment, inputs: int, outputs: int, *, threads: int) -> Callable[[], object] | None:
        made = layer_model(segment, inputs, outputs)
        if made is None:
            return None
        session = OnnxSession(made[0], threads=threads)
        feeds = {name: np.ones(shape, np.float32) for name, shape in made[1].items()}
        return lambda: session.call(feeds)


class OnnxSession(Session):
    """An ONNX model in ONNX Runtime.

    Raises:
        UserError: ONNX Runtime does not take it.
    """

    def __init__(self, model: onnx.ModelProto, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as e:
            raise UserError(f"ONNX Runtime does not take this network ({shortened(str(e))})") from None
        self._input, self._output = model.graph.input[0].name, [model.graph.output[0].name]

    def run(self, batch: Tensor) -> Tensor:
        return torch.from_numpy(self.call({self._input: batch.numpy()}))

    def call(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        """The output for these inputs by name."""
        return self._session.run(self._output, feeds)[0]
