"""The figure of a power trace: every source is in it, it needs no torch, and odd logs are no crash."""

from __future__ import annotations

import html
import subprocess
import sys
from pathlib import Path

import pytest
from greenprune.plots.figures.power_log import plot_power
from greenprune.plots.figures.style import RC

COLUMNS = {
    "time_s": [0.1, 0.2, 0.3, 1.0, 2.0],
    "source": ["nvml:0", "nvml:0", "nvml:0", "cpu", "cpu"],
    "kind": ["sampled"] * 3 + ["modelled"] * 2,
    "power_w": [100.0, None, 300.0, 5.0, 6.0],
    "phase": ["", "training", "training", "training", ""],
}


def test_sources_are_named_and_the_same_rows_give_the_same_file(tmp_path: Path, monkeypatch) -> None:
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")
    monkeypatch.setattr("greenprune.plots.figures.power_log.RC", {"svg.fonttype": "none", "svg.hashsalt": "x"})
    files = [plot_power(COLUMNS, tmp_path / f"{i}.svg", title="a title").read_text() for i in range(2)]
    assert files[0] == files[1]
    for text in ("nvml:0 (sampled)", "cpu (modelled)", "a title", "Power, W", "Time, s"):
        assert text in files[0]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_formats(suffix: str, tmp_path: Path) -> None:
    assert plot_power(COLUMNS, tmp_path / f"x.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize("title", ["echo $HOME $PATH", "awk '{print $1^$}'", "a_b^{c $x", r"\frac{1}{$"])
def test_a_command_is_no_mathematics(title: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("greenprune.plots.figures.power_log.RC", RC | {"svg.fonttype": "none"})
    text = plot_power(COLUMNS, tmp_path / "x.svg", title=title).read_text()
    assert title in html.unescape(text)


def test_a_log_without_rows_says_so(tmp_path: Path) -> None:
    assert plot_power({name: [] for name in COLUMNS}, tmp_path / "x.svg").exists()


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf"):
        plot_power(COLUMNS, tmp_path / "x.gif")


def test_it_needs_no_torch() -> None:
    code = "import sys, greenprune.plots.figures.power_log; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
