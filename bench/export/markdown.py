"""What lies beside an exported network: its card as README.md, as the Hugging Face Hub reads it, and preprocessor.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from greenprune.bench.export.card import Card
from greenprune.bench.foreign import markdown_cell, one_line
from greenprune.bench.records.stored import write_atomically
from greenprune.bench.text import plural

CARD_FILE, PREPROCESSOR_FILE = "README.md", "preprocessor.json"
PIPELINES = {"classification": "image-classification", "segmentation": "image-segmentation"}
LIBRARIES = {"onnx": "onnx", "openvino": "openvino", "pt2": "pytorch"}
PIXELS = "(pixels / 255 - mean) / std, channels first"
UNKNOWN = "channels first, prepared as for the training (no mean and standard deviation are known)"
TAGS = ("greenprune", "pruning")


def markdown(card: Card) -> str:
    """The card: front matter, then what a reader wants to know."""
    front: dict[str, Any] = {
        "library_name": LIBRARIES[card.to],
        "license": card.licence or "other",
        "pipeline_tag": PIPELINES.get(card.task),
        "datasets": [card.dataset],
        "tags": [*TAGS, *(["int8"] if card.precision == "int8" else [])],
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
    by = f", pruned with {markdown_cell(card.method)}" if card.method else ""
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
    ]
    if card.connections is not None:
        left, dense = card.connections
        lines.append(f"| connections (weights that are not 0) | {left:,} | {dense:,} | {left / dense:.3f} |")
    lines.append("")
    if card.budget:
        lines += [f"Budget: {markdown_cell(card.budget)}.", ""]
    if card.invalid_reason:
        lines += [f"**The run is not valid:** {markdown_cell(card.invalid_reason)}.", ""]
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
        f"Input: float32 of the shape {_shape(card)}, {UNKNOWN if card.mean is None else PIXELS}; see `{PREPROCESSOR_FILE}`.",
    ]
    lines.append(
        "Output: the logits. Of a network that returns more, `model.pt2` returns all, and other files the logits alone."
        if card.to == "pt2" else "Output: the logits alone, whatever else the network returns."
    )  # fmt: skip
    if card.class_names:
        lines.append("The classes are named there, in the order of the outputs.")
    if not card.dynamic:
        lines.append("It takes one image at a time: this network cannot be exported for batches of any size.")
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
    return f"({', '.join(['batch' if card.dynamic else '1', *map(str, card.input_shape)])})"


def markdown_safe(text: str) -> str:
    return one_line(text).replace("<", "&lt;")


def is_card(path: Path) -> bool:
    """Whether a card of greenprune lies there, also where somebody has stated a licence in it since."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith(f"tags: {json.dumps(TAGS)[:-1]}") for line in lines)


def write_beside(card: Card, folder: Path) -> list[Path]:
    """Write the card and preprocessor.json into `folder`. Raises OSError."""
    about = {
        "input_shape": list(card.input_shape),
        "layout": "NCHW",
        "normalisation": None if card.mean is None else PIXELS,
        "mean": None if card.mean is None else list(card.mean),
        "std": None if card.std is None else list(card.std),
        "class_names": list(card.class_names) or None,
    }
    return [
        write_atomically(folder / CARD_FILE, markdown(card)),
        write_atomically(folder / PREPROCESSOR_FILE, json.dumps(about, indent=1, ensure_ascii=False) + "\n"),
    ]
