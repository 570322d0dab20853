"""Modules whose code was rewritten: the sizes given to `view` and the like replaced by numbers.

The source of a forward (and of the functions that it calls) is taken as it stands in the file; only the numbers change.
The class that comes out derives from the module's own and is stored with its source, so loading it needs the network's own
code and PyTorch, nothing else.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from greenprune.methods.structure.flow.sites import Call
from torch.fx.graph_module import _forward_from_src

METHODS = ("view", "reshape", "expand", "unflatten", "split", "split_with_sizes")
"""Calls that can be rewritten; as methods or as functions of torch."""


class CannotRewriteError(Exception):
    """Why the code of a module cannot be rewritten, in one phrase."""


@dataclass(frozen=True)
class NewSizes:
    """What a call is to be given: position among its sizes -> number, or (new, old) by which what is there is scaled."""

    call: Call | None
    rank: int
    sizes: Mapping[int, int | tuple[int, int]]


_REDUCE = """
from torch.fx.graph_module import _forward_from_src


class Source:
    def __init__(self, text):
        self.text = text

    def __reduce__(self):
        return _forward_from_src, (self.text, {})


class Class:
    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        kind = self.kind
        body = {name: Source(text) for name, text in kind._rewritten.items()}
        return type, (kind.__name__, kind.__bases__, body | {"__module__": kind.__module__, "_rewritten": kind._rewritten})


def forward(self):
    return object.__new__, (Class(type(self)),), self.__dict__
"""
"""How an instance is stored: its class as name, base and sources; and this is one of them."""


def original(kind: type) -> type:
    """The class of the network's own code, of a rewritten one or of any other."""
    return kind.__bases__[0] if "_rewritten" in kind.__dict__ else kind


def make_class(base: type, methods: Mapping[str, str]) -> type:
    """A class derived from `base` with methods from their sources, each of which defines `forward`.

    Its instances can be stored and copied: what is stored is the text.
    """
    return _make_class(base, tuple(methods.items()))


@lru_cache(maxsize=256)
def _make_class(base: type, sources: tuple[tuple[str, str], ...]) -> type:
    methods = {**dict(sources), "__reduce__": _REDUCE}
    functions = {name: _forward_from_src(text, {}) for name, text in methods.items()}
    return type(base.__name__, (base,), functions | {"__module__": base.__module__, "_rewritten": methods})


def rewrite(base: type, changes: Sequence[NewSizes]) -> type:
    """`base` with the sizes in its code changed.

    Raises:
        CannotRewriteError: a call is not in the source, or in a form that is not known.
    """
    functions: dict[CodeType, dict[tuple[int, int], NewSizes]] = {}
    parents: dict[CodeType, CodeType | None] = {}
    for change in changes:
        assert change.call is not None
        chain = change.call.chain
        for parent, code in zip((None, *chain), chain, strict=False):
            functions.setdefault(code, {})
            parents.setdefault(code, parent)
        functions[chain[-1]][change.call.end] = change
    methods: dict[str, str] = {}
    for code, parent in parents.items():
        name = _method_name(base, code)
        if name is not None:
            methods[name] = _text(base, code, name, functions, parents)
        elif parent is None:
            raise CannotRewriteError(f"the code of {base.__name__} was not found")
    return make_class(base, methods)


def _method_name(base: type, code: CodeType) -> str | None:
    found = inspect.getattr_static(base, code.co_name, None)
    function = inspect.unwrap(found) if callable(found) else None
    return code.co_name if getattr(function, "__code__", None) is code else None


def _text(
    base: type, code: CodeType, name: str, changes: Mapping[CodeType, Mapping[tuple[int, int], NewSizes]],
    parents: Mapping[CodeType, CodeType | None],
) -> str:  # fmt: skip
    """Source of a method, and of the functions of its file that it leads to, which defines `forward`."""
    method = inspect.unwrap(getattr(base, name))
    module = method.__module__
    parts = [_changed(method, changes[code])]
    todo = [code]
    while todo:
        above = todo.pop()
        for inner, parent in parents.items():
            if parent is not above or _method_name(base, inner) is not None:
                continue
            function = _function(method.__globals__, inner)
            if function is None or function.__module__ != module:
                raise CannotRewriteError(
                    f"{base.__name__} gives sizes in {inner.co_name}, which is not in its own file"
                )
            parts.append(_changed(function, changes[inner]))
            todo.append(inner)
    header = (
        f"from importlib import import_module\nglobals().update({{k: v for k, v in vars(import_module({module!r})).items() "
        "if not k.startswith('__')})\n"
    )
    last = "" if name == "forward" else f"\nforward = {name}\n"
    return header + "\n\n" + "\n\n\n".join(reversed(parts)) + "\n" + last


def _function(names: Mapping[str, Any], code: CodeType) -> FunctionType | None:
    found = names.get(code.co_name)
    found = inspect.unwrap(found) if callable(found) else None
    return found if isinstance(found, FunctionType) and found.__code__ is code else None


def _changed(function: FunctionType, changes: Mapping[tuple[int, int], NewSizes]) -> str:
    known = tuple((end, change.rank, tuple(sorted(change.sizes.items()))) for end, change in changes.items())
    return _changed_text(function, known)


@lru_cache(maxsize=1024)
def _changed_text(function: FunctionType, known: tuple[tuple[tuple[int, int], int, tuple], ...]) -> str:
    code = function.__code__
    changes = {end: NewSizes(None, rank, dict(sizes)) for end, rank, sizes in known}
    if code.co_freevars:
        raise CannotRewriteError(f"{function.__qualname__} refers to variables around it")
    try:
        lines, first = _lines(code)
    except (OSError, TypeError):
        raise CannotRewriteError(f"the source of {function.__qualname__} is not there") from None
    text = "".join(lines)
    plain = textwrap.dedent(text)
    indent = len(lines[0]) - len(plain.splitlines(keepends=True)[0])
    tree = ast.parse(plain)
    wanted = {(line - first + 1, column - indent): change for (line, column), change in changes.items()}
    visitor = _Rewriter(wanted)
    tree = ast.fix_missing_locations(visitor.visit(tree))
    if visitor.refused:
        raise CannotRewriteError(f"{function.__qualname__} gives sizes in a way that cannot be rewritten")
    definition = tree.body[0]
    if isinstance(definition, ast.FunctionDef):
        definition.returns = None
        for argument in ast.walk(definition.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
    return ast.unparse(tree)


@lru_cache(maxsize=256)
def _lines(code: CodeType) -> tuple[list[str], int]:
    return inspect.getsourcelines(code)


class _Rewriter(ast.NodeTransformer):
    def __init__(self, changes: Mapping[tuple[int, int], NewSizes]) -> None:
        self._changes = changes
        self.refused = False

    def visit_Call(self, node: ast.Call) -> ast.AST:
        change = self._changes.get((node.end_lineno or 0, node.end_col_offset or 0))
        self.generic_visit(node)
        function = node.func
        if change is not None and isinstance(function, ast.Attribute) and function.attr in METHODS:
            self.refused |= not _rewritten(node, function, change)
        return node


def _rewritten(node: ast.Call, function: ast.Attribute, change: NewSizes) -> bool:
    """Put the new sizes into a call; False: its form is not known."""
    is_split = function.attr.startswith("split")
    first = 1 if isinstance(function.value, ast.Name) and function.value.id == "torch" else 0
    first += function.attr == "unflatten"
    if len(node.args) <= first or (node.keywords and not is_split):
        return False
    if not is_split:
        sizes = _sizes(node.args[first:], change)
        node.args[first:] = sizes or node.args[first:]
        return bool(sizes)
    numbers = [v for _, v in sorted(change.sizes.items()) if isinstance(v, int)]
    if len(numbers) != change.rank:
        return False
    alike = len(set(numbers)) == 1 and not isinstance(node.args[first], (ast.Tuple, ast.List))
    node.args[first] = ast.Constant(numbers[0]) if alike else ast.Tuple([ast.Constant(v) for v in numbers], ast.Load())
    return True


def _sizes(given: list[ast.expr], change: NewSizes) -> list[ast.expr] | None:
    def put(old: ast.expr, new: int | tuple[int, int]) -> ast.expr:
        if isinstance(new, int):
            return ast.Constant(new)
        return ast.BinOp(ast.BinOp(old, ast.Mult(), ast.Constant(new[0])), ast.FloorDiv(), ast.Constant(new[1]))

    one = given[0] if len(given) == 1 else None
    listed = one.elts if isinstance(one, (ast.Tuple, ast.List)) else given
    if len(listed) == change.rank and not any(isinstance(e, ast.Starred) for e in listed):
        fresh = [put(e, change.sizes[i]) if i in change.sizes else e for i, e in enumerate(listed)]
        return [ast.Tuple(fresh, ast.Load())]
    whole = one if one is not None and not isinstance(one, ast.Starred) else ast.Tuple(listed, ast.Load())
    plain = {i: new for i, new in change.sizes.items() if isinstance(new, int)}
    if len(plain) < len(change.sizes):
        return None
    numbers = ast.Tuple([ast.Constant(plain.get(i)) for i in range(change.rank)], ast.Load())
    call = ast.parse("[s if n is None else n for s, n in zip(0, 0)]", mode="eval").body
    assert isinstance(call, ast.ListComp)
    pairs = call.generators[0].iter
    assert isinstance(pairs, ast.Call)
    pairs.args = [whole, numbers]
    return [call]
