"""The figures of a report: each a function of the `Results` of one comparison (see `Results.comparisons`), drawn from
the same numbers as the tables.

`FIGURES` lists them; `render` turns one into the bytes of a PNG or SVG file, the same bytes for the same data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import matplotlib as mpl
from greenprune.plots.figures.breakeven import break_even_in_words, energy_break_even, has_break_even
from greenprune.plots.figures.budget import (
    budget_achieved,
    budget_in_words,
    has_measured_saving,
    has_pruned,
    saving_in_words,
    saving_predicted_and_measured,
)
from greenprune.plots.figures.energy import energy_in_words, energy_per_method
from greenprune.plots.figures.gates import (
    architecture_in_words,
    consensus_in_words,
    final_architecture,
    gate_consensus,
    has_architecture,
    has_consensus,
)
from greenprune.plots.figures.histograms import (
    cost_per_image,
    has_image_costs,
    has_scales,
    image_costs_in_words,
    scales,
    scales_in_words,
)
from greenprune.plots.figures.power import has_power, power_in_words, power_over_time
from greenprune.plots.figures.score import (
    inference_energy_in_words,
    inference_kinds,
    score_against_inference_energy,
    score_against_macs,
    score_against_training_energy,
    score_in_words,
    training_energy_in_words,
    training_kinds,
)
from greenprune.plots.figures.style import RC
from greenprune.plots.frame.frame import Results
from matplotlib.figure import Figure


def _always(_: Results) -> bool:
    return True


@dataclass(frozen=True)
class FigureSpec:
    """A figure of the report.

    Attributes:
        name: the file name without its ending.
        title: for people.
        draw: from the results of one comparison.
        describe: the figure in words, for those who can't see it.
        caption: what is drawn and how to read it.
        applies: whether these results have anything to draw; a figure that does not apply is left out.
        of_runs: it shows single runs. The page draws those in the browser, for every run; the file is for papers.
    """

    name: str
    title: str
    draw: Callable[[Results], Figure]
    describe: Callable[[Results], str]
    caption: str
    applies: Callable[[Results], bool] = _always
    of_runs: bool = False


FIGURES = (
    FigureSpec(
        "score_against_macs",
        "Score against kept MACs",
        score_against_macs,
        score_in_words,
        "Small points are runs, large ones the mean over seeds with its standard deviation; lines connect the budgets "
        "of a method. The dashed line is the dense network, the band its standard deviation. Left is cheaper; "
        "up is better, or down where the axis says so; networks on the yellow band (the Pareto front) are beaten by no "
        "other one in both.",
    ),
    FigureSpec(
        "score_against_inference_energy",
        "Score against the energy of inference",
        score_against_inference_energy,
        inference_energy_in_words,
        "As above, against the joules of inference as a multiple of the dense network's, which took turns with each "
        "pruned network in one process. Error bars: standard deviation over seeds; for a single run the 95 % interval "
        "of its blocks.",
        lambda results: bool(inference_kinds(results)),
    ),
    FigureSpec(
        "score_against_training_energy",
        "Score against the energy of training",
        score_against_training_energy,
        training_energy_in_words,
        "As above, against the joules of the whole training, all phases together. Error bars are the spread over "
        "seeds; the bounds of the figures themselves are in the table and in the next figure.",
        lambda results: bool(training_kinds(results)),
    ),
    FigureSpec(
        "energy_per_method",
        "Energy of training and inference",
        energy_per_method,
        energy_in_words,
        "Bars are means over seeds, dots are runs; shorter is better, and the dashed line is the dense network. "
        "Training: error bars are the bounds of each figure (quantisation of a counter, range of a model's "
        "assumptions), not the spread over seeds; the assumptions of a model are shared by all bars, so they move "
        "together. The runs were trained one after the other, so what else the machine did may differ between them. "
        "Inference: each pruned network took turns with the dense one in one process, and its energy is given as a "
        "multiple of that. Error bars are the 95 % interval of each run, where its record has one. The bar of the "
        "dense method is a dense network against another one: how far it is from 1 is noise. Of many networks only the "
        "smallest budget of each method is drawn.",
    ),
    FigureSpec(
        "energy_break_even",
        "When training has paid for itself",
        energy_break_even,
        break_even_in_words,
        "Left: neither network is trained yet; the energy of training and of so many inferences together, as a saving "
        "against the dense network (smallest budget of each method, markers as on the right; above the dashed line the "
        "pruned network is ahead). "
        "Right: a dense network is there already; how many inferences until a pruned network has saved what its whole "
        "training took. Bands and bars are 95 % intervals over seeds (Student's t); with one seed they are of its "
        "side-by-side blocks and know nothing of the spread between seeds. Of many networks only the smallest budget of each "
        "method is drawn. Assumptions of a model (watts per core) are the "
        "same for training and inference and cancel; what does not is the batch size that you will use.",
        has_break_even,
    ),
    FigureSpec(
        "saving_predicted_and_measured",
        "What saved MACs are worth",
        saving_predicted_and_measured,
        saving_in_words,
        "Saved time and energy of inference against saved MACs. On the dashed line a network saves what its MACs "
        "promise; below it, less. Error bars as above.",
        has_measured_saving,
    ),
    FigureSpec(
        "budget_achieved",
        "Requested and achieved budget",
        budget_achieved,
        budget_in_words,
        "How far each run ended from its budget. In the green band it kept it: of MACs and parameters at most the tolerance "
        "below and never above, of time and energy near it on either side, where a run outside whose interval reaches into "
        "the band is valid too.",
        has_pruned,
    ),
    FigureSpec(
        "final_architecture",
        "What is left of each layer",
        final_architecture,
        architecture_in_words,
        "Outline: output channels of the dense network; filled, and the number above: those kept (heights by the square "
        "root). A red cross is a removed layer, hatched is what a closed one left. First seed of each method; with "
        "many methods only the smallest budget.",
        has_architecture,
        of_runs=True,
    ),
    FigureSpec(
        "gate_consensus",
        "How the gates came to agree",
        gate_consensus,
        consensus_in_words,
        "Each row is a gate, time goes to the right; layers from the input (top), the gates of whole layers at the end. "
        "Within a layer, channels are sorted by where they ended. White gates are undecided. First seed of each budget.",
        has_consensus,
        of_runs=True,
    ),
    FigureSpec(
        "cost_per_image",
        "What single images cost",
        cost_per_image,
        image_costs_in_words,
        "Where gates stay at inference, images cost differently: the MACs that single test images executed, gates "
        "included. First seed of each budget.",
        has_image_costs,
        of_runs=True,
    ),
    FigureSpec(
        "scales",
        "The scales that were ranked",
        scales,
        scales_in_words,
        "Network slimming removes the channels of smallest scale |γ|; this is how the scales lay when it did. What is "
        "near 0 costs nothing to remove. First seed of each budget.",
        has_scales,
        of_runs=True,
    ),
    FigureSpec(
        "power_over_time",
        "Power during training",
        power_over_time,
        power_in_words,
        "Power of each source, shaded by the phases of the method. One run of each method, of six methods at most: "
        "smallest budget, first seed. Sources of different kinds are drawn apart and never added up.",
        has_power,
        of_runs=True,
    ),
)


def render(figure: Figure, file_format: Literal["png", "svg"]) -> bytes:
    """The bytes of the figure's file; no date in it, so that it changes only with the data."""
    file = BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(file, format=file_format, metadata={"Date": None} if file_format == "svg" else None)
    figure.set_layout_engine("none")  # it has found its places, and finding them takes longer than drawing
    return file.getvalue()
