"""The counter of a training loop: as `macs.OperationCounter` counts, at hardly any cost.

Looking at every operation would make a small network's training step slower by percents. So convolutions, linear and
recurrent layers are counted where their modules are called, and of other modules it is learned once what they multiply
beside these: once for each shape of their inputs, each value of their plain arguments and, where that is more than
nothing, each shape of their parameters.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from greenprune.methods.structure.macs import COUNTED, Watch, layer_macs
from greenprune.methods.structure.modes import set_fast_path
from greenprune.methods.structure.operations import is_uncounted, macs_of, operation
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils.rnn import PackedSequence

_MULTIPLYING = (nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder,
                nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.Bilinear, nn.RNNCellBase)  # fmt: skip
"""PyTorch's own modules that multiply in functions of their own."""

MAX_VALUES = 64
"""Of plain arguments, that a module is looked at with before it is settled whether what it multiplies depends on them."""

_PLAIN = (bool, int, float, str, type(None))

_kinds: dict[type, str] = {}
_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def _kind(module: nn.Module) -> str:
    """ "layer", "recurrent", "plain" (never multiplies by itself), "said" (says it itself) or "own" (to be looked into)."""
    cls = type(module)
    found = _kinds.get(cls)
    if found is None:
        own = cls.__module__.startswith("torch.nn.")
        if hasattr(cls, "executed_macs"):
            found = "said"
        elif own and issubclass(cls, COUNTED):
            found = "layer"
        elif own and issubclass(cls, nn.RNNBase):
            found = "recurrent"
        elif cls.__module__.startswith("torch.nn.modules.") and not issubclass(cls, _MULTIPLYING):
            found = "plain"
        else:
            found = "own"
        _kinds[cls] = found
    return found


class _Key(NamedTuple):
    """What a module was called with.

    Attributes:
        shapes: of the tensors among its arguments.
        training: its mode.
        values: its arguments by position, then by name, of which only plain ones tell their value.
        widths: the shapes of its parameters; None: it multiplies nothing by itself.
        around: where no tensor was given by position, what the module around it was called with.
    """

    shapes: tuple[torch.Size, ...]
    training: bool
    values: tuple[Any, ...]
    widths: tuple[torch.Size, ...] | None = None
    around: _Key | None = None

    def without_values(self) -> _Key:
        return self._replace(values=(), around=self.around and self.around.without_values())


@dataclass
class _Known:
    """What a module multiplies by itself, layers and modules inside it apart.

    Attributes:
        macs: by what it was called with, and by what its layers executed meanwhile.
        inside: for each of the first, the most that its layers executed.
        varies: with what it is not the same every time, so that it is looked at whenever it is called so.
        multiplies: whether it multiplies anything.
        by_value: whether it may be another number for other plain arguments.
        always: there are many of these, and it is another number: it is looked at whenever it is called.
    """

    macs: dict[_Key, dict[int, int]] = field(default_factory=dict)
    inside: dict[_Key, int] = field(default_factory=dict)
    varies: set[_Key] = field(default_factory=set)
    multiplies: bool = False
    by_value: bool = True
    always: bool = False

    def note(self, key: _Key, inside: int, own: int) -> None:
        self.macs.setdefault(key, {})[inside] = own
        self.inside[key] = max(inside, self.inside.get(key, 0))

    def limit_values(self) -> None:
        """Where many values of plain arguments were seen: whether they matter, as far as one can tell from these."""
        alike = defaultdict(list)
        for key, found in self.macs.items():
            alike[key.without_values()].append(found)
        if not self.by_value or len(self.macs) - len(alike) <= MAX_VALUES:
            return
        self.by_value = False
        self.always = any(len({own for found in many for own in found.values()}) > 1 for many in alike.values())
        self.varies = {key.without_values() for key in self.varies}
        self.macs, self.inside = {}, {}
        for key, many in alike.items():
            for inside, own in ((i, o) for found in many for i, o in found.items()):
                self.note(key, inside, own)


@dataclass
class _Call:
    module: nn.Module
    key: _Key | None  # None: nothing is known of its inputs
    before: int  # what layers had executed when it began
    watched: bool = False
    watch: Watch | None = None  # that was opened for it
    own: int = 0


class MacMeter:
    """Counts the multiply-accumulates that modules execute in this process while it is open, backward passes apart.

    A skipped layer costs nothing, a masked one costs what it executes, and a gate head counts like any other layer. A
    module whose class has an attribute `executed_macs` says itself what its own operations cost in its last call.

        with MacMeter() as meter:
            network(images)
        meter.total

    Args:
        exact: look at every operation, whatever is known; for networks that decide by their inputs.

    Attributes:
        uncounted: (operation, type of the module) that may multiply and cannot be counted.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self.total = 0
        self.uncounted: dict[tuple[str, str], None] = {}
        self._exact = exact
        self._calls: list[_Call | None] = []  # None: of a module whose operations are not looked at
        self._watching = False
        self._by_layers = 0  # of `total` what layers executed

    def __enter__(self) -> MacMeter:
        self._handles = [
            register_module_forward_pre_hook(self._begin),
            register_module_forward_hook(self._end, with_kwargs=True, always_call=True),
        ]
        self._fast = set_fast_path(False)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        set_fast_path(self._fast)
        for handle in self._handles:
            handle.remove()
            # PyTorch (2.14) forgets this entry of a hook that is always called, and takes it for a hook that still stands.
            getattr(torch_module, "_global_forward_hooks_with_kwargs", {}).pop(handle.id, None)

    def _begin(self, module: nn.Module, inputs: tuple) -> None:
        kind = _kinds.get(type(module)) or _kind(module)
        if kind == "plain":
            return
        if kind != "own":
            if self._watching:
                self._calls.append(None)
            return
        known = _known.get(module)
        if known is None:
            known = _known[module] = _Known()
        key = self._key(module, inputs, _keywords(sys._getframe(1)), known)
        call = _Call(module, key, self._by_layers, self._watching)
        new = self._exact or known.always or key not in known.macs or key in known.varies
        if not self._watching and new and _may_look(module):
            call.watch, call.watched, self._watching = Watch(self._note), True, True
            call.watch.__enter__()
        self._calls.append(call)

    def _key(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any], known: _Known) -> _Key | None:
        shapes = tuple(x.shape for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
        values: tuple[Any, ...] = ()
        if known.by_value:
            named = tuple((name, x if isinstance(x, _PLAIN) else ...) for name, x in kwargs.items())
            values = (*(x if isinstance(x, _PLAIN) else ... for x in args), *named)
        key = _Key(shapes, module.training, values, _widths(module) if known.multiplies else None)
        if any(isinstance(x, Tensor) for x in args):
            return key
        # What is in lists and other objects is not seen here: what is around it says how large that is.
        around = next((c for c in reversed(self._calls) if c is not None), None)
        if around is None or around.key is None:
            return None
        return key._replace(around=around.key if known.by_value else around.key.without_values())

    def _end(self, module: nn.Module, args: tuple, *rest: Any) -> None:
        kind = _kinds.get(type(module)) or _kind(module)
        if kind == "plain":
            return
        if kind == "own":
            while self._calls:  # what failed inside it ends with it
                call = self._calls.pop()
                if call is not None and call.watch is not None:
                    call.watch.__exit__(None, None, None)
                    self._watching = False
                if call is not None and call.module is module:
                    self._settle(call)
                    return
            return
        if self._calls and self._calls[-1] is None:
            self._calls.pop()
        if kind == "said":
            self.total += module.executed_macs  # type: ignore[arg-type, operator]
            return
        macs = 0
        kwargs, output = rest if len(rest) == 2 else ({}, rest[0])  # PyTorch leaves them out where forward failed
        given = args[0] if args else next(iter(kwargs.values()), None)
        if kind == "recurrent":
            macs = recurrent_macs(module, given) if isinstance(given, (Tensor, PackedSequence)) else 0
        elif isinstance(output, Tensor) and isinstance(given, Tensor):
            macs = layer_macs(module, given, output)
        self.total += macs
        self._by_layers += macs

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        call = self._calls[-1] if self._calls else None
        if call is None:
            return
        macs = macs_of(func, args, kwargs, out)
        if macs is not None:
            call.own += macs
        elif is_uncounted(func):
            self.uncounted[operation(func), type(call.module).__name__] = None

    def _settle(self, call: _Call) -> None:
        known, inside = _known[call.module], self._by_layers - call.before
        if call.watched:
            self.total += call.own
            if call.key is None:
                return
            key = call.key
            if call.own and not known.multiplies:
                known.multiplies = True
                key = key._replace(widths=_widths(call.module))
            new = key not in known.macs
            known.note(key, inside, call.own)
            if new and len(known.macs) > MAX_VALUES:
                known.limit_values()
        elif call.key in known.macs:
            found = known.macs[call.key]
            self.total += found.get(inside, max(found.values()))
            if inside in found:
                return
            # Not what was executed when it was looked at: something inside was skipped, then or now.
            if any(found.values()):
                known.varies.add(call.key)
            elif inside > known.inside[call.key]:
                del known.macs[call.key]


def _may_look(module: nn.Module) -> bool:
    """Compiled code does not run operation by operation."""
    return not (hasattr(module, "_orig_mod") or torch.compiler.is_compiling())


def _widths(module: nn.Module) -> tuple[torch.Size, ...]:
    return tuple(p.shape for p in module.parameters())


def _keywords(caller: FrameType) -> Mapping[str, Any]:
    """The keyword arguments of the call that `caller` makes. PyTorch (2.14) keeps them from hooks on all modules."""
    found = caller.f_locals.get("kwargs")
    return found if isinstance(found, Mapping) else {}


def recurrent_macs(layer: nn.Module, inputs: Tensor | PackedSequence) -> int:
    """Multiply-accumulates of one call of an RNN, LSTM or GRU: each step meets every matrix once."""
    data = inputs.data if isinstance(inputs, PackedSequence) else inputs
    return data.numel() // data.shape[-1] * sum(p.numel() for p in layer.parameters() if p.ndim == 2)
