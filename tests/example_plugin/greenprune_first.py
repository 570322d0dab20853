"""A method of a third party, whole: it keeps the first channels of every layer, as many as the budget allows."""

import torch
from greenprune.methods import Method, MethodOptions, Skip
from greenprune.methods.structure import surgery
from greenprune.methods.structure.trace import trace
from pydantic import Field


class FirstOptions(MethodOptions):
    reverse: bool = Field(False, description="keep the last channels instead")


class First(Method):
    name = "first"
    source = "an example"
    Options = FirstOptions

    def prepare(self, model, example_inputs):
        structure = trace(model, example_inputs)
        if not structure.groups:
            raise Skip("no channels of this network can be removed")
        scores = -torch.arange(structure.units, dtype=torch.float)
        scores = -scores if self.options.reverse else scores
        keep = self.select(model, structure, scores, structure.channel_units)
        self.model, self.masked_max_abs_diff = surgery.remove_checked(model, structure, keep, example_inputs)
        return self.model

    def finish(self):
        return self.model
