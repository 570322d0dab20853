"""The fixed work that benchmarks are compared with: plain torch and Python, nothing of greenprune.

Each is of the same nature as its subject, because a busy machine slows arithmetic, memory and system calls differently.
A change of this file changes all ratios, so figures that were saved before it are not compared with any more.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

IMAGES = 8  # in a batch


def convolutions() -> nn.Sequential:
    """(B, 3, 32, 32) to (B, 10): a stack with the widths and resolutions of a CIFAR ResNet, in channels-last format."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 16, 1), (16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2)):
        convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
    return network.to(memory_format=torch.channels_last)


def images() -> torch.Tensor:
    """(IMAGES, 3, 32, 32) float32."""
    drawn = torch.randn(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return drawn.contiguous(memory_format=torch.channels_last)


def labels() -> torch.Tensor:
    """(IMAGES,) int64 in 0 .. 9."""
    return torch.arange(IMAGES) % 10


def forward() -> Callable[[], object]:
    """Inference with `convolutions`."""
    network, x = convolutions().eval(), images()

    def call() -> None:
        with torch.inference_mode():
            for _ in range(3):
                network(x)

    return call


def training() -> Callable[[], object]:
    """Training steps of `convolutions`; the learning rate is 0, so that all are alike."""
    network, x, y = convolutions(), images(), labels()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9)

    def call() -> None:
        for _ in range(2):
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()

    return call


def copying() -> Callable[[], object]:
    """Crops picked from memory, some of them mirrored, converted and scaled: bytes moved, hardly any arithmetic.

    The same sizes in the same steps as the data pipeline at the time of writing, since what else goes through the caches
    slows memory traffic of another pattern by another factor.
    """
    pixels = torch.arange(1024 * 40 * 40 * 3, dtype=torch.int64).remainder(251).to(torch.uint8)
    crops = pixels.as_strided(((1024 * 40 - 32) * 40 + 9, 32, 32, 3), (3, 120, 3, 1))
    scale, shift = torch.full((32, 32, 3), 0.01), torch.full((32, 32, 3), -1.0)

    def call() -> None:
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            top, left = torch.randint(0, 9, (2, 1024), generator=generator)
            first = (torch.randperm(1024, generator=generator) * 40 + top) * 40 + left
            mirrored = torch.arange(128) % 2 * 128 + torch.arange(128)
            for rows in first.split(128):
                picked = crops.index_select(0, rows)
                picked = torch.cat((picked, picked.flip(2))).index_select(0, mirrored)
                values = picked.float()
                torch.addcmul(shift, values, scale, out=values)

    return call


def bookkeeping() -> Callable[[], object]:
    """Small files read and lists built: system calls and interpreter."""
    here = Path(__file__).parent

    def call() -> None:
        for _ in range(100):
            os.listdir(here)
            with open(__file__, "rb") as file:
                words = file.read(4096).split()
            sorted({str(word): len(word) for word in words}.items())

    return call


def rebuilding() -> Callable[[], object]:
    """A network copied, traced and given fewer weights, as a program would do it by hand."""
    network = convolutions()

    def call() -> None:
        for _ in range(2):
            copied = copy.deepcopy(network)
            torch.fx.symbolic_trace(copied)
            for module in copied.modules():
                if isinstance(module, nn.Conv2d):
                    rows = torch.arange(0, module.out_channels, 2)
                    module.weight = nn.Parameter(module.weight.detach().index_select(0, rows).clone())

    return call


def interpreter() -> Callable[[], None]:
    """A fresh interpreter that imports a good part of the standard library."""
    command = [
        sys.executable,
        "-c",
        "import argparse, asyncio, ctypes, decimal, email.mime.text, http.client, unittest",
    ]

    def start() -> None:
        subprocess.run(command, check=True)

    return start
