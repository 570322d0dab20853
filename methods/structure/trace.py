"""What can be removed from a network, found by tracing it, never by the names of its classes.

*What is coupled* comes from following the channels through the operations of a forward pass (`coupling`), residual
branches from how these operations hang together (`branches`). Then everything found is tried out on a randomised copy
(`trial`): what does not leave the network computing the same as with the unit masked is not offered, but listed with the
reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from greenprune.methods.structure import fitting, outputs, shapes, trial
from greenprune.methods.structure.branches import find_branches
from greenprune.methods.structure.coupling import Coupled, Coupling, Products, find_couplings
from greenprune.methods.structure.inputs import ExampleInputs, Inputs, first_argument
from greenprune.methods.structure.macs import TRANSPOSED, OperationCounter
from greenprune.methods.structure.masking import layer_norm_dim
from greenprune.methods.structure.modes import as_in_training, as_they_were, evaluating
from greenprune.methods.structure.passes import follow
from greenprune.methods.structure.units import (
    ALWAYS_OPEN,
    BATCH_NORMS,
    FIXED,
    Branch,
    ChannelGroup,
    ChannelParameter,
    Layer,
    Product,
    Structure,
    channel_counts,
    has_channels,
    is_attention,
    is_depthwise,
    is_transposed_linear,
    is_writer,
)
from torch import Tensor, nn

__all__ = ["BATCH_NORMS", "FIXED", "Branch", "ChannelGroup", "Layer", "Structure", "is_depthwise", "trace"]


def trace(model: nn.Module, example_inputs: ExampleInputs) -> Structure:
    """Find the removable channels and residual branches of `model`.

    Args:
        model: any module; left as it was (mode and weights).
        example_inputs: what it is called with: (B, ...) tensors on its device, see `inputs.Inputs`.

    Channels and branches that cannot be removed, and why, are listed in the result's `fixed` and `fixed_branches`.

    Raises:
        ValueError: the network does not run on `example_inputs`, or returns no tensor.
    """
    inputs = Inputs.of(example_inputs)
    with evaluating(model):
        run = _run(model, inputs)
        few = inputs.few(model)
        found = find_couplings(model, few.args, few.kwargs)
        couplings, failure, products = found.couplings, found.failure, found.products
        products.batch = few.batch_size
        branches, refused = _find_branches(model, few)
        run.owners = _owners(model, run.calls, found.users)
        asleep = _not_called(model, run, run.calls)
        if asleep:  # what is called in training alone was followed there
            asleep = _not_called(model, run, run.calls | _run_in_training(model, few))
        if failure is None and asleep and _may_be_called(model, asleep):
            failure = (
                f"{asleep[0]} is not called with the example inputs but may be with others, so what it is coupled to "
                "is unknown"
            )
        for coupling in couplings:
            if coupling.producers.isdisjoint({*run.calls, *run.owners}):
                coupling.reason = coupling.reason or "it is not called with the example inputs"
        if failure is not None:
            for coupling in couplings:
                coupling.reason = coupling.reason or failure
        structure = _assemble(model, run, couplings, branches, products)
        verdict = trial.verify(model, structure, shapes.find(model, found.notes, _sizes(found)), few)
        # The code may look at the module that went: then its modules go, and the code stays.
        stuck = {end for end, why in verdict.branches.items() if "does not run" in why or "sizes in the code" in why}
        if any(b.end in stuck and b.constants is not None and b.silences is not None for b in branches):
            branches = [_emptied(b) if b.end in stuck else b for b in branches]
            structure = _assemble(model, run, couplings, branches, products)
            verdict = trial.verify(model, structure, shapes.find(model, found.notes, _sizes(found)), few)
        leaky, bad_groups, bad_branches = verdict.leaky, verdict.groups, verdict.branches
        if bad_groups or bad_branches:
            for coupling in couplings:  # a group bears the name of the first of its producers that runs
                coupling.reason = coupling.reason or next(
                    (bad_groups[p] for p in coupling.producers if p in bad_groups), None
                )
            refused += [(b.name, bad_branches[b.end]) for b in branches if b.end in bad_branches]
            branches = [b for b in branches if b.end not in bad_branches]
            structure = _assemble(model, run, couplings, branches, products)
        fitted = fitting.shapes_of(shapes.find(model, found.notes, _sizes(found)), verdict.ways)
    layers = {name: replace(layer, masks_input=name in leaky) for name, layer in structure.layers.items()}
    return replace(
        structure,
        layers=layers,
        shapes=fitted,
        fixed=_all_fixed(model, structure, couplings, run, failure),
        fixed_branches=tuple(refused),
    )


@dataclass
class _Run:
    """What one forward pass showed, by module name in the order of execution."""

    macs: dict[str, int] = field(default_factory=dict)  # for one image
    calls: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, torch.Size] = field(default_factory=dict)  # of the first input
    others: dict[tuple[str, str], int] = field(default_factory=dict)  # of products without a layer, for one image
    uncounted: list[tuple[str, str]] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)  # of layers not called: the module that uses their weights


@torch.no_grad()
def _run(model: nn.Module, inputs: Inputs) -> _Run:
    run = _Run()
    batch = inputs.batch_size

    def note(name: str, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        run.calls[name] = run.calls.get(name, 0) + 1
        x = first_argument(args, kwargs)
        if x is not None:
            run.shapes.setdefault(name, x.shape)

    handles = [
        module.register_forward_hook(lambda m, x, k, y, name=name: note(name, m, x, k, y), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        with OperationCounter(model) as counter:
            output = inputs.call(model)
    except Exception as error:
        raise ValueError(
            f"the network does not run on example inputs of {inputs.describe()} ({type(error).__name__}: {error})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not outputs.tensors(output):
        raise ValueError(
            f"the network returns a {type(output).__name__} without a tensor in it: nothing can be compared"
        )
    run.macs = {name: macs // batch for name, macs in counter.counted.layers.items()}
    run.others = {key: macs // batch for key, macs in counter.counted.others.items()}
    run.uncounted = list(counter.counted.uncounted)
    return run


@torch.no_grad()
def _run_in_training(model: nn.Module, inputs: Inputs) -> dict[str, int]:
    """The modules that are called on the way that the network takes in training; none where it does not run."""
    calls: dict[str, int] = {}
    handles = [
        module.register_forward_hook(lambda m, x, y, name=name: calls.update({name: 1}))
        for name, module in model.named_modules()
    ]
    try:
        with as_in_training(model), torch.random.fork_rng(devices=[]):
            inputs.call(model)
    except Exception:  # it may want targets, for example
        return {}
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _owners(model: nn.Module, calls: dict[str, int], users: dict[str, str]) -> dict[str, str]:
    """Layers whose weights are used by functions -> the module at work there."""
    owners = {}
    for name, module in model.named_modules():
        if is_attention(module):
            owners[name] = name
        elif is_writer(module) and name not in calls and users.get(f"{name}.weight", name) != name:
            owners[name] = users[f"{name}.weight"]
    return owners


def _not_called(model: nn.Module, run: _Run, calls: dict[str, int]) -> list[str]:
    return [n for n, m in model.named_modules() if has_channels(m) and n not in calls and n not in run.owners]


def _order(run: _Run) -> dict[str, int]:
    """When each module ran, and each layer whose weights a module uses with that module."""
    order = {name: i for i, name in enumerate(run.calls)}
    return order | {name: order.get(owner, len(order)) for name, owner in run.owners.items()}


def _sizes(found: Coupled) -> dict[tuple[int, int, int], Tensor]:
    """`shapes.Tables` of what can be removed, in the numbering of `_assemble`."""
    tables: dict[tuple[int, int, int], Tensor] = {}
    for coupling in found.couplings:
        for key, entries, units in coupling.sizes if coupling.start is not None else ():
            note, part, dim = key
            if key not in tables:
                shape = found.notes[note].before[0] if part < 0 else found.notes[note].after[part][0]
                tables[key] = torch.full((shape[dim],), FIXED)
            tables[key][entries] = torch.tensor(units, dtype=torch.long) + coupling.start
    return tables


def _may_be_called(model: nn.Module, names: list[str]) -> bool:
    """Whether modules that did not run in eval mode could run otherwise: in training, or on other data."""
    with as_they_were(model):
        model.train()
        try:
            graph = torch.fx.symbolic_trace(model).graph
        except Exception:  # control flow that depends on the data
            return True
    return any(node.op == "call_module" and node.target in names for node in graph.nodes)


def _assemble(
    model: nn.Module, run: _Run, couplings: list[Coupling], found: list[Branch], products: Products
) -> Structure:
    """Number the units of all couplings without a reason against them, and fill every layer's tables."""
    modules = {n: m for n, m in model.named_modules() if has_channels(m)}
    tables = {n: [torch.full((c,), FIXED) for c in channel_counts(m)] for n, m in modules.items()}
    order = _order(run)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for coupling in couplings:
        coupling.start = None
    groups: list[ChannelGroup] = []
    parameters: list[ChannelParameter] = []
    sides = {
        (i, side): torch.full((len(ids),), FIXED)
        for i, product in enumerate(products.made)
        for side, ids in ([(-1, product.rows)] if product.layer is not None else enumerate(product.sides))
        if ids is not None
    }
    start = 0
    free = [c for c in couplings if c.reason is None]
    for coupling in sorted(free, key=lambda c: min(order.get(p, len(order)) for p in c.producers)):
        producers = tuple(sorted(coupling.producers, key=lambda p: order.get(p, len(order))))
        groups.append(ChannelGroup(producers[0], start, coupling.width, producers))
        for name, side, channels, units in coupling.members:
            for i in (0, 1) if not is_writer(modules[name]) else (side == "in",):
                tables[name][i][channels] = torch.tensor(units, dtype=torch.long) + start
        for name, dim, entries, units in coupling.parameters:
            table = torch.full((tensors[name].shape[dim],), FIXED)
            table[entries] = torch.tensor(units, dtype=torch.long) + start
            parameters.append(ChannelParameter(name, dim, table))
        for number, part, entries, units in coupling.products:
            sides[number, part][entries] = torch.tensor(units, dtype=torch.long) + start
        coupling.start = start
        start += coupling.width
    branches = tuple(replace(b, unit=start + i) for i, b in enumerate(found))
    inside = {  # by branch: what lies between its own layers
        b.unit: products.lineage.between([m for m in b.modules if m in modules], b.end) for b in branches
    }
    rows = {p.layer: sides[i, -1] for i, p in enumerate(products.made) if (i, -1) in sides}
    normed = _normed(tables, modules)
    layers = {}
    for name, module in modules.items():
        out, into = tables[name]
        own = out[out != FIXED]
        if is_writer(module):
            masks = not bool(normed[own].all())
        else:
            masks = isinstance(module, (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)) and len(own) > 0
        is_layer_norm = isinstance(module, nn.LayerNorm) and name in run.shapes
        layers[name] = Layer(
            name,
            out,
            into,
            run.macs.get(name, 0),
            branches=tuple(b.unit for b in branches if b.holds(name)),
            depthwise=is_depthwise(module),
            masks_output=masks,
            owner=run.owners.get(name),
            turned=isinstance(module, TRANSPOSED) or is_transposed_linear(module),
            channel_dim=(layer_norm_dim(module, run.shapes[name]) or 1) if is_layer_norm else 1,
            row_units=rows.get(name, ALWAYS_OPEN),
        )
    return Structure(
        tuple(groups),
        branches,
        layers,
        parameters=tuple(parameters),
        products=_products(run, products, sides, branches, inside),
        uncounted=tuple(run.uncounted),
    )


def _products(
    run: _Run,
    products: Products,
    sides: dict[tuple[int, int], Tensor],
    branches: tuple[Branch, ...],
    inside: dict[int, set[Any]],
) -> tuple[Product, ...]:
    if not products.made:  # nothing is known of their channels
        return tuple(Product(name, operation, macs) for (name, operation), macs in run.others.items())
    result = []
    for i, product in enumerate(products.made):
        if product.layer is None:
            own = tuple(t for side in range(len(product.sides)) if (t := sides[i, side]).ne(FIXED).any())
            within = tuple(
                b.unit
                for b in branches
                if b.holds(product.module) or (product in inside[b.unit] and not b.multiplies_zeros)
            )
            macs = product.macs // products.batch
            result.append(Product(product.module, product.operation, macs, own, within))
    return tuple(result)


def _find_branches(model: nn.Module, inputs: Inputs) -> tuple[list[Branch], list[tuple[str, str]]]:
    try:
        seen = follow(model, inputs.args, inputs.kwargs)
    except Exception as error:  # the user's code under a tracer: anything may come out
        why = str(error).strip().splitlines()
        return [], [("", f"its operations could not be followed ({type(error).__name__}: {why[0] if why else ''})")]
    return find_branches(model, seen)


def _emptied(branch: Branch) -> Branch:
    """`branch`, to be emptied instead of taken out of the code, if that is possible."""
    return branch if branch.silences is None else replace(branch, constants=None, parameters=())


def _normed(tables: dict[str, list[Tensor]], modules: dict[str, nn.Module]) -> Tensor:
    """(units + 1,) bool: the units that a batch norm sees, where masking costs nothing; FIXED (the last) counts as one."""
    top = max((int(t.max()) for pair in tables.values() for t in pair if len(t)), default=FIXED)
    normed = torch.zeros(top + 2, dtype=torch.bool)
    normed[FIXED] = True
    for name, module in modules.items():
        if isinstance(module, BATCH_NORMS):
            normed[tables[name][0]] = True
    return normed


def _all_fixed(
    model: nn.Module, structure: Structure, couplings: list[Coupling], run: _Run, failure: str | None
) -> tuple[tuple[str, str], ...]:
    """(layer, reason) for every layer that writes channels none of which can be removed, in the order of execution."""
    reasons = {p: c.reason for c in couplings for p in c.producers}
    order = _order(run)
    cut = {p.name for p in structure.parameters}
    fixed = []
    for name, module in model.named_modules():
        if is_writer(module) and name not in order:
            fixed.append((name, "it is not called with the example inputs"))
        elif is_writer(module):
            reason = reasons.get(name, failure or "no path leads from it to the network's output")
            if reason is not None:
                fixed.append((name, reason))
        elif not has_channels(module):
            own = [f"{name}.{p}" if name else p for p, _ in module.named_parameters(recurse=False)]
            if own and not set(own) <= cut:
                fixed.append((name, f"{type(module).__name__} is not a layer whose own channels can be cut"))
    return tuple(sorted(fixed, key=lambda entry: order.get(entry[0], len(order))))
