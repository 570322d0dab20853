"""A network cut into pieces that can be run alone, at any width: a layer and what follows it up to the next layer.

The norm, the activation, the addition to a residual stream after a convolution belong to it, because in a real network
they find its output in the cache.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from greenprune.methods.structure.macs import COUNTED
from greenprune.methods.structure.remnant import is_thin, thin_convolution
from greenprune.methods.structure.units import BATCH_NORMS, is_depthwise
from torch import Tensor, nn

Take = Callable[[tuple[int, ...]], Tensor]
"""Makes a tensor of a shape, filled with anything, without taking time for it."""


ADDITIONS = {"add", "iadd", "add_"}
"""Names of functions and methods that end a residual branch."""


class Nothing(nn.Module):
    """In the place of a layer that is gone: gives what it is given.

    Args:
        width: in channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x

    def extra_repr(self) -> str:
        return str(self.width)


@dataclass(frozen=True)
class Segment:
    """One call of a layer, and the operations after it.

    Attributes:
        name: of the layer.
        layer: convolution (also one of `remnant.thin_convolution`), linear layer, a batch norm that follows none, or
            `Nothing`.
        inputs: shape of its input, with the batch.
        nodes: the operations after it, in order; nodes of the traced network.
        shapes: of tensors, and values of anything else, that these operations take from elsewhere.
        modules: of the network, by name.
    """

    name: str
    layer: nn.Module
    inputs: tuple[int, ...]
    nodes: tuple[torch.fx.Node, ...] = ()
    shapes: dict[torch.fx.Node, Any] | None = None
    modules: dict[str, nn.Module] | None = None

    @property
    def widths(self) -> tuple[int, int]:
        """Dense input and output channels."""
        return layer_widths(self.layer)

    @property
    def key(self) -> str:
        """Equal for segments that take the same time at the same widths."""
        described = f"{self.layer.centre} + {self.layer.own}" if is_thin(self.layer) else repr(self.layer)
        layer = described.replace(", bias=False", "")
        after = [_described(node, self.shapes or {}, self.modules or {}) for node in self.nodes]
        return " > ".join([f"{layer} on {'x'.join(map(str, self.inputs[1:]))}", *after])

    def workload(self, inputs: int, outputs: int, take: Take) -> Callable[[], Any]:
        """What runs the segment once with so many input and output channels (for one side only, the other is ignored)."""
        layer = narrowed(self.layer, inputs, outputs, take)
        channel_dim = len(self.inputs) - 1 if isinstance(layer, nn.Linear) else 1
        shape = list(self.inputs)
        shape[channel_dim] = layer_widths(layer)[0] if isinstance(layer, COUNTED) else outputs
        x = take(tuple(shape))
        stride = _pointwise_stride(layer)
        if stride > 1:
            # Strided 1x1 convolutions of few channels corrupt the heap on some CPUs; the same map without the stride.
            layer.stride = (1, 1)  # type: ignore[assignment]
        steps = [self._step(node, outputs, take) for node in self.nodes]

        def run() -> Any:
            env: dict[torch.fx.Node, Any] = {}
            value = layer(x[:, :, ::stride, ::stride] if stride > 1 else x)
            for step in steps:
                value = step(value, env)
            return value

        return run

    def _step(self, node: torch.fx.Node, width: int, take: Take) -> Callable[[Any, dict[torch.fx.Node, Any]], Any]:
        inside = set(self.nodes)
        shapes, modules = self.shapes or {}, self.modules or {}
        outside: dict[torch.fx.Node, Any] = {}
        for other in node.all_input_nodes:
            found = shapes.get(other)
            if other not in inside and other.target != self.name and isinstance(found, torch.Size):
                narrow = len(found) > 1 and found[1] == self.widths[1]
                outside[other] = take((found[0], width, *found[2:]) if narrow else tuple(found))
            elif other not in inside and other.target != self.name:
                outside[other] = found
        module = None
        if node.op == "call_module":
            module = modules[str(node.target)]
            if isinstance(module, BATCH_NORMS):
                module = narrowed(module, width, width, take)

        def step(root: Any, env: dict[torch.fx.Node, Any]) -> Any:
            def value(n: torch.fx.Node) -> Any:
                return env[n] if n in env else outside[n] if n in outside else env.setdefault(n, root)

            args = torch.fx.node.map_arg(node.args, value)
            kwargs = torch.fx.node.map_arg(node.kwargs, value)
            if module is not None:
                result = module(*args, **kwargs)
            elif node.op == "call_method":
                result = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            else:
                result = node.target(*args, **kwargs)  # type: ignore[operator]
            env[node] = result
            return root

        return step


def layer_widths(layer: nn.Module) -> tuple[int, int]:
    """Input and output channels of a convolution, linear layer or norm."""
    if is_thin(layer):
        return layer_widths(layer.centre)  # type: ignore[arg-type]
    if isinstance(layer, Nothing):
        return layer.width, layer.width
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, BATCH_NORMS):
        return layer.num_features, layer.num_features
    return layer.in_channels, layer.out_channels  # type: ignore[return-value]


def narrowed(layer: nn.Module, inputs: int, outputs: int, take: Take) -> nn.Module:
    """A layer like `layer` with other widths, in eval mode; its weights are whatever `take` gives."""
    if isinstance(layer, Nothing):
        return Nothing(outputs)
    if is_thin(layer):
        centre, own = (narrowed(part, inputs, outputs, take) for part in (layer.centre, layer.own))  # type: ignore[arg-type]
        return thin_convolution(centre, own).eval()  # type: ignore[arg-type]
    device = next(layer.parameters()).device if any(True for _ in layer.parameters()) else None
    if isinstance(layer, BATCH_NORMS):
        return type(layer)(outputs, eps=layer.eps, affine=layer.affine, device=device).eval()
    if isinstance(layer, nn.Linear):
        new: nn.Module = nn.Linear(inputs, outputs, bias=layer.bias is not None, device="meta")
    else:
        groups = outputs if is_depthwise(layer) else layer.groups
        new = type(layer)(
            outputs if is_depthwise(layer) else inputs, outputs, layer.kernel_size, stride=layer.stride,
            padding=layer.padding, dilation=layer.dilation, groups=groups, bias=layer.bias is not None,
            padding_mode=layer.padding_mode, device="meta",
        )  # type: ignore[operator, arg-type] # fmt: skip
    for name, parameter in list(new.named_parameters()):
        setattr(new, name, nn.Parameter(take(tuple(parameter.shape)), requires_grad=False))
    return new.eval()


def _pointwise_stride(layer: nn.Module) -> int:
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.padding == (0, 0):
        return layer.stride[0] if layer.stride[0] == layer.stride[1] else 1
    return 1


def find_segments(model: nn.Module, inputs: Tensor) -> list[Segment]:
    """The segments of `model` in the order of execution; without the operations where torch.fx cannot trace it.

    Args:
        model: in eval mode.
        inputs: (B, ...) one batch as it will be measured.
    """
    modules = dict(model.named_modules())
    try:
        traced = torch.fx.symbolic_trace(model)
    except Exception:  # tracing runs the user's own forward: anything may come out
        return _called_layers(model, inputs)
    recorder = _Recorder(traced)
    with torch.no_grad():
        recorder.run(inputs)
    shapes = recorder.shapes
    position = {node: i for i, node in enumerate(traced.graph.nodes)}
    owner: dict[torch.fx.Node, torch.fx.Node] = {}
    after: dict[torch.fx.Node, list[torch.fx.Node]] = {}
    for node in traced.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        owners = [n for n in node.all_input_nodes if n in owner]
        # An addition belongs to the operand whose layer comes last: to the residual branch, not to its shortcut.
        root = max((owner[n] for n in owners), key=position.__getitem__, default=None)
        if isinstance(module, BATCH_NORMS) and (
            root is None or layer_widths(modules[str(root.target)])[1] != module.num_features
        ):
            root = None  # of its own: after a concatenation, or at the beginning
        if isinstance(module, COUNTED) or (root is None and isinstance(module, BATCH_NORMS)):
            owner[node], after[node] = node, []
        elif root is not None and node.op in ("call_module", "call_function", "call_method"):
            owner[node] = root
            after[root].append(node)
    for nodes in after.values():
        while nodes and nodes[-1].target is operator.getitem:  # a view, free of charge
            nodes.pop()
    return [
        Segment(
            str(root.target), modules[str(root.target)], tuple(shapes[root.all_input_nodes[0]]),
            tuple(nodes), shapes, modules,
        )
        for root, nodes in after.items()
    ]  # fmt: skip


class _Recorder(torch.fx.Interpreter):
    """Runs a traced network and notes the shape of every tensor, and every value that is none."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[torch.fx.Node, Any] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        self.shapes[n] = result.shape if isinstance(result, Tensor) else result
        return result


def _called_layers(model: nn.Module, inputs: Tensor) -> list[Segment]:
    """Every call of a layer, alone."""
    found: list[Segment] = []
    handles = [
        module.register_forward_pre_hook(
            lambda m, args, name=name: found.append(Segment(name, m, tuple(args[0].shape)))  # type: ignore[misc]
        )
        for name, module in model.named_modules()
        if isinstance(module, (*COUNTED, *BATCH_NORMS))
    ]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _described(node: torch.fx.Node, shapes: dict[torch.fx.Node, Any], modules: dict[str, nn.Module]) -> str:
    """The operation in words, without the names of what it works on."""
    what = (
        repr(modules[str(node.target)]) if node.op == "call_module" else getattr(node.target, "__name__", node.target)
    )

    def told(n: torch.fx.Node) -> Any:
        return "x".join(map(str, shapes[n][1:])) if isinstance(shapes.get(n), torch.Size) else "value"

    return f"{what}{torch.fx.node.map_arg(node.args, told)}{torch.fx.node.map_arg(node.kwargs, told) or ''}"
