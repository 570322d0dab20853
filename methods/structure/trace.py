"""What can be removed from a network, found by tracing it, never by the names of its classes.

*What is coupled* comes from following the channels through the operations of a forward pass (`coupling`), residual
branches from how these operations hang together (`branches`). Then everything found is tried out on a randomised copy
(`trial`): what does not leave the network computing the same as with the unit masked is not offered, but listed with the
reason.
"""

from __future__ import annotations

from dataclasses import replace

from greenprune.methods.structure import fitting, shapes, trial
from greenprune.methods.structure.assemble import assemble, sizes_of
from greenprune.methods.structure.branches import find_branches
from greenprune.methods.structure.coupling import Coupling, find_couplings
from greenprune.methods.structure.inputs import ExampleInputs, Inputs
from greenprune.methods.structure.modes import evaluating
from greenprune.methods.structure.observed import (
    Observed,
    called_in_training,
    may_be_called,
    not_called,
    observe,
    owners_of,
)
from greenprune.methods.structure.passes import follow
from greenprune.methods.structure.units import Branch, Structure, has_channels, is_writer
from torch import nn


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
        run = observe(model, inputs)
        few = inputs.few(model)
        found = find_couplings(model, few.args, few.kwargs)
        couplings, failure, products = found.couplings, found.failure, found.products
        products.batch = few.batch_size
        branches, refused = _find_branches(model, few)
        run.owners = owners_of(model, run.calls, found.users)
        asleep = not_called(model, run, run.calls)
        if asleep:  # what is called in training alone was followed there
            asleep = not_called(model, run, run.calls | called_in_training(model, few))
        if failure is None and asleep and may_be_called(model, asleep):
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
        structure = assemble(model, run, couplings, branches, products)
        verdict = trial.verify(model, structure, shapes.find(model, found.notes, sizes_of(found)), few)
        # The code may look at the module that went: then its modules go, and the code stays.
        stuck = {end for end, why in verdict.branches.items() if "does not run" in why or "sizes in the code" in why}
        if any(b.end in stuck and b.constants is not None and b.silences is not None for b in branches):
            branches = [_emptied(b) if b.end in stuck else b for b in branches]
            structure = assemble(model, run, couplings, branches, products)
            verdict = trial.verify(model, structure, shapes.find(model, found.notes, sizes_of(found)), few)
        leaky, bad_groups, bad_branches = verdict.leaky, verdict.groups, verdict.branches
        if bad_groups or bad_branches:
            for coupling in couplings:  # a group bears the name of the first of its producers that runs
                coupling.reason = coupling.reason or next(
                    (bad_groups[p] for p in coupling.producers if p in bad_groups), None
                )
            refused += [(b.name, bad_branches[b.end]) for b in branches if b.end in bad_branches]
            branches = [b for b in branches if b.end not in bad_branches]
            structure = assemble(model, run, couplings, branches, products)
        fitted = fitting.shapes_of(shapes.find(model, found.notes, sizes_of(found)), verdict.ways)
    layers = {name: replace(layer, masks_input=name in leaky) for name, layer in structure.layers.items()}
    return replace(
        structure,
        layers=layers,
        shapes=fitted,
        fixed=_all_fixed(model, structure, couplings, run, failure),
        fixed_branches=tuple(refused),
    )


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


def _all_fixed(
    model: nn.Module, structure: Structure, couplings: list[Coupling], run: Observed, failure: str | None
) -> tuple[tuple[str, str], ...]:
    """(layer, reason) for every layer that writes channels none of which can be removed, in the order of execution."""
    reasons = {p: c.reason for c in couplings for p in c.producers}
    order = run.order()
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
