"""The proposed method: consensus gating of layers and channels in one training run (arXiv 2302.10798).

What a closed layer leaves (`GatingOptions.closed_layers`) is ours.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from greenprune.methods.base import Method, Phase
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.gating.module import ConsensusGating
from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.options.base import MethodOptions
from greenprune.methods.structure.inputs import ExampleInputs
from torch import Tensor, nn


class Gated(Method):
    """Gates look at the input while searching; polarization makes all inputs agree; the consensus is cut out and trains on.

    One learning-rate cycle for the whole training: no pre-training, no separate fine-tuning, no restart. See
    `greenprune.methods.gating.module.ConsensusGating`, which does the work and can be used in any training loop.
    """

    name = "gated"
    source = "arXiv 2302.10798"
    Options = GatingOptions
    tuning: ClassVar = {
        "closed_layers": ("thin", "separable", "removed"),
        "search_share": (0.2, 0.34, 0.4, 0.6),
        "open_share": (0.25, 0.5, 0.76),
        "polarization_weight": (1.0, 2.0, 4.0),
        "within_layer": (0.0, 0.05, 0.25, 1.0),
        "drift": (5.0, 10.0, 20.0),
    }

    @classmethod
    def phases(cls, options: MethodOptions) -> tuple[Phase, ...]:
        assert isinstance(options, GatingOptions)
        if options.search_share == 1.0:
            return (Phase("search", 1.0, peak=1.0),)
        return (Phase("search", options.search_share, peak=1.0), Phase("train", 1.0 - options.search_share))

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        self.gating = ConsensusGating(
            model,
            example_inputs,
            keep=self.keep,
            steps=self.steps,
            tolerance=self.tolerance,
            seed=self.seed,
            options=self.options,
            cost=self.cost,
            table=self.table,
            round_to=self.round_to,
        )
        self.nearest = self.gating.nearest
        return self.gating

    def param_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The heads apart: no weight decay (it would pull every gate towards undecided), a learning rate of their own."""
        heads = [p for m in network.modules() if isinstance(m, GateHead) for p in m.parameters()]
        own = {id(p) for p in heads}
        return [
            {"params": [p for p in network.parameters() if id(p) not in own]},
            {"params": heads, "weight_decay": 0.0, "learning_rate_scale": self.options.gate_learning_rate},
        ]

    def penalty(self) -> Tensor | float:
        return self.gating.penalty()

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        self.gating.step(optimizer)

    def finish(self) -> nn.Module:
        self.masked_max_abs_diff = self.gating.masked_max_abs_diff
        self.predicted_cost = self.gating.predicted_cost
        return self.gating.finish()

    def kept_cost(self) -> float | None:
        return self.gating.kept_cost()

    def history(self) -> dict[str, Any]:
        return self.gating.history()
