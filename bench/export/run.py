"""The network of a finished run as a file, with its card."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from greenprune.bench.data.batches import evaluation_batches
from greenprune.bench.data.data import Dataset, limited
from greenprune.bench.data.load import is_there_again, load_again
from greenprune.bench.data.options import DataOptions
from greenprune.bench.errors import UserError
from greenprune.bench.export.card import card_of
from greenprune.bench.export.check import Written
from greenprune.bench.export.files import Format, write
from greenprune.bench.export.markdown import write_beside
from greenprune.bench.records.load import read_finished
from greenprune.bench.records.record import Record
from greenprune.bench.records.store import about_stored, load_model
from pydantic import ValidationError
from torch import Tensor

HELD_OUT_BATCHES, BATCH = 4, 64
RUNTIMES: dict[Format, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""What runs a file, as suites call it."""


def export_run(
    folder: Path,
    to: Format,
    out: Path,
    *,
    int8: bool = False,
    data_root: str | None = None,
    trust: bool = False,
    command: str = "",
) -> Written:
    """Write the network of the run in `folder` into `out`, with README.md and preprocessor.json beside it.

    Args:
        int8: 8-bit integers, whose ranges come from held-out images.
        data_root: where the data set lies.
        trust: as of `load_model`.

    Raises:
        UserError: there is no such run, its network cannot be read, or the format cannot hold it.
    """
    record = read_finished(folder)
    model = load_model(folder, trust=trust)
    about = about_stored(folder)
    example = torch.randn(4, *about.input_shape, generator=torch.Generator().manual_seed(0))
    calibration: list[Tensor] = []
    names: tuple[str, ...] = ()
    data = _data(record, data_root, needed=int8, trust=trust)
    if data is not None:
        names = data.class_names
    if int8:
        assert data is not None  # else an error said so
        batches = evaluation_batches(
            data.holdout, batch_size=BATCH, mean=about.mean or data.mean, std=about.std or data.std, device="cpu",
            channels_last=False,
        )  # fmt: skip
        calibration = [images for images, _ in islice(batches, HELD_OUT_BATCHES)]
        example = calibration[0][:4]
    noted = {"input_shape": about.input_shape, "mean": about.mean, "std": about.std, "class_names": names or None}
    written = write(
        model, example, to, out, calibration=calibration,
        about={key: value for key, value in noted.items() if value is not None},
    )  # fmt: skip
    card = card_of(
        record, to=to, precision="int8" if int8 else "float32", input_shape=about.input_shape, mean=about.mean,
        std=about.std, class_names=names, difference=written.difference, dynamic=written.dynamic,
        command=command or record.command, **({"score_value": _int8_score(record, to)} if int8 else {}),
    )  # fmt: skip
    beside = write_beside(card, out)
    return replace(written, files=(*written.files, *beside))


def _data(record: Record, root: str | None, *, needed: bool, trust: bool) -> Dataset | None:
    """The run's data set; None where it is not on this machine and not needed (for the names of the classes alone).

    Raises:
        UserError: it is needed, and cannot be had.
    """
    name, options = record.pair[0], record.settings.get("data")
    try:
        described = None if options is None else DataOptions.model_validate_json(json.dumps(options))
    except ValidationError as e:
        if not needed:
            return None
        raise UserError(
            f"{record.key}: what its settings say of its images cannot be used ({e.errors()[0]['msg']}); run it again"
        ) from None
    try:
        if not needed and not is_there_again(name, described, root):
            return None
        data = load_again(name, described, root, trust=trust)
        count = (record.settings.get("images") or {}).get("train")
        return data if count is None else limited(data, int(count))
    except UserError:
        if needed:
            raise
        return None


def _int8_score(record: Record, to: Format) -> float | None:
    """As the run measured it in the runtime of this format, where it did."""
    found = (s for s in record.served if (s.runtime, s.precision) == (RUNTIMES.get(to), "int8"))
    return next((s.test_score for s in found if s.test_score is not None), None)
