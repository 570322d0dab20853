"""Where gates sit in a network: which layer carries a head, which ones are masked, which ones can be skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from greenprune.methods.base import Skip
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.gating.state import GateState
from greenprune.methods.gating.wrappers import Gated
from greenprune.methods.structure import outputs
from greenprune.methods.structure.emptying import without_fast_path
from greenprune.methods.structure.inputs import Inputs
from greenprune.methods.structure.modes import evaluating
from greenprune.methods.structure.places import put
from greenprune.methods.structure.units import Branch, Structure
from torch import Tensor, nn

if TYPE_CHECKING:
    from greenprune.methods.gating.options import GatingOptions


SAME = 1e-3
"""Of two outputs, relative to their size: what skipping a branch instead of masking it may change."""


def wrap(
    model: nn.Module,
    structure: Structure,
    gated: Tensor,
    state: GateState,
    options: GatingOptions,
    device: torch.device,
    generator: torch.Generator,
) -> None:
    """Put a `Gated` around every layer that masks, skips or decides, and around blocks that are skipped, in place."""
    without_fast_path(model)
    modules = dict(model.named_modules())
    sites = _decision_sites(structure, gated, modules)
    masked_layers = _masked_layers(structure, gated)
    ends = {b.end: b.unit for b in structure.branches if gated[b.unit]}
    called = {name for branch in structure.branches for name in branch.modules}
    for name, layer in structure.layers.items():
        if layer.owner is not None:
            continue
        branches = tuple(b for b in layer.branches if gated[b]) if name in called else ()
        into = _own_units(layer.in_units, gated) if layer.masks_input else None
        if not (name in sites or name in masked_layers or branches or into is not None):
            continue
        inner = modules[name]
        units = _own_units(layer.out_units, gated) if name in masked_layers else None
        wrapper = Gated(name, inner, state, None if units is None else units.to(device))
        if isinstance(inner, nn.LayerNorm):
            wrapper.channel_dim = layer.channel_dim
        if into is not None:
            wrapper.input_units = into.to(device)
        wrapper.branches, wrapper.ends = branches, ends.get(name)
        wrapper.features_of = name
        if name in sites:
            wrapper.head = _head(wrapper, len(layer.in_units), *sites[name], options, generator).to(device)
        wrapper.train(inner.training)
        put(model, inner, wrapper)
    uncalled = _uncalled(structure)
    parts = {owner: _parts(owner, layers, structure, gated) for owner, layers in uncalled.items()}
    blocks = _blocks(structure, gated, modules, sites)
    for name in [n for n in modules if n in blocks or parts.get(n)]:
        inner = modules[name]
        wrapper = Gated(name, inner, state, None)
        wrapper.branches, wrapper.ends = blocks.get(name, ()), ends.get(name)
        wrapper.parts = {part: units.to(device) for part, units in parts.get(name, {}).items()}
        if name in sites:  # attention
            wrapper.channel_dim = -1
            wrapper.features_of = uncalled[name][0] if name in uncalled else ""
            features = len(structure.layers[wrapper.features_of].in_units) if wrapper.features_of else inner.embed_dim
            wrapper.head = _head(wrapper, features, *sites[name], options, generator).to(device)  # type: ignore[arg-type]
        wrapper.train(inner.training)
        put(model, inner, wrapper)


def _head(
    wrapper: Gated, features: int, decided: Tensor, branches: tuple[int, ...], options: GatingOptions,
    generator: torch.Generator,
) -> GateHead:  # fmt: skip
    """The head of `wrapper`, which decides on the units `decided`; the last of them are `branches`."""
    wrapper.decided_branches = branches
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        head = GateHead(features, decided, options.hidden, wrapper.channel_dim)
        nn.init.normal_(head.last.weight, std=0.01)
        nn.init.normal_(head.last.bias, mean=options.initial_logit, std=options.initial_spread)
        with torch.no_grad():  # a layer's gate starts at the mean: the task decides when it goes
            head.last.bias[len(decided) - len(branches) :] = options.initial_logit
    return head


def _blocks(
    structure: Structure, gated: Tensor, modules: dict[str, nn.Module], sites: Iterable[str]
) -> dict[str, tuple[int, ...]]:
    """Modules of branches that are no layers and are skipped as a whole, or end or begin one; and the units of the branches.

    A block that holds the layer at which the branch is decided on cannot be among them, nor what runs before it.
    """
    found: dict[str, list[int]] = {}
    for branch in structure.branches:
        if not gated[branch.unit]:
            continue
        first = _first(branch, structure, modules)
        whole = [b for b in branch.blocks for b in _unfolded(b, modules)]
        start = next(i for i, b in enumerate(whole) if f"{first}.".startswith(f"{b}."))
        for name in {*(whole[start + 1 :] if branch.remnant is None else ()), branch.end, first}:
            layer = structure.layers.get(name)
            if (layer is not None and layer.owner is None) or (
                name not in (branch.end, first) and not modules[name].state_dict()
            ):
                continue
            found.setdefault(name, []).append(branch.unit)
    order = [name for name in modules if name in found]
    return {name: tuple(found[name]) for name in order}


def _unfolded(name: str, modules: dict[str, nn.Module]) -> list[str]:
    """The module itself; of a chain its links."""
    if not isinstance(modules[name], nn.Sequential):
        return [name]
    return [n for child in modules[name]._modules for n in _unfolded(f"{name}.{child}", modules)]


def _uncalled(structure: Structure) -> dict[str, list[str]]:
    """Modules that use the weights of layers by functions, and these layers."""
    result: dict[str, list[str]] = {}
    for name, layer in structure.layers.items():
        if layer.owner is not None:
            result.setdefault(layer.owner, []).append(name)
    return result


def _parts(owner: str, names: list[str], structure: Structure, gated: Tensor) -> dict[str, Tensor]:
    """By their names within `owner`, the units of the layers whose weights it uses, where these are masked."""
    result = {}
    for name in names:
        units = _own_units(structure.layers[name].out_units, gated) if structure.layers[name].masks_output else None
        if units is not None:
            result["" if name == owner else name.removeprefix(f"{owner}.") if owner else name] = units
    return result


def unwrap(model: nn.Module) -> None:
    """Take every `Gated` away again, in place; the layers themselves stay."""
    for module in list(model.modules()):
        if isinstance(module, Gated):
            put(model, module, module.inner)


def _decision_sites(
    structure: Structure, gated: Tensor, modules: dict[str, nn.Module]
) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """Where heads sit: layer name -> (units decided from its input, which of them are branches, these last)."""
    channels: dict[str, list[int]] = {}
    for group in structure.groups:
        if gated[group.start]:
            site = structure.layers[group.name].owner or group.name
            channels.setdefault(site, []).extend(range(group.start, group.start + group.width))
    branches: dict[str, tuple[int, ...]] = {}
    for branch in structure.branches:
        if gated[branch.unit]:
            first = _first(branch, structure, modules)
            branches[first] = (*branches.get(first, ()), branch.unit)
    return {
        name: (torch.tensor(channels.get(name, []) + list(branches.get(name, ()))), branches.get(name, ()))
        for name in dict.fromkeys((*structure.layers, *channels, *branches))
        if name in channels or name in branches
    }


def _first(branch: Branch, structure: Structure, modules: dict[str, nn.Module]) -> str:
    """The first layer of a branch, which sees what comes into it: a norm is one, too."""
    return next(m for m in branch.modules if m in structure.layers or isinstance(modules[m], nn.MultiheadAttention))


def _own_units(units: Tensor, gated: Tensor) -> Tensor | None:
    """The gate of each channel, the last one (always open) where it has none; None when no channel has one."""
    padded = torch.cat([gated, gated.new_zeros(1)])  # FIXED is -1: the last entry
    return torch.where(padded[units], units, len(gated)) if padded[units].any() else None


def _masked_layers(structure: Structure, gated: Tensor) -> set[str]:
    """Layers whose output carries the masks of gated units."""
    result = {branch.end for branch in structure.branches if gated[branch.unit]}
    for name, layer in structure.layers.items():
        if layer.masks_output and _own_units(layer.out_units, gated) is not None:
            result.add(name)
    return result


def find_skippable(network: nn.Module, structure: Structure, gated: Tensor, state: GateState, inputs: Inputs) -> None:
    """Fill in `state.skippable`: the branches that can be left out instead of masked, found by trying on `inputs`.

    What is left of a branch between its layers need not take what comes instead: zeros of one entry, or (a reshape to a fixed
    size wants them, say) of the layers' own shapes, which the branches in `state.shaped` get.
    """
    consensus = torch.ones(structure.units, dtype=torch.bool, device=inputs.device)
    shift = torch.zeros((), device=inputs.device)

    def run(closed: list[int], inputs: Inputs = inputs) -> Any:
        opened = consensus.clone()
        opened[closed] = False
        state.begin(inputs, searching=False, shift=shift, consensus=opened)
        return inputs.call(network)

    def same(units: list[int]) -> bool:
        state.skippable = set()
        expected = run(units)
        state.skippable = set(units)
        try:
            got = run(units)
        except Exception:  # the user's forward, on shapes it was not made for
            return False
        return outputs.difference(expected, got).relative <= SAME

    branches = [b.unit for b in structure.branches if gated[b.unit]]
    with torch.no_grad(), evaluating(network):
        state.scales = _shapes_scale(state, run, inputs)
        good = _each_or_all(branches, same)
        state.shaped = set(branches) - good
        good |= _each_or_all(sorted(state.shaped), same)
        state.shaped &= good
    state.skippable = good


def refuse_changed(network: nn.Module, units: int, state: GateState, inputs: Inputs, expected: Any) -> None:
    """Take the gates away again where, all of them open, they make the network another function.

    Args:
        units: how many gates there are.
        expected: its output in eval mode on `inputs`, of before the gates.

    Raises:
        Skip: its forward asks what kind of modules it calls, which the gates hide from it, or calls layers past their gates.
    """
    everything = torch.ones(units, dtype=torch.bool, device=inputs.device)
    with torch.no_grad(), evaluating(network):
        state.begin(inputs, searching=False, shift=torch.zeros((), device=inputs.device), consensus=everything)
        with _passed_by(network) as passed_by:
            got = inputs.call(network)
    if passed_by:
        unwrap(network)
        raise Skip(
            f"the gates of {passed_by[0]} would decide by chance: the network's forward does not call this layer where it is "
            "registered, but holds it somewhere else; let it call the layer by its attribute, or by a list of its module"
        )
    kinds = {t.dtype for t in outputs.tensors(got) if t.is_floating_point()}
    allowed = max([SAME, *(16 * torch.finfo(kind).eps for kind in kinds)])
    if outputs.difference(expected, got).relative <= allowed:
        return
    unwrap(network)
    raise Skip(
        "with gates around its layers, all of them open, the network computes something else: its forward asks what kind of "
        "module it calls (isinstance or type), or what is registered in it; let it ask for something that does not change, "
        "such as an attribute of its own"
    )


@contextmanager
def _passed_by(network: nn.Module) -> Iterator[list[str]]:
    """The layers, in the order of their names, that are called inside, and not by the gates around them; known afterwards."""
    found: list[str] = []
    sites = {name: m for name, m in network.named_modules() if isinstance(m, Gated)}
    called: set[nn.Module] = set()
    watched = [m for site in sites.values() for m in (site, site.inner)]
    handles = [m.register_forward_pre_hook(lambda module, _: called.add(module)) for m in watched]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
    found += [s.name for s in sites.values() if s not in called and (s.head is not None or s.inner in called)]


def _each_or_all(units: list[int], good: Callable[[list[int]], bool]) -> set[int]:
    """Those that are `good`: all of them if they are together, else those that are alone."""
    return set(units) if units and good(units) else {unit for unit in units if good([unit])}


def _shapes_scale(state: GateState, run: Callable[..., Any], inputs: Inputs) -> bool:
    """Whether the first dimension of what each branch gives grows with the batch, found by running on twice as many."""
    state.skippable, state.scales = set(), True
    run([])
    once = {of: shapes for (of, _), (shapes, _) in state.shapes.items()}
    state.shapes.clear()
    try:
        run([], inputs.twice())
    except Exception:  # the user's forward, on a batch it was not made for
        return False
    twice = {of: shapes for (of, _), (shapes, _) in state.shapes.items()}
    return once.keys() == twice.keys() and all(_double(shape, twice[end]) for end, shape in once.items())


def _double(once: Any, twice: Any) -> bool:
    if isinstance(once, torch.Size):
        return (once[0] * 2, *once[1:]) == tuple(twice)
    return once is None or all(_double(a, b) for a, b in zip(once, twice, strict=True))
