"""What lies beside an exported network: a model card in the format of the Hugging Face Hub, and preprocessor.json.

Plain data and text: whoever has no record of a run (a network pruned on its own) makes a `Card` of what is known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from greenprune.bench.foreign import markdown_cell, one_line
from greenprune.bench.records.inference import Inference
from greenprune.bench.records.record import Record
from greenprune.bench.records.score import Score
from greenprune.bench.records.stored import write_atomically
from greenprune.bench.text import plural, told_count

CARD_FILE, PREPROCESSOR_FILE = "README.md", "preprocessor.json"
PIPELINES = {"classification": "image-classification", "segmentation": "image-segmentation"}
LIBRARIES = {"onnx": "onnx", "openvino": "openvino", "pt2": "pytorch"}
PIXELS = "(pixels / 255 - mean) / std, channels first"


@dataclass(frozen=True)
class Measured:
    """One row of the card's table: the network in a runtime at a batch size."""

    runtime: str
    precision: str
    batch_size: int
    latency_ms: float
    latency_ratio: float | None = None  # to the dense network
    energy: dict[str, tuple[float, float | None]] = field(default_factory=dict)  # by kind: J per 1,000 images, ratio


@dataclass(frozen=True)
class Card:
    """What is known of an exported network. Units: MACs for one image, ms per batch.

    Attributes:
        score_interval: 95 %, of the share of images that are right; None for scores of another kind.
        licence: of the weights, as an identifier of the Hub; empty: not stated.
    """

    name: str
    network: str  # the dense network that it was cut out of
    task: str
    dataset: str
    to: str  # "onnx", "openvino", "pt2"
    precision: str  # "float32", "int8"
    macs: int
    macs_dense: int
    params: int
    params_dense: int
    input_shape: tuple[int, ...]
    method: str = ""
    budget: str = ""
    score: Score | None = None
    score_value: float | None = None
    score_interval: tuple[float, float] | None = None
    test_images: int | None = None
    measured: tuple[Measured, ...] = ()
    machine: str = ""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] = ()
    licence: str = ""
    difference: float | None = None  # of the file from eager PyTorch, max |difference| / max |output|
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def card_of(record: Record, *, to: str, precision: str, input_shape: tuple[int, ...], **more: Any) -> Card:
    """The card of a finished run's network; `more`: other fields of `Card`."""
    assert record.cost is not None  # it is done
    task = record.settings.get("task")
    images = (record.settings.get("images") or {}).get("test")
    value = record.test_score
    if precision == "int8":  # that of float32 is none of this file
        value = more.pop("score_value", None)
    score = record.score
    right = score is not None and score.name == "accuracy"
    return Card(
        name=f"{record.suite}-{record.key}",
        network=record.pair[1],
        task=str(task.get("name")) if isinstance(task, dict) else "classification",
        dataset=record.pair[0],
        to=to,
        precision=precision,
        macs=record.cost.macs,
        macs_dense=record.cost.macs_dense,
        params=record.cost.params,
        params_dense=record.cost.params_dense,
        input_shape=input_shape,
        method=record.method,
        budget=f"{record.budget:g} of the dense {record.cost.kind}" if record.budget < 1 else "",
        score=score,
        score_value=value,
        score_interval=interval(value, images) if right and value is not None and images else None,
        test_images=images,
        measured=tuple(_measured(record)),
        machine=", ".join(
            str(record.machine[key]) for key in ("gpu", "cpu") if record.machine.get(key)
        ) + (f", {told_count(record.machine['threads'], 'thread')}" if record.machine.get("threads") else ""),
        versions=record.versions,
        **more,
    )  # fmt: skip


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` images."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def _measured(record: Record) -> Sequence[Measured]:
    precision = str((record.settings.get("training") or {}).get("precision", "float32"))
    found = [_row("eager", record.identity.precision or precision, part) for part in record.inference]
    for served in record.served:
        found += [_row(served.runtime, served.precision, part) for part in served.inference]
    return found


def _row(runtime: str, precision: str, part: Inference) -> Measured:
    energy = {
        str(kind): (value, part.energy_ratio[kind][0] if kind in part.energy_ratio else None)
        for kind, (value, _, _) in part.energy_j_per_1000_images.items()
    }
    return Measured(runtime, precision, part.batch_size, part.latency.median_ms, part.latency_ratio, energy)


def markdown(card: Card) -> str:
    """The card: front matter, then what a reader wants to know."""
    front: dict[str, Any] = {
        "library_name": LIBRARIES[card.to],
        "license": card.licence or "other",
        "pipeline_tag": PIPELINES.get(card.task),
        "datasets": [card.dataset],
        "tags": ["greenprune", "pruning", *(["int8"] if card.precision == "int8" else [])],
    }
    if not card.licence:
        front |= {"license_name": "not-stated", "license_link": "README.md"}
    if card.score is not None and card.score_value is not None:
        metric = {"type": card.score.name, "value": card.score_value}
        front["metrics"] = [card.score.name]
        front["model-index"] = [
            {
                "name": card.name,
                "results": [
                    {
                        "task": {"type": PIPELINES.get(card.task, card.task)},
                        "dataset": {"type": card.dataset, "name": card.dataset, "split": "test"},
                        "metrics": [metric],
                    }
                ],
            }
        ]
    # JSON is YAML: no text of a record can end a value and begin another key.
    head = [f"{key}: {json.dumps(value)}" for key, value in front.items() if value is not None]
    return "\n".join(["---", *head, "---", "", *_body(card)]) + "\n"


def _body(card: Card) -> list[str]:
    by = f", pruned with {markdown_cell(card.method)}" if card.macs < card.macs_dense else ""
    lines = [
        f"# {markdown_cell(card.name)}",
        "",
        f"{markdown_cell(card.network)}{by}, for {markdown_cell(card.task)} on {markdown_cell(card.dataset)}, in "
        f"{card.precision}. Made with greenprune.",
        "",
        "| | this network | dense | ratio |",
        "| --- | ---: | ---: | ---: |",
        f"| MACs for one image | {card.macs:,} | {card.macs_dense:,} | {card.macs / card.macs_dense:.3f} |",
        f"| parameters | {card.params:,} | {card.params_dense:,} | {card.params / card.params_dense:.3f} |",
        "",
    ]
    if card.budget:
        lines += [f"Budget: at most {card.budget}.", ""]
    if card.score is not None and card.score_value is not None:
        told = f"{card.score.name} on the test set: **{card.score.text(card.score_value)}**"
        if card.score_interval is not None and card.test_images:
            low, high = (card.score.text(value) for value in card.score_interval)
            told += f" (95 % interval {low} to {high}, of {plural(card.test_images, 'image')}; one training)"
        lines += [markdown_safe(told) + ".", ""]
    else:
        lines += ["The score of this file was not measured.", ""]
    lines += _table(card)
    lines += [
        "## Input and output",
        "",
        f"Input: float32 of the shape {_shape(card)}, {PIXELS}; see `{PREPROCESSOR_FILE}`.",
    ]
    if card.class_names:
        lines.append("The classes are named there, in the order of the outputs.")
    if card.difference is not None:
        lines.append(
            f"Checked against eager PyTorch: outputs differ by at most {card.difference:.1e} of the largest output."
        )
    lines += ["", "## Licence", ""]
    lines.append(
        f"Weights: {markdown_cell(card.licence)}." if card.licence else
        "Weights: not stated; whoever publishes them states it in `license` above (now `other`)."
    )  # fmt: skip
    lines.append(f"Data: that of {markdown_cell(card.dataset)}; see its publisher.")
    if card.command:
        lines += ["", "## How it was made", "", "```", one_line(card.command).replace("```", ""), "```"]
    if card.versions:
        lines += ["", ", ".join(f"{markdown_cell(k)} {markdown_cell(v)}" for k, v in card.versions.items()) + "."]
    return lines


def _table(card: Card) -> list[str]:
    if not card.measured:
        return ["Time and energy were not measured.", ""]
    kinds = list(dict.fromkeys(kind for row in card.measured for kind in row.energy))
    heads = [f"J for 1,000 images ({kind}) | to dense" for kind in kinds]
    lines = [
        "## Time and energy of inference",
        "",
        f"Measured beside the dense network on {markdown_cell(card.machine or 'a machine that is not named')}.",
        "",
        " | ".join(["| runtime | precision | batch size | ms for a batch | to dense", *heads]) + " |",
        "| --- | --- |" + " ---: |" * (3 + 2 * len(kinds)),
    ]
    for row in card.measured:
        cells = [
            markdown_cell(row.runtime),
            row.precision,
            str(row.batch_size),
            f"{row.latency_ms:.4g}",
            _ratio(row.latency_ratio),
        ]
        for kind in kinds:
            joules, ratio = row.energy.get(kind, (None, None))
            cells += ["–" if joules is None else f"{joules:.4g}", _ratio(ratio)]
        lines.append("| " + " | ".join(cells) + " |")
    if "modelled" in kinds:
        lines += ["", "Modelled joules come from processor time and a power per core, not from a sensor."]
    return [*lines, ""]


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}×"


def _shape(card: Card) -> str:
    return f"({', '.join(['batch', *map(str, card.input_shape)])})"


def markdown_safe(text: str) -> str:
    return one_line(text).replace("<", "&lt;")


def write_beside(card: Card, folder: Path) -> list[Path]:
    """Write the card and preprocessor.json into `folder`. Raises OSError."""
    about = {
        "input_shape": list(card.input_shape),
        "layout": "NCHW",
        "normalisation": PIXELS,
        "mean": None if card.mean is None else list(card.mean),
        "std": None if card.std is None else list(card.std),
        "class_names": list(card.class_names) or None,
    }
    return [
        write_atomically(folder / CARD_FILE, markdown(card)),
        write_atomically(folder / PREPROCESSOR_FILE, json.dumps(about, indent=1, ensure_ascii=False) + "\n"),
    ]
