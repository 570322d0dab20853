"""The files that serve a pruned network: its source and tensors, an exported program, ONNX, a model card, and the report."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.export.card import card_of, write_beside
from greenprune.bench.export.files import LARGEST_DIFFERENCE, Format, write
from greenprune.bench.export.onnx_model import PACKAGES as ONNX_PACKAGES
from greenprune.bench.export.packages import lacking, version
from greenprune.bench.export.program import relative_difference
from greenprune.bench.export.source import SOURCE_FILE, TENSORS_FILE, write_source
from greenprune.bench.prune.both import Both
from greenprune.bench.records.store import about_stored, load_model
from greenprune.methods import logits_of
from torch import Tensor, nn

REPORT_FILE = "report.html"


@dataclass
class Delivered:
    """What was written: what each file is for, by name; what a reader has to know; what went wrong, a sentence each."""

    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def deliver(both: Both, out: Path, class_names: Sequence[str], command: str) -> Delivered:
    """Write everything into `out`; each file is read back and compared with the network.

    Args:
        command: that was given, for the card.

    Raises:
        UserError: the stored network cannot be made anew.
        OSError: nothing can be written.
    """
    done = Delivered()
    network = load_model(both.pruned_folder, trust=True)  # the user named its code on the command line
    stored = about_stored(both.pruned_folder)
    channels, size, _ = stored.input_shape
    example = torch.randn(4, *stored.input_shape, generator=torch.Generator().manual_seed(0))
    preprocessing = {"image_size": size, "channels": channels, "mean": stored.mean, "std": stored.std}
    about = {
        "made_with": f"greenprune {version('greenprune')}",
        "preprocessing": preprocessing,
        "class_names": list(class_names),
        **both.about(),
    }
    try:
        _write_source(network, example, out, about)
        done.files[SOURCE_FILE] = f"the network as source; with {TENSORS_FILE} it needs torch and safetensors alone"
        done.files[TENSORS_FILE] = "its tensors, with preprocessing and names of the classes in the metadata"
    except UserError as e:
        done.problems.append(f"{out / SOURCE_FILE}: {e}")
    to: Format
    for to, what in (("pt2", "an exported program, for torch.export.load"), ("onnx", "for ONNX Runtime and others")):
        if to == "onnx" and (missing := lacking(*ONNX_PACKAGES)):
            done.notes.append(f"model.onnx was not written: {missing}")
            continue
        try:
            written = write(network, example, to, out, about=about)
            done.files[written.files[0].name] = what
        except UserError as e:
            done.problems.append(f"{out}: as {to}: {e}")
    card = card_of(
        both.pruned, to="pt2", precision="float32", input_shape=stored.input_shape, mean=stored.mean, std=stored.std,
        class_names=tuple(class_names), command=command,
    )  # fmt: skip
    done.files |= {path.name: "what a reader of the files has to know" for path in write_beside(card, out)}
    if (report := both.folder / REPORT_FILE).is_file():
        shutil.copyfile(report, out / REPORT_FILE)
        done.files[REPORT_FILE] = "both runs: score, cost, energy, power over time"
    return done


def _write_source(network: nn.Module, example: Tensor, out: Path, about: dict[str, Any]) -> None:
    """Raises UserError: it cannot be written as source, or the source computes something else."""
    write_source(network, example, out, about)
    with torch.no_grad():
        difference = relative_difference(_of_source(out, example), logits_of(network(example)))
    if not difference <= LARGEST_DIFFERENCE:
        raise UserError(
            f"its results differ from the network's by {difference:.1e} of the largest; it is not to be used"
        )


def _of_source(folder: Path, example: Tensor) -> Tensor:
    """What the written source makes of `example`."""
    spec = importlib.util.spec_from_file_location("_delivered_network", folder / SOURCE_FILE)
    assert spec is not None
    assert spec.loader is not None
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return logits_of(module.load()(example))
    finally:
        sys.dont_write_bytecode = before
