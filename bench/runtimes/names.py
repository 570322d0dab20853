"""The runtimes by name. Needs no torch, so that a suite can be checked without it."""

from __future__ import annotations

EAGER = "eager"

RUNTIMES: dict[str, str] = {
    EAGER: "greenprune.bench.runtimes.eager:Eager",
    "compile": "greenprune.bench.runtimes.compiled:Compiled",
    "onnxruntime": "greenprune.bench.runtimes.onnx_runtime:OnnxRuntime",
    "openvino": "greenprune.bench.runtimes.open_vino:OpenVino",
}
"""By name, the class as `module:Class`. A suite may name any other class in the same form."""
