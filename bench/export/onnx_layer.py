"""One layer and what runtimes fuse into it, as an ONNX model: for the measurement of layers at many widths.

Written directly, in a millisecond: exporting a module takes a second. Weights are anything; their values take no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from greenprune.methods.cost.segments import ADDITIONS, Nothing, Segment, layer_widths, narrowed
from greenprune.methods.structure.macs import COUNTED
from greenprune.methods.structure.remnant import is_thin
from greenprune.methods.structure.units import BATCH_NORMS
from torch import nn

if TYPE_CHECKING:
    import onnx

OPSET = 18


def layer_model(
    segment: Segment, inputs: int, outputs: int
) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]] | None:
    """The segment at these widths, and the shape of each of its inputs by name; None for a layer of another kind.

    A norm behind a convolution is folded into it, as runtimes do; of what follows, activations by ReLU and additions are
    there. The rest is left to the correction by whole networks.
    """
    from onnx import TensorProto, helper, numpy_helper

    layer = narrowed(segment.layer, inputs, outputs, lambda shape: torch.full(shape, 0.01))
    shape = list(segment.inputs)
    channel = len(shape) - 1 if isinstance(layer, nn.Linear) else 1
    shape[channel] = layer_widths(layer)[0] if isinstance(layer, COUNTED) else outputs
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    for part in (layer.centre, layer.own) if is_thin(layer) else (layer,):
        made = _operation(part)  # type: ignore[arg-type]
        if made is None:
            return None
        kind, attributes, weights = made
        own = [numpy_helper.from_array(value, f"w{len(constants) + i}") for i, value in enumerate(weights)]
        constants += own
        nodes.append(helper.make_node(kind, ["x", *(c.name for c in own)], [f"y{len(nodes)}"], **attributes))
    if len(nodes) > 1:
        nodes.append(helper.make_node("Add", [node.output[0] for node in nodes], ["y"]))
    feeds = {"x": tuple(shape)}
    out = _output_shape(layer, tuple(shape))
    if isinstance(layer, nn.Linear):
        constants.append(numpy_helper.from_array(np.full(out[-1], 0.01, np.float32), "b"))
        nodes.append(helper.make_node("Add", ["y0", "b"], ["y1"]))
    last = nodes[-1].output[0]
    for node in segment.nodes:
        name = getattr(node.target, "__name__", str(node.target)).lower()
        module = (segment.modules or {}).get(str(node.target)) if node.op == "call_module" else None
        following = f"z{len(nodes)}"
        if isinstance(module, nn.ReLU) or name in ("relu", "relu_"):
            nodes.append(helper.make_node("Relu", [last], [following]))
        elif name in ADDITIONS and len(node.all_input_nodes) > 1:
            feeds[f"r{len(feeds)}"] = out
            nodes.append(helper.make_node("Add", [last, list(feeds)[-1]], [following]))
        else:
            continue
        last = following
    graph = helper.make_graph(
        nodes, "layer",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in feeds.items()],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, out)], constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9), feeds


def _operation(layer: nn.Module) -> tuple[str, dict[str, Any], list[np.ndarray]] | None:
    if isinstance(layer, Nothing):
        return "Identity", {}, []
    if isinstance(layer, nn.Linear):
        return "MatMul", {}, [layer.weight.detach().T.contiguous().numpy()]
    if isinstance(layer, BATCH_NORMS):
        values = np.ones(int(layer.num_features), np.float32)
        return "BatchNormalization", {"epsilon": layer.eps}, [values] * 4
    if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return None
    attributes: dict[str, Any] = {
        "kernel_shape": list(layer.kernel_size), "strides": list(layer.stride), "dilations": list(layer.dilation),
        "group": layer.groups,
    }  # fmt: skip
    if isinstance(layer.padding, str):
        attributes["auto_pad"] = "VALID" if layer.padding == "valid" else "SAME_UPPER"
    else:
        attributes["pads"] = [*layer.padding, *layer.padding]
    bias = np.full(layer.out_channels, 0.01, np.float32)  # the norm's, where the layer has none
    return "Conv", attributes, [layer.weight.detach().numpy(), bias]


def _output_shape(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(layer, (*BATCH_NORMS, Nothing)):
        return shape
    with torch.no_grad():
        return tuple(layer.to("meta")(torch.empty(shape, device="meta")).shape)
