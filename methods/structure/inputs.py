"""What a network is called with: any positional and keyword arguments, of which some are tensors with a batch in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

ExampleInputs: TypeAlias = "Tensor | tuple[Any, ...] | Mapping[str, Any] | Inputs"
"""A tensor; a tuple of positional arguments; a dict of keyword arguments; or `Inputs`, which may hold both."""


@dataclass(frozen=True)
class Inputs:
    """Arguments of one call of a network. They may nest tensors in lists, tuples and dicts, next to plain values.

    Attributes:
        args, kwargs: positional and keyword arguments.
        batch_dim: which dimension of a tensor counts the examples. A tensor whose size there is not the batch size is taken
            to be the same for every example (a table, a mask, a temperature).
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    batch_dim: int = 0

    @classmethod
    def of(cls, example_inputs: ExampleInputs) -> Inputs:
        """`example_inputs` in whatever form they were given.

        Raises:
            ValueError: they have another form, or hold no tensor with a batch in it.
        """
        if isinstance(example_inputs, Inputs):
            inputs = example_inputs
        elif isinstance(example_inputs, Tensor):
            inputs = cls((example_inputs,))
        elif isinstance(example_inputs, tuple):
            inputs = cls(example_inputs)
        elif isinstance(example_inputs, Mapping):
            inputs = cls((), dict(example_inputs))
        else:
            raise ValueError(
                f"example_inputs is a {type(example_inputs).__name__}: expected a tensor, a tuple of positional arguments, "
                "a dict of keyword arguments, or Inputs(args, kwargs) (an argument that is itself a list: put it in a tuple)"
            )
        if not inputs._sizes():
            raise ValueError("example_inputs: expected at least one tensor with a batch dimension, (B, ...)")
        if inputs.batch_size == 0:
            raise ValueError("example_inputs: expected at least one example, the batch is empty")
        return inputs

    @property
    def tensors(self) -> list[Tensor]:
        return [leaf for leaf in tree_leaves((self.args, dict(self.kwargs))) if isinstance(leaf, Tensor)]

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    @property
    def batch_size(self) -> int:
        """How many examples: the size that most tensors have in `batch_dim`; of several such sizes that of the tensor with
        the most dimensions, or of the first. 1 without tensors."""
        sizes = self._sizes()
        times = Counter(size for size, _ in sizes)
        return max(sizes, key=lambda item: (times[item[0]], item[1]))[0] if sizes else 1

    @property
    def key(self) -> tuple[Any, ...]:
        """What the shapes inside of the network follow from, but for the batch size: shapes and plain values."""
        batch = self.batch_size

        def of(leaf: Any) -> Any:
            if isinstance(leaf, Tensor):
                shape = list(leaf.shape)
                return tuple(
                    shape[: self.batch_dim] + shape[self.batch_dim + 1 :] if self._counts(leaf, batch) else shape
                )
            return leaf if isinstance(leaf, (bool, int, float, str)) or leaf is None else type(leaf).__name__

        return tuple(of(leaf) for leaf in tree_leaves((self.args, dict(self.kwargs))))

    def call(self, model: Callable[..., Any]) -> Any:
        """`model(*args, **kwargs)`."""
        return model(*self.args, **self.kwargs)

    def like(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
        """Other arguments, with the batch in the same dimension."""
        return Inputs(args, kwargs, self.batch_dim)

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same arguments with every tensor changed."""
        args, kwargs = tree_map(
            lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, (self.args, dict(self.kwargs))
        )
        return replace(self, args=args, kwargs=kwargs)

    def to(self, dtype: torch.dtype) -> Inputs:
        """Detached, floating-point tensors in `dtype`; integers (token ids), booleans and complex numbers as they are."""
        return self.map(lambda t: t.detach().to(dtype) if t.is_floating_point() else t.detach())

    def first(self, examples: int) -> Inputs:
        """The first so many examples."""
        batch = self.batch_size
        if batch <= examples:
            return self
        return self.map(lambda t: t.narrow(self.batch_dim, 0, examples) if self._counts(t, batch) else t)

    def twice(self) -> Inputs:
        """Every example twice: a batch of double size."""
        batch = self.batch_size
        return self.map(lambda t: torch.cat([t, t], self.batch_dim) if self._counts(t, batch) else t)

    def few(self, model: nn.Module, examples: int = 2) -> Inputs:
        """`first(examples)`, if `model` runs on them; otherwise all. Call in eval mode."""
        less = self.first(examples)
        if less is self:
            return self
        try:
            with torch.no_grad():
                less.call(model)
        except Exception:  # something else in the arguments has the size of the batch, or names it
            return self
        return less

    def describe(self) -> str:
        """The shapes, for a message."""
        tensors = self.tensors
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
        return f"shape {shapes}" if len(tensors) == 1 else f"shapes {shapes}"

    def _counts(self, tensor: Tensor, batch: int) -> bool:
        return tensor.ndim > self.batch_dim and tensor.shape[self.batch_dim] == batch

    def _sizes(self) -> list[tuple[int, int]]:
        """Of every tensor that has a `batch_dim` its size there, and its dimensions."""
        return [(t.shape[self.batch_dim], t.ndim) for t in self.tensors if t.ndim > self.batch_dim]


def first_argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The tensor that a layer was called with, by position or by name."""
    found = args[0] if args else next(iter(kwargs.values()), None)
    return found if isinstance(found, Tensor) else None


def with_first_argument(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], x: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with another first one."""
    if args:
        return (x, *args[1:]), dict(kwargs)
    name = next(iter(kwargs))
    return args, {**kwargs, name: x}
