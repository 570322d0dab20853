"""Options of `magnitude_unstructured`, see `greenprune.methods.magnitude_unstructured`."""

from __future__ import annotations

from greenprune.methods.options.base import MethodOptions
from pydantic import Field


class UnstructuredOptions(MethodOptions):
    """Options of `magnitude_unstructured`."""

    train_share: float = Field(0.6, gt=0, lt=1, description="share of the training before the weights are masked")
    fine_tune_peak: float = Field(
        0.2, gt=0, description="learning rate at the start of fine-tuning, relative to the recipe's"
    )
