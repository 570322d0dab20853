"""The methods by name: those here, those of installed packages, and any class as `module:Class`.

What a suite has to know of a method stands on its card, so that a suite can be read, checked and described without torch.
The class is imported when a run needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenprune.methods import plugins
from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.gating.paper import GatedPaperOptions
from greenprune.methods.options.base import Card
from greenprune.methods.options.depgraph import DepGraphOptions
from greenprune.methods.options.dynamic import DynamicOptions
from greenprune.methods.options.hesso import HessoOptions
from greenprune.methods.options.magnitude import MagnitudeOptions
from greenprune.methods.options.magnitude_unstructured import UnstructuredOptions
from greenprune.methods.options.one_cycle import OneCycleOptions
from greenprune.methods.options.random_channels import RandomOptions
from greenprune.methods.options.shallow import ShallowOptions
from greenprune.methods.options.slimming import SlimmingOptions
from greenprune.methods.options.uniform import UniformOptions

if TYPE_CHECKING:
    from greenprune.methods.base import Method

OWN: dict[str, Card] = {
    card.name: card
    for card in (
        Card("dense", "greenprune.methods.dense:Dense", prunes=False),
        Card("depgraph", "greenprune.methods.depgraph:DepGraph", DepGraphOptions),
        Card("dynamic", "greenprune.methods.dynamic:Dynamic", DynamicOptions, budget_unit="mean_macs"),
        Card("gated", "greenprune.methods.gated:Gated", GatingOptions),
        Card("gated_paper", "greenprune.methods.gated_paper:GatedPaper", GatedPaperOptions),
        Card("hesso", "greenprune.methods.hesso:Hesso", HessoOptions),
        Card("magnitude", "greenprune.methods.magnitude:Magnitude", MagnitudeOptions),
        Card(
            "magnitude_unstructured",
            "greenprune.methods.magnitude_unstructured:MagnitudeUnstructured",
            UnstructuredOptions,
            budget_unit="connections",
        ),
        Card("one_cycle", "greenprune.methods.one_cycle:OneCycle", OneCycleOptions),
        Card("random", "greenprune.methods.random_channels:Random", RandomOptions),
        Card("shallow", "greenprune.methods.shallow:Shallow", ShallowOptions),
        Card("slimming", "greenprune.methods.slimming:Slimming", SlimmingOptions),
        Card("uniform", "greenprune.methods.uniform:Uniform", UniformOptions),
    )
}
"""A card says what its class says; a test compares them."""


def cards() -> dict[str, Card]:
    """The card of every method by its name: those here, and those of installed packages."""
    return plugins.merged(OWN)[0]


def card(name: str) -> Card:
    """The card of the method called `name`, or of the class `module:Class`.

    Raises:
        UnknownMethodError: there is none.
        MethodError: it cannot be used. Either message is one sentence.
    """
    known, broken = plugins.merged(OWN)
    if name in broken:
        raise plugins.MethodError(broken[name])
    if name in known:
        return known[name]
    if ":" in name:
        return Card.of(plugins.load(name))
    raise plugins.UnknownMethodError(f'there is no method "{name}"; known are {", ".join(known)}, and module:Class')


def find(name: str) -> type[Method]:
    """The method called `name`, or the class `module:Class`. Raises what `card` raises."""
    if ":" in name:
        return plugins.load(name)
    found = card(name)
    return found.load() if name in OWN else plugins.installed()[0][name]


def registry() -> dict[str, type[Method]]:
    """Every method by its name: those here, and those of installed packages (entry point group `greenprune.methods`)."""
    return {name: find(name) for name in cards()}
