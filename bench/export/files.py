"""A network as a file of one of the formats, checked against eager PyTorch.

written = write(network, example, "onnx", Path("out"))
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.export.onnx_model import PACKAGES, onnx_of, quantised
from greenprune.bench.export.packages import require
from greenprune.bench.export.program import quiet, relative_difference, write_pt2
from greenprune.methods import logits_of
from greenprune.methods.structure.modes import evaluating
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx

Format = Literal["onnx", "openvino", "pt2"]
FORMATS: tuple[Format, ...] = get_args(Format)

LARGEST_DIFFERENCE = 1e-3
"""max |difference| / max |output| in float32 up to which a file holds the same network."""


@dataclass(frozen=True)
class Written:
    """Attributes: files (the first is the one to open); difference from eager PyTorch, None where it was not run."""

    files: tuple[Path, ...]
    difference: float | None


def write(
    network: nn.Module,
    example: Tensor,
    to: Format,
    folder: Path,
    *,
    calibration: Sequence[Tensor] = (),
    about: dict[str, object] | None = None,
) -> Written:
    """Write model.onnx, model.xml and model.bin, or model.pt2 into `folder`, and run it once.

    Args:
        network: on the CPU; left as it was.
        example: (B, ...) float32, what it is compared on.
        calibration: batches of images; where they are given, the file computes with 8-bit integers.
        about: plain data that is stored inside the file, where the format takes any.

    Raises:
        UserError: a package is missing, the format cannot hold this network, or the file computes something else.
        OSError: it cannot be written.
    """
    if to == "pt2" and calibration:
        raise UserError("--int8: of pt2 there is none; allowed: with --to onnx or --to openvino")
    folder.mkdir(parents=True, exist_ok=True)
    with evaluating(network), torch.no_grad():
        expected = logits_of(network(example))
    notes = {key: json.dumps(value, ensure_ascii=False) for key, value in (about or {}).items()}
    if to == "pt2":
        path = folder / "model.pt2"
        write_pt2(network, example, path)
        with quiet(), torch.no_grad():
            found = logits_of(torch.export.load(path).module()(example))
        return _checked(Written((path,), relative_difference(found, expected)), exact=True)
    require(to, *PACKAGES, *(["openvino"] if to == "openvino" else ["onnxruntime"] if calibration else []))
    model, dynamic = onnx_of(network, example)
    if calibration:
        model = quantised(model, calibration)
    save = _save_openvino if to == "openvino" else _save_onnx
    files, found = save(model, example, folder, notes, dynamic)
    difference = None if found is None else relative_difference(found, expected)
    return _checked(Written(files, difference), exact=not calibration)


def _checked(written: Written, *, exact: bool) -> Written:
    if exact and written.difference is not None and not written.difference <= LARGEST_DIFFERENCE:
        raise UserError(
            f"{written.files[0]}: its results differ from those of eager PyTorch by {written.difference:.1e} of the "
            f"largest, more than {LARGEST_DIFFERENCE:g}; it is not to be used"
        )
    return written


def _save_onnx(
    model: onnx.ModelProto, example: Tensor, folder: Path, notes: dict[str, str], dynamic: bool
) -> tuple[tuple[Path, ...], Tensor | None]:
    import onnx

    for key, value in notes.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    path = folder / "model.onnx"
    onnx.save(model, path)
    try:
        import onnxruntime
    except ImportError:
        return (path,), None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return (path,), torch.from_numpy(session.run(None, {model.graph.input[0].name: example.contiguous().numpy()})[0])


def _save_openvino(
    model: onnx.ModelProto, example: Tensor, folder: Path, notes: dict[str, str], dynamic: bool
) -> tuple[tuple[Path, ...], Tensor | None]:
    import openvino

    core = openvino.Core()
    made = core.read_model(model.SerializeToString())
    for key, value in notes.items():
        made.set_rt_info(value, ["greenprune", key])
    path = folder / "model.xml"
    openvino.save_model(made, path, compress_to_fp16=False)
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = torch.from_numpy(compiled([example.contiguous().numpy()])[0].copy())
    return (path, path.with_suffix(".bin")), found
