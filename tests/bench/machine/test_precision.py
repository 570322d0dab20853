"""Which number format a device computes in."""

import pytest
import torch
from greenprune.bench.machine import precision


@pytest.mark.parametrize(
    ("amx", "avx512", "name", "expected"),
    [
        (True, True, "Intel(R) Xeon(R)", "bfloat16"),
        (False, True, "AMD EPYC", "bfloat16"),
        (False, True, "Intel(R) Xeon(R)", "float32"),
        (False, False, "AMD EPYC", "float32"),
    ],
)
def test_bfloat16_is_chosen_where_it_pays(monkeypatch, amx, avx512, name, expected) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(precision, "cpu_name", lambda: name)
    assert precision.resolve_precision(torch.device("cpu"), "auto") == expected
    assert precision.resolve_precision(torch.device("cpu"), "float32") == "float32"
