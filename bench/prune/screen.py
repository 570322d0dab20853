"""What `greenprune prune` says at its end, on one screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from greenprune.bench.energy.reading import KINDS, Kind
from greenprune.bench.export.card import interval
from greenprune.bench.prune.both import Both
from greenprune.bench.records.inference import Inference
from greenprune.bench.records.record import Record
from greenprune.bench.text import plural
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def screen(both: Both, out: Path, files: dict[str, str], notes: list[str]) -> RenderableType:
    """Before and after with intervals, in words what they mean, and the files.

    Args:
        out: where the files are.
        files: what each is for, by name.
        notes: a sentence each without its full stop.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("unpruned", both.pruned.method, "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows(both):
        table.add_row(*row)
    said = [Text(f"{line}.") for line in (*_sentences(both), *notes)]
    written = [Text(f"  {name}: {what}") for name, what in files.items()]
    return Group(table, *said, Text(f"{out}:"), *written)


def rows(both: Both) -> Iterator[tuple[str, str, str, str]]:
    """What is compared: what it is, before, after, and after / before."""
    score = both.dense.score
    if score is not None and both.dense.test_score is not None and both.pruned.test_score is not None:
        difference = score.shown(both.pruned.test_score - both.dense.test_score)
        unit = " points" if score.share else ""
        yield score.label, _score(both.dense), _score(both.pruned), f"{difference:+.2f}{unit}"
    cost = both.pruned.cost
    assert cost is not None
    before, after = (both.size_bytes(record) for record in (both.dense, both.pruned))
    yield "size, MB", f"{before / 1e6:.3g}", f"{after / 1e6:.3g}", f"{after / before:.3f}"
    yield (
        "million MACs",
        f"{cost.macs_dense / 1e6:.4g}",
        f"{cost.macs / 1e6:.4g}",
        f"{cost.kept_macs:.3f}",
    )
    for i in both.inference:
        ratio = f"{i.latency_ratio:.3f} [{i.latency_ratio_low:.2f}, {i.latency_ratio_high:.2f}]"
        yield f"ms, batch {i.batch_size}", f"{i.dense_latency.median_ms:.3g}", f"{i.latency.median_ms:.3g}", ratio
        yield from _joules(i)
    for kind in KINDS:
        trained = [record.energy["training"].energy_j(kind) for record in (both.dense, both.pruned)]
        if None not in trained:
            dense_j, pruned_j = (float(j or 0) for j in trained)
            ratio = f"{pruned_j / dense_j:.3f}" if dense_j else "–"
            yield f"J of training\n({kind})", f"{dense_j:,.4g}", f"{pruned_j:,.4g}", ratio
            break


def _joules(i: Inference) -> Iterator[tuple[str, str, str, str]]:
    kind = _kind(i)
    if kind is None:
        return
    before, after = i.dense_energy_j_per_1000_images[kind], i.energy_j_per_1000_images[kind]
    ratio = i.energy_ratio.get(kind)
    told = "–" if ratio is None else f"{ratio[0]:.3f} [{ratio[1]:.2f}, {ratio[2]:.2f}]"
    yield f"J/1,000, batch {i.batch_size}", f"{before[0]:.3g}", f"{after[0]:.3g}", told


def _kind(i: Inference) -> Kind | None:
    """The best kind of joules that both networks have."""
    return next((k for k in KINDS if k in i.energy_j_per_1000_images and k in i.dense_energy_j_per_1000_images), None)


def _score(record: Record) -> str:
    score, value = record.score, record.test_score
    assert score is not None
    assert value is not None
    if not (score.share and score.name == "accuracy"):  # of other shares nobody knows how many trials they are of
        return score.text(value).removesuffix("%")
    low, high = interval(value, record.settings["images"]["test"])
    return f"{100 * value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"


def _sentences(both: Both) -> Iterator[str]:
    """What a reader has to know, a sentence each without its full stop."""
    if both.pruned.valid is False:
        yield f"The run is not valid: {both.pruned.invalid_reason}"
    yield (
        f"Both were trained alike, on the same {plural(both.pruned.settings['images']['train'], 'image')} for "
        f"{plural(both.pruned.settings['training']['epochs'], 'epoch')}; brackets are 95 % intervals, of the score over test "
        "images alone, not over other seeds"
    )
    kinds = {i.batch_size: kind for i in both.inference if (kind := _kind(i)) is not None}
    if set(kinds.values()) == {"modelled"}:
        yield "Joules, of inference for 1,000 images, are modelled from processor time: there is no sensor that could be read"
    elif len(set(kinds.values())) == 1:
        yield f"Joules of inference are {next(iter(kinds.values()))}, for 1,000 images"
    elif kinds:
        told = ", ".join(f"{kind} with batch {size}" for size, kind in kinds.items())
        yield f"Joules of inference, for 1,000 images, are {told}"
    slower = [i.batch_size for i in both.inference if i.latency_ratio_low > 1]
    if slower:
        yield f"Fewer multiply-accumulates did not save time: slower with batches of {', '.join(map(str, slower))}"
