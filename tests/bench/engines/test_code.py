"""The code that is kept for jobs which wait."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from greenprune.bench.engines.cluster import code

FILES = {
    "loose_networks/mine.py": "x = 1",  # no __init__.py: the folder is a package all the same
    "loose_networks/deep/__init__.py": "",
    "loose_networks/deep/table.csv": "1,2",
    "whole_networks/__init__.py": "",
    "whole_networks/mine.py": "",
    "single_network.py": "",
}


def test_loaded_modules_are_kept_where_they_are_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FILES.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    monkeypatch.setattr(code, "_ours", dict)
    before = set(sys.modules)
    try:
        for name in ("loose_networks.mine", "loose_networks.deep", "whole_networks", "single_network"):
            importlib.import_module(name)
        kept = code.keep(tmp_path)
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]
    assert {name: (kept / name).read_text() for name in FILES} == FILES
