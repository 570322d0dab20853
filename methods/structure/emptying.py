"""Taking a residual branch out of the modules: what it calls is replaced by modules that compute nothing.

For code that torch.fx cannot trace, or a branch that begins before the module that adds it (post-norm transformers). The
code stays as it is, and adds a zero of one entry, which is broadcast: what is left of the branch is a pass over the stream
without multiplications. The replacements are plain modules with generated code, which need nothing of this package.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from greenprune.methods.structure.passes import Call, Other, Seen
from greenprune.methods.structure.rewriting import make_class
from greenprune.methods.structure.units import Silence, channel_counts, channel_dim, is_attention, is_writer
from torch import nn


class Unknown(Exception):  # noqa: N818 - it is an answer, not an error
    """A module gives something that no replacement can be made for."""


def silences(calls: list[Call], *, whole: str | None = None, shaped: bool = False) -> tuple[Silence, ...]:
    """What replaces the modules that were called so.

    Args:
        shaped: zeros have the shape of the input wherever the output had it: the code around them reshapes them.
        whole: the one whose zeros have the shape of its input, because something is added to them in place; None: none.

    Raises:
        Unknown: why one of them cannot be replaced.
    """
    shaped = shaped or any(_cache(call) for call in calls)  # what is kept for each token has to know how many there are
    return tuple(_silence(call, whole=call.name == whole, shaped=shaped) for call in calls)


def _silence(call: Call, *, whole: bool, shaped: bool) -> Silence:
    source = _source(call)
    if source is None:
        raise Unknown(f"{call.name} in it is called without a tensor of numbers")
    argument, seen = source
    if whole and not (isinstance(call.output, Seen) and call.output.shape == seen.shape):
        raise Unknown(
            f"something is added in place to what {call.name} gives, which has another shape than what it takes"
        )
    template = "input" if whole else _template(call, seen.shape if shaped else None)
    return Silence(call.name, argument, template, _cache(call) if len(seen.shape) == 3 else "")


def _cache(call: Call) -> str:
    """The keyword by which a call was given a cache of keys and values, or ""."""
    if not hasattr(call.module, "layer_idx"):
        return ""
    return next((k for k, v in call.kwargs.items() if isinstance(v, Other) and v.kind.endswith("Cache")), "")


def _source(call: Call) -> tuple[str, Seen] | None:
    """The first tensor of numbers that a call was given: the name it was given by ("" for the first argument)."""
    if call.args:
        first = call.args[0]
        return ("", first) if isinstance(first, Seen) and first.floating else None
    return next(((k, v) for k, v in call.kwargs.items() if isinstance(v, Seen) and v.floating), None)


def _template(call: Call, of_input: tuple[int, ...] | None) -> Any:
    """The output of a call: for each tensor its number of dimensions, or "input" if it has the shape `of_input`."""

    def told(value: Any) -> Any:
        if isinstance(value, Seen):
            if not value.floating:
                raise Unknown(f"{call.name} in it gives a tensor that holds no numbers of floating point")
            return "input" if value.shape == of_input else len(value.shape)
        if isinstance(value, (tuple, list)):
            return tuple(told(v) for v in value)
        if isinstance(value, Other):
            raise Unknown(f"{call.name} in it gives a {value.kind}")
        if value is None:
            return None
        raise Unknown(f"{call.name} in it gives a {type(value).__name__}")

    return told(call.output)


IN_CACHE = """
def forward(self, *args, **kwargs):
    cache = kwargs.get(self.cache)
    if hasattr(cache, "update"):
        x = args[0] if args else kwargs[self.argument]
        none = x.new_zeros((x.shape[0], 1, x.shape[1], 1))
        cache.update(none, none, self.layer_idx)
    return self.nothing(*args, **kwargs)
"""
"""transformers reads off the first layer's keys how many tokens there were: one head of no width is kept for each token."""


def silent(module: nn.Module, silence: Silence) -> nn.Module:
    """What replaces `module`: it gives zeros of one entry each, takes what `module` takes and has its plain attributes."""
    nothing = _nothing(module, silence)
    if not silence.cache:
        return nothing
    kind = make_class(nn.Module, {"forward": IN_CACHE})
    replacement = kind()
    replacement.nothing, replacement.layer_idx = nothing, module.layer_idx
    replacement.cache, replacement.argument = silence.cache, silence.argument
    return replacement.train(module.training)


def _nothing(module: nn.Module, silence: Silence) -> torch.fx.GraphModule:
    graph = torch.fx.Graph()
    source = graph.placeholder(silence.argument or "x")
    if not silence.argument:
        graph.placeholder("*args")
    graph.placeholder("**kwargs")

    def zeros(template: Any) -> Any:
        if template is None:
            return None
        if isinstance(template, tuple):
            return tuple(zeros(t) for t in template)
        if template == "input":
            return _like(graph, source, module)
        return graph.call_method("new_zeros", (source, (1,) * template))

    graph.output(zeros(silence.output))
    replacement = torch.fx.GraphModule({}, graph, class_name=f"No{type(module).__name__}")
    for name, value in vars(module).items():  # the code around it may read them
        if not name.startswith("_") and isinstance(value, (bool, int, float, str, type(None))):
            setattr(replacement, name, value)
    for name in module._parameters:
        setattr(replacement, name, None)
    return replacement.train(module.training)


def _like(graph: torch.fx.Graph, source: torch.fx.Node, module: nn.Module) -> torch.fx.Node:
    """Zeros of the shape of the input, but as many channels as `module` gives by now: the code around it counts on them."""
    if is_writer(module) and not is_attention(module):
        out, into = channel_counts(module)
        if out != into:
            one = graph.call_function(torch.narrow, (source, channel_dim(module), 0, 1))
            zeros = graph.call_function(torch.zeros_like, (one,))
            return graph.call_function(torch.repeat_interleave, (zeros, out, channel_dim(module)))
    return graph.call_function(torch.zeros_like, (source,))


def without_fast_path(model: nn.Module) -> None:
    """Let PyTorch's own transformer layers call their submodules in eval mode, too: their fast path reads the weights."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
