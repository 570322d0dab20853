"""The command `greenprune tune`."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from greenprune.bench import terminal
from greenprune.bench.cli.arguments import (
    data_of,
    jobs_argument,
    resolve_device,
    shares_for,
    suite_arguments,
    suite_of,
    typed,
)
from greenprune.bench.cli.place import at_place, place_arguments
from greenprune.bench.data.options import label_of
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.records.score import figure_text
from greenprune.bench.records.tuning import TUNE_FILE, Tuning
from greenprune.bench.run.stop import stoppable
from greenprune.bench.suite.recipe import MOST_EPOCHS
from greenprune.bench.text import plural
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from greenprune.bench.suite.entry import MethodEntry
    from greenprune.bench.suite.pair import Pair
    from greenprune.bench.suite.suite import Suite


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=command_tune, only=())  # of the suite's methods; `refuse_cost` asks the one that is tuned
    suite_arguments(command)
    command.add_argument("--method", required=True, metavar="METHOD", help="label of the suite, or a method's name")
    command.add_argument("--dataset", metavar="DATA", help="one of the suite's data sets (default: its first)")
    command.add_argument("--model", metavar="NETWORK", help="one of the suite's networks (default: its first)")
    command.add_argument("--budget", type=float, metavar="B", help="one of the suite's budgets (default: its first)")
    command.add_argument("--seed", type=int, metavar="S", help="of the trials (default: the suite's first)")
    command.add_argument(
        "--trials", type=int, metavar="N", default=8, help="choices to try, those tried before included"
    )
    command.add_argument("--epochs", type=int, metavar="E", help="of a trial (default: the suite's)")
    jobs_argument(command)
    place_arguments(command)


def command_tune(arguments: argparse.Namespace) -> int:
    with stoppable():
        return _tune(arguments)


def _tune(arguments: argparse.Namespace) -> int:
    from greenprune.bench.distributed.refuse import refuse_devices
    from greenprune.bench.plan.plan import plan, run_key
    from greenprune.bench.records.folder import locked, make_writable
    from greenprune.bench.run.display import make_display
    from greenprune.bench.tune import tune

    suite = at_place(suite_of(arguments), arguments)
    entry = entry_of(suite, arguments.method)
    pair = pair_of(suite, arguments)
    suite = narrowed(suite, entry, pair, arguments)
    tune.space_of(entry)
    device = resolve_device(arguments.device)
    refuse_cost(entry, suite, device)
    shares = shares_for(arguments.jobs, device, suite.training.devices)
    refuse_devices(suite.training, device, len(shares))
    data = data_of(suite, arguments.data)
    ((run),) = plan(suite, data, device)
    choices = tune.candidates(suite, entry, run.settings.images["train"] // suite.training.batch_size)
    folder = arguments.out / suite.name / f"tune-{run_key(entry, run.settings.budget, run.settings.seed, pair)}"
    console = terminal.console()
    for note in shares.notes:
        console.print(f"Note: {note}.", highlight=False, markup=False, soft_wrap=True)
    make_writable(folder.parent)
    with locked(folder.parent):
        tuning = tune.start(suite.name, entry, run.settings, data[pair.dataset], folder, typed())
        if tuning.identity is None:
            console.print(
                f"Note: {folder / TUNE_FILE} does not say of which method, network and data its trials are; that they are "
                "those of this start was not checked.",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        display = make_display(console, len(shares))
        try:
            tuning = tune.tune(
                tuning,
                entry,
                run.settings,
                choices[: arguments.trials],
                folder,
                data_root=None if arguments.data is None else str(arguments.data),
                pair=pair,
                display=display,
                shares=shares.each,
                running=suite.run,
            )
        finally:
            display.close()
    show(tuning, console, len(choices))
    chosen = tuning.chosen
    if chosen is None:
        terminal.complain(f"no trial kept its budget, see {folder / TUNE_FILE}")
        return 1
    what = (
        "The best options"
        if chosen is tuning.best
        else "Of those as good as the best, as far as can be told, the cheapest to train"
    )
    console.print(f"\n{what}, for the suite:\n", highlight=False)
    own = entry.options.model_dump(mode="json")
    console.print(tune.toml_entry(tuning, own, chosen.options), highlight=False, markup=False, soft_wrap=True)
    console.print(f"\nwrote {folder / TUNE_FILE}", highlight=False, soft_wrap=True)
    return 0


def entry_of(suite: Suite, name: str) -> MethodEntry:
    """The method of the suite with this label; else the registered one of this name, with its defaults.

    Raises:
        UserError: there is neither.
    """
    from greenprune.bench.suite.entry import MethodEntry
    from greenprune.methods.catalogue import cards

    for entry in suite.methods:
        if entry.label == name:
            return entry
    if name not in cards():
        known = list(dict.fromkeys([*(entry.label for entry in suite.methods), *cards()]))
        raise UserError(
            f"--method {name}: suite {suite.name} has no such method, and none is called so; allowed: {', '.join(known)}"
            f"{did_you_mean(name, known)}"
        )
    return MethodEntry.model_validate({"name": name})


def refuse_cost(entry: MethodEntry, suite: Suite, device: str) -> None:
    """Raise UserError where the method cannot keep a budget in what the suite states its budgets in."""
    from greenprune.bench.plan.cost import resolve_cost
    from greenprune.methods.catalogue import card

    try:
        card(entry.name).check_cost(resolve_cost(suite.cost, device))
    except ValueError as e:
        raise UserError(f"--method {entry.label}: {e}; allowed: another method, or --set cost=macs") from None


def pair_of(suite: Suite, arguments: argparse.Namespace) -> Pair:
    """The data set and the network to search with. Raises UserError: the suite does not have it."""
    names = tuple(label_of(entry) for entry in suite.dataset)
    for option, known in (("dataset", names), ("model", suite.model)):
        value = getattr(arguments, option)
        if value is not None and value not in known:
            raise UserError(
                f"--{option} {value}: suite {suite.name} does not have it; allowed: {', '.join(known)}"
                f"{did_you_mean(value, known)}"
            )
    chosen = (arguments.dataset or names[0], arguments.model or suite.model[0])
    return next(pair for pair in suite.pairs if (pair.dataset, pair.model) == chosen)


def narrowed(suite: Suite, entry: MethodEntry, pair: Pair, arguments: argparse.Namespace) -> Suite:
    """The suite with one data set, one network, one method, one budget and one seed, and as many epochs as a trial has.

    Raises:
        UserError: an option that is not allowed.
    """
    budget = suite.budgets[0] if arguments.budget is None else arguments.budget
    if budget not in suite.budgets:
        raise UserError(
            f"--budget {budget:g}: allowed are the budgets of the suite, {', '.join(f'{b:g}' for b in suite.budgets)}"
        )
    seed = suite.seeds[0] if arguments.seed is None else arguments.seed
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: allowed is an integer at least 0 and below {2**32}")
    if arguments.trials < 1:
        raise UserError(f"--trials {arguments.trials}: allowed is at least 1")
    training = suite.training
    if arguments.epochs is not None:
        least = max(1, math.ceil(training.warmup_epochs))
        if not least <= arguments.epochs <= MOST_EPOCHS:
            raise UserError(
                f"--epochs {arguments.epochs}: allowed is at least {least}, the warm-up, and at most {MOST_EPOCHS}"
            )
        training = training.model_copy(update={"epochs": arguments.epochs})
    changes = {
        "dataset": (pair.entry,),
        "model": (pair.model,),
        "methods": (entry,),
        "budgets": (budget,),
        "seeds": (seed,),
        "training": training,
        "views": ("samples",),
    }
    return suite.model_copy(update=changes)


def show(tuning: Tuning, console: Console, candidates: int) -> None:
    """The trials, best first, and what they cost."""
    best, chosen = tuning.best, tuning.chosen
    table = Table(title=f"{tuning.suite}: {tuning.method} at {tuning.budget:g}, seed {tuning.seed}")
    table.add_column("#", justify="right")
    for name in tuning.space:
        table.add_column(name, justify="right")
    score = tuning.score
    kinds = [kind for kind in KINDS if any(trial.energy_j(kind) is not None for trial in tuning.trials)]
    for column in (f"held-out\n{score.label}", "kept, %", *(f"training, J\n{kind}" for kind in kinds)):
        table.add_column(column, justify="right")
    table.add_column("")
    for trial in tuning.ranked:
        said = [word for word, one in (("best", best), ("chosen", chosen)) if trial is one]
        note = ", ".join(said) if trial.eligible else f"{trial.status}: {trial.reason}"
        figures = (
            "–" if trial.holdout_score is None else figure_text(score.shown(trial.holdout_score), score.label),
            "–" if trial.kept is None else f"{trial.kept * 100:.1f}",
            *("–" if (joules := trial.energy_j(kind)) is None else f"{joules:,.0f}" for kind in kinds),
        )
        values = (f"{trial.options.get(name, '–')}" for name in tuning.space)
        table.add_row(str(trial.number), *values, *figures, note)
    console.print(table)
    console.print(f"{len(tuning.trials)} of {candidates} choices tried. {spent(tuning)}", highlight=False)
    if error := tuning.standard_error:
        console.print(
            f"{tuning.holdout_images:,} held-out images tell accuracies apart to about ±{100 * error:.2f} points (one standard "
            f"error); smaller differences are chance, and {how_chosen(tuning)}.",
            highlight=False,
        )


def how_chosen(tuning: Tuning) -> str:
    """Half a sentence on which of the trials that cannot be told apart is chosen."""
    kind = tuning.comparable_kind
    if kind is None and len(tuning.level) > 1:
        return "of trials within it the best is chosen: there are no joules of one kind, of one machine, to compare them by"
    joules = "joules" if kind is None else f"{kind} joules"
    return f"of trials within it the one of fewest {joules} is chosen"


def spent(tuning: Tuning) -> str:
    """What the search cost, in a sentence."""
    joules = [f"{value / 1000:.3g} kJ ({kind})" for kind in KINDS if (value := tuning.energy_j(kind)) is not None]
    lost = sum(trial.spent is None for trial in tuning.trials)
    failed = f"; of {lost} failed only the seconds are known" if lost else ""
    figures = [
        plural(tuning.samples, "image"),
        f"{tuning.forward_macs:.3g} forward MACs",
        f"{tuning.duration_s:.0f} s",
    ]
    return f"They took {', '.join([*figures, *joules])}{failed}."
