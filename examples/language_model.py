"""A small language model that loses half of its cost while it trains, in a training loop of its own.

    python examples/language_model.py --steps 600 --record run.json

A Llama with four layers (transformers) learns to predict the bytes of the standard library's sources, twice from the same
weights and with the same batches: dense, and gated with half of the multiply-accumulates to keep. Both then read files
that they were not trained on: perplexity and joules per token, which is a byte here, in blocks that alternate.

What a suite does for image classifiers is left out here; the library is used as in any loop: `ConsensusGating`
for the network, `EnergyMeter` for the joules. Needs transformers: `python -m pip install ".[networks]"`.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import sysconfig
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from greenprune.bench.inference.repeat import Repeated, repeat_until
from greenprune.bench.machine.machine import describe_machine
from greenprune.methods import count_macs
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from greenprune import ConsensusGating, EnergyMeter

KINDS = ("measured", "sampled", "modelled")
"""Of joules, the best first; see docs/explanation/joules.md."""

RATE = 2e-3
"""Learning rate of AdamW. Gate heads get five times as much: they have a quarter of the search, a tenth of all steps, to
decide, and a step of Adam is no longer where the gradient is strong."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, metavar="N", help="optimizer steps of each training (600)")
    parser.add_argument("--keep", type=float, default=0.5, metavar="F", help="MACs that gated may keep (0.5)")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="windows of text in a step (32)")
    parser.add_argument("--length", type=int, default=64, metavar="N", help="bytes in a window (64)")
    parser.add_argument("--width", type=int, default=96, metavar="N", help="of the residual stream (96)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--files", type=int, default=None, metavar="N", help="read only so many files; by default all")
    parser.add_argument(
        "--tested-bytes", type=int, default=200_000, metavar="N", help="held-out text that is read (200000)"
    )
    parser.add_argument("--measure-s", type=float, default=30.0, metavar="S", help="seconds of measuring at most (30)")
    parser.add_argument(
        "--record",
        type=Path,
        default=None,
        metavar="FILE",
        help="write everything there, as JSON, and table.md beside it",
    )
    return parser


def sources(files: int | None = None) -> tuple[Tensor, Tensor]:
    """The standard library without its tests, as bytes: to train on, and every tenth file to test on."""
    folder = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    paths = sorted(p for p in folder.rglob("*.py") if not left_out & set(p.relative_to(folder).parts))[:files]
    texts = [p.read_bytes() for p in paths]
    held_out = b"".join(texts[::10])
    trained = b"".join(text for i, text in enumerate(texts) if i % 10)
    return tuple(torch.frombuffer(bytearray(text), dtype=torch.uint8) for text in (trained, held_out))


def language_model(width: int, length: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256,  # bytes
            hidden_size=width,
            intermediate_size=8 * width // 3,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=length,
            use_cache=False,
        )
    )


def windows(text: Tensor, starts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """(B, length) bytes from each start on, and the byte that follows each of them."""
    found = text[starts[:, None] + torch.arange(length + 1)].long()
    return found[:, :-1], found[:, 1:]


def train(network: nn.Module, text: Tensor, args: argparse.Namespace, meter: EnergyMeter, name: str) -> dict[str, Any]:
    """Train in place: AdamW, warm-up, cosine. What gating adds to an ordinary loop is where `gating` is named."""
    gating = network if isinstance(network, ConsensusGating) else None
    heads = {id(p) for head in gating.heads() for p in head.parameters()} if gating else set()
    groups = [
        {"params": [p for p in network.parameters() if id(p) not in heads]},
        {"params": [p for p in network.parameters() if id(p) in heads], "weight_decay": 0.0, "lr": 5 * RATE},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=RATE, weight_decay=0.1)
    warmup = max(1, args.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / args.steps)),
    )
    order = torch.Generator().manual_seed(args.seed)
    network.train()
    began_s = time.perf_counter()
    with meter.window(f"training {name}") as window:
        for step in range(args.steps):
            starts = torch.randint(len(text) - args.length, (args.batch,), generator=order)
            x, y = windows(text, starts, args.length)
            loss = F.cross_entropy(network(input_ids=x).logits.flatten(0, 1), y.flatten())
            (loss + gating.penalty() if gating else loss).backward()
            optimizer.step()
            optimizer.zero_grad()
            if gating:
                gating.step(optimizer)
            schedule.step()
            if step % 50 == 49 or step == args.steps - 1:
                print(f"{name}: step {step + 1} of {args.steps}, loss {float(loss.detach()):.3f}", flush=True)
    trained = args.steps * args.batch * args.length
    joules = per_token([window.reading], trained, shared_kind([window.reading]))
    return {"tokens": trained, "duration_s": round(time.perf_counter() - began_s, 2), **joules}


@torch.inference_mode()
def perplexity(network: nn.Module, text: Tensor, args: argparse.Namespace) -> float:
    """exp of the mean loss per token over the held-out text, in windows that do not overlap."""
    starts = torch.arange(0, min(len(text), args.tested_bytes) - args.length, args.length)
    losses = []
    for part in starts.split(args.batch):
        x, y = windows(text, part, args.length)
        losses.append(F.cross_entropy(network(input_ids=x).logits.flatten(0, 1), y.flatten(), reduction="none"))
    return math.exp(float(torch.cat(losses).mean()))


def measured(
    networks: list[nn.Module], text: Tensor, args: argparse.Namespace, meter: EnergyMeter
) -> list[dict[str, Any]]:
    """Joules per token of reading: blocks of both networks alternate, so that both see the same machine."""
    x, _ = windows(text, torch.arange(args.batch) * args.length, args.length)

    read_so_far: list[Any] = []

    def block(network: nn.Module) -> Any:
        def read() -> Any:
            began_s = time.perf_counter()
            with torch.inference_mode(), meter.window("reading") as window:
                while time.perf_counter() - began_s < args.measure_s / 40:
                    network(input_ids=x)
                    window.count(tokens=x.numel())
            read_so_far.append(window.reading)
            return window.reading

        return read

    def joules(reading: Any) -> float:
        kind = shared_kind(read_so_far)
        figure = reading.duration_s if kind is None else reading.energy_j(kind)  # of times where no joules are told
        return figure / reading.units["tokens"]

    dense, gated = (block(network) for network in networks)
    dense(), gated()  # the first reads cost more
    read_so_far.clear()
    found: Repeated[Any] = repeat_until(gated, dense, joules, ci=0.01, limit_s=args.measure_s, seed=args.seed)
    ratio = {"ratio_to_dense": found.ratio, "low_ratio": found.low, "high_ratio": found.high, "pairs": found.pairs}
    counts = [sum(reading.units["tokens"] for reading in side) for side in (found.b, found.a)]
    kind = shared_kind(read_so_far)
    return [per_token(found.b, counts[0], kind), per_token(found.a, counts[1], kind) | ratio]


def shared_kind(readings: list[Any]) -> str | None:
    """The best kind of joules that every one of the readings tells: only joules of one kind can be compared."""
    return next((kind for kind in KINDS if all(r.energy_j(kind) is not None for r in readings)), None)


def per_token(readings: Any, count: float, kind: str | None) -> dict[str, Any]:
    """Joules of this kind over `count` tokens with their bounds; None of each where there is no kind."""
    if kind is None:
        return {"kind": None, "j_per_token": None, "low_j_per_token": None, "high_j_per_token": None}
    bounds = [r.bounds_j(kind) for r in readings]
    return {
        "kind": kind,
        "j_per_token": sum(r.energy_j(kind) for r in readings) / count,
        "low_j_per_token": sum(low for low, _ in bounds) / count,
        "high_j_per_token": sum(high for _, high in bounds) / count,
    }


def main(argv: list[str]) -> dict[str, Any]:
    args = arguments().parse_args(argv)
    trained, held_out = sources(args.files)
    meter = EnergyMeter("cpu")
    example = {"input_ids": windows(trained, torch.tensor([0, 1]), args.length)[0]}

    dense = language_model(args.width, args.length, args.seed)
    dense_macs = count_macs(dense, example)
    before = perplexity(dense.eval(), held_out, args)
    print(f"{len(trained):,} bytes to train on, {len(held_out):,} held out; perplexity untrained {before:.1f}")
    of_dense = train(dense, trained, args, meter, "dense")

    gating = ConsensusGating(
        language_model(args.width, args.length, args.seed),
        example,
        keep=args.keep,
        steps=args.steps,
        seed=args.seed,
    )
    of_gated = train(gating, trained, args, meter, "gated")
    gated = gating.finish()

    reading = measured([dense.eval(), gated.eval()], held_out, args, meter)
    results = {}
    for name, network, training, joules in (
        ("dense", dense, of_dense, reading[0]),
        ("gated", gated, of_gated, reading[1]),
    ):
        results[name] = {
            "perplexity": perplexity(network, held_out, args),
            "kept_macs": count_macs(network, example) / dense_macs,
            "parameters": sum(p.numel() for p in network.parameters()),
            "training": training,
            "reading": joules,
        }
    results["gated"]["masked_max_abs_diff"] = gating.masked_max_abs_diff
    print(table(results))
    record = {
        "command": shlex.join(["python", "examples/language_model.py", *argv]),
        "text": {"trained_bytes": len(trained), "held_out_bytes": len(held_out), "tested_bytes": args.tested_bytes},
        "settings": {key: value for key, value in vars(args).items() if key != "record"},
        "macs_per_token": dense_macs / args.length,
        "untrained_perplexity": before,
        "results": results,
        "machine": describe_machine(torch.device("cpu")),
        "versions": {"python": sys.version.split()[0]}
        | {p: version(p) for p in ("greenprune", "torch", "transformers")},
    }
    if args.record is not None:
        args.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        args.record.with_name("table.md").write_text(table(results), encoding="utf-8")
    return record


def table(results: dict[str, Any]) -> str:
    """What is printed at the end, in Markdown. Brackets: 95 % interval over pairs of blocks."""
    lines = [
        "| | Perplexity | MACs kept | Parameters | J per token read | × dense | J per token trained |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results.items():
        parts = [found[part] for part in ("reading", "training")]
        joules = [f"{part['j_per_token']:.3g} ({part['kind']})" if part["kind"] else "unknown" for part in parts]
        reading = found["reading"]
        ratio = "{ratio_to_dense:.2f} [{low_ratio:.2f}, {high_ratio:.2f}]" if "ratio_to_dense" in reading else "ref."
        row = (
            name,
            f"{found['perplexity']:.3f}",
            f"{found['kept_macs']:.1%}",
            f"{found['parameters']:,}",
            joules[0],
            ratio.format(**reading),
            joules[1],
        )
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
