"""The command `greenprune export`: the network of a run as a file for another runtime. `bench.export` does the work."""

from __future__ import annotations

import argparse
from pathlib import Path

from greenprune.bench.cli.arguments import typed
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import visible


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=command_export)
    command.add_argument("run", type=Path, metavar="RUN", help="folder of one run: results/<suite>/<run>")
    command.add_argument("--to", required=True, choices=("onnx", "openvino", "pt2"), help="format of the file")
    command.add_argument(
        "--int8", action="store_true", help="with 8-bit integers, whose ranges come from held-out images"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: RUN/exported/FORMAT)")
    command.add_argument("--data", metavar="DIR", help="data folder, for --int8")
    command.add_argument(
        "--trust", action="store_true", help="import a network module:name that the run names, and run it"
    )


def command_export(arguments: argparse.Namespace) -> int:
    """Write the files and say where they are.

    Raises:
        UserError: as of `export_run`, the folder cannot be written, or it holds files of somebody else.
    """
    from greenprune.bench.export.files import FILES  # it imports torch
    from greenprune.bench.export.markdown import CARD_FILE, PREPROCESSOR_FILE, is_card
    from greenprune.bench.export.packages import lacking
    from greenprune.bench.export.place import refuse_overwriting
    from greenprune.bench.export.run import export_run

    name = f"{arguments.to}-int8" if arguments.int8 else arguments.to
    out = arguments.out or arguments.run / "exported" / name
    if arguments.out is not None and not is_card(out / CARD_FILE):  # else an export lies there
        refuse_overwriting(out, (*FILES[arguments.to], CARD_FILE, PREPROCESSOR_FILE), "greenprune export")
    try:
        written = export_run(
            arguments.run, arguments.to, out, int8=arguments.int8, data_root=arguments.data, trust=arguments.trust,
            command=typed(),
        )  # fmt: skip
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e.strerror or e})") from None
    for path in written.files:
        print(visible(str(path)))
    if written.difference is None:
        print(f"outputs were not compared with eager PyTorch: {lacking('onnxruntime')}")
    else:
        print(f"outputs differ from eager PyTorch by {written.difference:.1e} of the largest")
    if not written.dynamic:
        print("it takes one image at a time: this network cannot be exported for batches of any size")
    return 0
