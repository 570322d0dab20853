"""A network as a file of one of the formats, checked against eager PyTorch.

written = write(network, example, "onnx", Path("out"))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.export.check import Run, Written, apart, difference, refuse_different, taken_by
from greenprune.bench.export.onnx_model import PACKAGES, onnx_of, quantised
from greenprune.bench.export.packages import lacking, require
from greenprune.bench.export.program import program_of, quiet
from greenprune.methods import logits_of
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx

Format = Literal["onnx", "openvino", "pt2"]
FORMATS: tuple[Format, ...] = get_args(Format)
FILES: dict[Format, tuple[str, ...]] = {
    "onnx": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "pt2": ("model.pt2",),
}
"""Names of what is written; the first is the one to open."""

READERS: dict[Format, str] = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "pt2": "torch.export"}


def write(
    network: nn.Module,
    example: Tensor,
    to: Format,
    folder: Path,
    *,
    calibration: Sequence[Tensor] = (),
    about: dict[str, object] | None = None,
) -> Written:
    """Write model.onnx, model.xml and model.bin, or model.pt2 into `folder`, once it was run and compared.

    Args:
        network: on the CPU; left as it was.
        example: (B, ...) float32, what it is compared on: all of it and one image of it.
        calibration: batches of images; where they are given, the file computes with 8-bit integers.
        about: plain data that is stored inside the file, where the format takes any.

    Raises:
        UserError: a package is missing, the format cannot hold this network, or the file computes something else.
        OSError: it cannot be written.
    """
    if to == "pt2" and calibration:
        raise UserError("--int8: of pt2 there is none; allowed: with --to onnx or --to openvino")
    save: Callable[[Path], Run | None]
    if to == "pt2":
        program, dynamic = program_of(network, example)
        save = partial(_save_pt2, program)
    else:
        require(to, *PACKAGES, *(["openvino"] if to == "openvino" else ["onnxruntime"] if calibration else []))
        model, dynamic = onnx_of(network, example)
        if calibration:
            model = quantised(model, calibration if dynamic else [one for each in calibration for one in each.split(1)])
        notes = {key: json.dumps(value, ensure_ascii=False) for key, value in (about or {}).items()}
        save = partial(_save_openvino if to == "openvino" else _save_onnx, model, notes)
    paths = tuple(folder / name for name in FILES[to])
    with apart(folder) as place, taken_by(READERS[to]):
        run = save(place)
        found = None if run is None else difference(run, network, example, dynamic)
        if found is not None and not calibration:
            refuse_different(str(paths[0]), found)
    return Written(paths, found, dynamic)


def _save_pt2(program: torch.export.ExportedProgram, folder: Path) -> Run:
    path = folder / FILES["pt2"][0]
    with quiet():
        torch.export.save(program, path)
        module = torch.export.load(path).module()
    return lambda batch: logits_of(module(batch))


def _save_onnx(model: onnx.ModelProto, notes: dict[str, str], folder: Path) -> Run | None:
    """None: there is nothing here that runs it."""
    import onnx

    for key, value in notes.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    path = folder / FILES["onnx"][0]
    onnx.save(model, path)
    if lacking("onnxruntime"):
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = model.graph.input[0].name
    return lambda batch: torch.from_numpy(session.run(None, {name: batch.contiguous().numpy()})[0])


def _save_openvino(model: onnx.ModelProto, notes: dict[str, str], folder: Path) -> Run:
    import openvino

    core = openvino.Core()
    made = core.read_model(model.SerializeToString())
    for key, value in notes.items():
        made.set_rt_info(value, ["greenprune", key])
    path = folder / FILES["openvino"][0]
    openvino.save_model(made, path, compress_to_fp16=False)
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda batch: torch.from_numpy(compiled([batch.contiguous().numpy()])[0].copy())
