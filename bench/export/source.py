"""A network as Python source beside its tensors: what rebuilds it with torch and safetensors alone, without this package."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import torch
from greenprune.bench.errors import UserError
from greenprune.bench.export.check import Run, Written, apart, difference, refuse_different, taken_by
from greenprune.bench.export.program import INSIDE, logits_alone, program_of, quiet
from greenprune.methods import logits_of
from safetensors.torch import save_file
from torch import Tensor, nn

SOURCE_FILE = "network.py"
TENSORS_FILE = "model.safetensors"

HEAD = '''\
"""A pruned network. It needs torch and safetensors, and Pillow for `preprocess`; nothing else.

    network = load()                                    # in eval mode
    logits = network(preprocess(Image.open("picture.jpg")).unsqueeze(0))

It returns the logits alone, whatever else the network that was pruned returned beside them.
The operations are those of torch.export, of the network in eval mode: normalisation uses its stored statistics, and
dropout is off. Its weights can be trained on.
"""

import json
import math  # noqa: F401 - some operations use it
from pathlib import Path

import torch
from safetensors import safe_open
from torch import device, inf, nan, nn  # noqa: F401 - some operations use them

HERE = Path(__file__).resolve().parent


def load(file=HERE / "{tensors}"):
    """The network with its weights, on the CPU, in eval mode."""
    with safe_open(str(file), framework="pt") as stored:
        tensors = {{name: stored.get_tensor(name) for name in stored.keys()}}
        trained = set(json.loads(stored.metadata()["parameters"]))
    return Network(tensors, trained).eval()


def about(file=HERE / "{tensors}"):
    """What is known of the network: preprocessing, names of the classes, cost, scores."""
    with safe_open(str(file), framework="pt") as stored:
        return json.loads(stored.metadata()["about"])


def preprocess(picture, file=HERE / "{tensors}"):
    """A Pillow image as the network was trained on it: (C, H, W) float32."""
    from PIL import Image, ImageOps

    said = about(file).get("preprocessing")
    if said is None:
        raise ValueError("the network was trained on floats; prepare a picture as for the training")
    size, mean, std = said["image_size"], torch.tensor(said["mean"]), torch.tensor(said["std"])
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB" if len(mean) == 3 else "L")
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(size, size, len(mean))
    return ((pixels / 255 - mean) / std).permute(2, 0, 1)


class Network(nn.Module):
    """{shape} to logits."""

    def __init__(self, tensors, trained):
        super().__init__()
        for name, tensor in tensors.items():
            *path, leaf = name.split(".")
            place = self
            for part in path:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place._modules[part]
            if name in trained:
                place.register_parameter(leaf, nn.Parameter(tensor))
            else:
                place.register_buffer(leaf, tensor)

'''


def write_source(network: nn.Module, example: Tensor, folder: Path, about: dict[str, Any]) -> Written:
    """Write `folder/network.py` and `folder/model.safetensors`, once the source was run and compared.

    The source returns the logits alone, whatever else the network returns.

    Args:
        example: (B, ...) on the CPU, where the network is, too.
        about: plain data for the metadata of the tensors; `preprocessing`, where there is one, holds image_size, mean and std.

    Raises:
        UserError: torch.export cannot follow the network, its operations cannot be written down, or the source computes
            something else.
        OSError: the files cannot be written.
    """
    traced = logits_alone(network, example)
    program, dynamic = program_of(traced, example)
    with apart(folder) as place, taken_by("Python source"):
        _save(program, dynamic, tuple(example.shape[1:]), place, about, "" if traced is network else INSIDE)
        found = difference(_read(place), network, example, dynamic)
        refuse_different(SOURCE_FILE, found)
    return Written((folder / SOURCE_FILE, folder / TENSORS_FILE), found, dynamic)


def _save(
    program: torch.export.ExportedProgram,
    dynamic: bool,
    shape: tuple[int, ...],
    folder: Path,
    about: dict[str, Any],
    inside: str,
) -> None:
    """`inside`: what is taken off the names of tensors, which are those of the network."""
    with quiet():
        module = program.module(check_guards=False)
        module.graph.set_codegen(torch.fx.graph.CodeGen())
        _return_the_only(module.graph)
        module.recompile()
    tensors = {name.removeprefix(inside): tensor for name, tensor in _tensors(module).items()}
    names = (name.removeprefix(inside) for name, _ in module.named_parameters())
    trained = [name for name in names if name in tensors]
    code = _forward(module, inside)
    head = HEAD.format(tensors=TENSORS_FILE, shape=f"({', '.join(['B' if dynamic else '1', *map(str, shape)])})")
    source = head + "\n".join(f"    {line}".rstrip() for line in code.strip().splitlines()) + "\n"
    save_file(
        tensors, folder / TENSORS_FILE,
        metadata={"format": "pt", "about": json.dumps(about), "parameters": json.dumps(trained)},
    )  # fmt: skip
    (folder / SOURCE_FILE).write_text(source, encoding="utf-8")


def _read(folder: Path) -> Run:
    """What the source in `folder` makes of a batch."""
    spec = importlib.util.spec_from_file_location("_written_network", folder / SOURCE_FILE)
    assert spec is not None
    assert spec.loader is not None
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    network = module.load()
    return lambda batch: logits_of(network(batch))


def _return_the_only(graph: torch.fx.Graph) -> None:
    """An only output comes as itself, not in a tuple."""
    (last,) = graph.find_nodes(op="output")
    found = last.args[0]
    if isinstance(found, tuple | list) and len(found) == 1:
        last.args = (found[0],)


def _tensors(module: torch.fx.GraphModule) -> dict[str, Tensor]:
    """Whatever its operations read: parameters, buffers, constants."""
    found: dict[str, Tensor] = {}
    for node in module.graph.find_nodes(op="get_attr"):
        value: Any = module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if not isinstance(value, Tensor):
            raise UserError(f"this network cannot be written as source: {node.target} is no tensor")
        if node.users:
            found[str(node.target)] = value.detach().cpu().contiguous().clone()
    return found


def _forward(module: torch.fx.GraphModule, inside: str) -> str:
    """Its code without what nobody reads, such as counters of batches; `inside`: as of `_save`."""
    for node in reversed(module.graph.find_nodes(op="get_attr")):
        node.target = str(node.target).removeprefix(inside)
        if not node.users:
            module.graph.erase_node(node)
    module.recompile()
    return module.code
