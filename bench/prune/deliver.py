"""The files that serve a pruned network: its source and tensors, an exported program, ONNX, a model card, and the report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.export.card import card_of
from greenprune.bench.export.check import Written
from greenprune.bench.export.files import FILES, Format, write
from greenprune.bench.export.markdown import CARD_FILE, PREPROCESSOR_FILE, write_beside
from greenprune.bench.export.onnx_model import PACKAGES as ONNX_PACKAGES
from greenprune.bench.export.packages import lacking, version
from greenprune.bench.export.source import SOURCE_FILE, TENSORS_FILE, write_source
from greenprune.bench.prune.both import Both
from greenprune.bench.records.store import About, about_stored, load_model

REPORT_FILE = "report.html"
NAMES = (
    SOURCE_FILE,
    TENSORS_FILE,
    *FILES["pt2"],
    *FILES["onnx"],
    CARD_FILE,
    PREPROCESSOR_FILE,
    REPORT_FILE,
)
"""Of all that may be delivered."""


@dataclass
class Delivered:
    """What was written: what each file is for, by name; what a reader has to know; what went wrong, a sentence each."""

    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def deliver(both: Both, out: Path, class_names: Sequence[str], command: str) -> Delivered:
    """Write everything into `out`; each file is read back and compared with the network, where there is what reads it.

    Args:
        command: that was given, for the card.

    Raises:
        UserError: the stored network cannot be made anew.
        OSError: nothing can be written.
    """
    done, networks = Delivered(), list[Written]()
    network = load_model(both.pruned_folder, trust=True)  # the user named its code on the command line
    stored = about_stored(both.pruned_folder)
    example = torch.randn(4, *stored.input_shape, generator=torch.Generator().manual_seed(0))
    about = {
        "made_with": f"greenprune {version('greenprune')}",
        **_preprocessing(stored),
        "class_names": list(class_names),
        **both.about(),
    }
    told = "preprocessing and names of the classes" if stored.mean else "names of the classes"
    try:
        networks.append(write_source(network, example, out, about))
        done.files[SOURCE_FILE] = f"the network as source; with {TENSORS_FILE} it needs torch and safetensors alone"
        done.files[TENSORS_FILE] = f"its tensors, with {told} in the metadata"
    except UserError as e:
        done.problems.append(f"{out / SOURCE_FILE}: {e}")
    to: Format
    for to, what in (("pt2", "an exported program, for torch.export.load"), ("onnx", "for ONNX Runtime and others")):
        if to == "onnx" and (missing := lacking(*ONNX_PACKAGES)):
            done.notes.append(f"model.onnx was not written: {missing}")
            continue
        try:
            networks.append(write(network, example, to, out, about=about))
            done.files[FILES[to][0]] = what
        except UserError as e:
            done.problems.append(f"{out}: as {to}: {e}")
            continue
        if networks[-1].difference is None:
            done.notes.append(f"{FILES[to][0]} was not read back: {lacking('onnxruntime')}")
    dynamic = all(written.dynamic for written in networks)
    if not dynamic:
        done.notes.append("The files take one image at a time: this network cannot be exported for batches of any size")
    if stored.mean is None:
        done.notes.append(
            "The images come from the factory as floats: no preprocessing is delivered, prepare them as it does"
        )
    card = card_of(
        both.pruned, to="pt2", precision="float32", input_shape=stored.input_shape, mean=stored.mean, std=stored.std,
        class_names=tuple(class_names), command=command, dynamic=dynamic,
        difference=max((w.difference for w in networks if w.difference is not None), default=None),
    )  # fmt: skip
    done.files |= {path.name: "what a reader of the files has to know" for path in write_beside(card, out)}
    if (report := both.folder / REPORT_FILE).is_file():
        shutil.copyfile(report, out / REPORT_FILE)
        done.files[REPORT_FILE] = "both runs: score, cost, energy, power over time"
    return done


def _preprocessing(stored: About) -> dict[str, Any]:
    """How a picture becomes an input; of images that came as floats nothing, greenprune did not prepare them."""
    if stored.mean is None:
        return {}
    channels, size, _ = stored.input_shape
    return {"preprocessing": {"image_size": size, "channels": channels, "mean": stored.mean, "std": stored.std}}
