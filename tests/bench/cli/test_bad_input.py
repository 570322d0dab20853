"""Whatever is put in: one sentence or a few, exit code 2, no traceback, and nothing that a terminal would obey."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.suite.file import load_suite

from tests.plots.records import failed, record, store

SUITE = """\
name = "mine"
dataset = "digits"
model = "resnet20"
budgets = [0.5]
seeds = [0]
[training]
epochs = 1
batch_size = 64
[[methods]]
name = "dense"
[[methods]]
name = "magnitude"
[measurement]
inference_seconds = 0.1
inference_batch_sizes = [16]
"""

Told = Callable[..., str]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Told:
    """Runs a command that has to be refused with exit code 2, in a folder of its own; gives what it says."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> str:
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as e:  # argparse
            code = e.code  # type: ignore[assignment]
        said = capfd.readouterr()
        assert "Traceback" not in said.err + said.out
        assert "\x1b" not in said.err + said.out
        assert code == 2, said
        assert said.err.strip(), "nothing was said"
        assert len(said.err) < 8000
        return said.err

    return call


def changed(old: str, new: str) -> str:
    assert SUITE.count(old) == 1
    return SUITE.replace(old, new)


SUITES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is missing"),
    "no UTF-8": (b"name = '\xff'", "is not UTF-8"),
    "UTF-16": (SUITE.encode("utf-16"), "is not UTF-8"),
    "NUL": ("name = '\0'", "not TOML"),
    "a key twice": (SUITE + "\n[training]\nepochs = 1", "not TOML"),
    "brackets": ("a = " + "[" * 5000, "nested too deeply"),
    "tables": ("a = " + "{b=" * 5000, "nested too deeply"),
    "60 deep": ("a = " + "[" * 60 + "]" * 60, "nested too deeply"),
    "no date": ("a = 2024-02-31", "not TOML"),
    "too many digits": ("a = " + "9" * 5000, "not TOML"),
    "huge": (b"#" * 10_000_001, "larger than 10 MB"),
    "JSON": ('{"name": "mine"}', "not TOML"),
    "escape": (changed('"mine"', '"\\u001b[31mmine"'), "name = "),
    "long name": (changed('"mine"', f'"{"m" * 300}"'), "is too long"),
    "long label": (
        changed('"magnitude"', f'"magnitude"\nlabel = "{"m" * 300}"'),
        "is too long; allowed: text of at most 100",
    ),
    "dots": (changed('"magnitude"', '"magnitude"\nlabel = "../x"'), "has the wrong form"),
    "beyond 64 bits": (changed("seeds = [0]", f"seeds = [{2**70}]"), "seeds[0] = "),
    "beyond a float": (changed("[0.5]", f"[{10**400}]"), "budgets[0] = "),
    "negative seed": (changed("seeds = [0]", "seeds = [-1]"), "is too small"),
    "true seed": (changed("seeds = [0]", "seeds = [true]"), "is not an integer"),
    "NaN": (changed("[0.5]", "[nan]"), "budgets[0] = "),
    "infinity": (changed("epochs = 1", "epochs = 1\nlearning_rate = inf"), "learning_rate"),
    "no epochs": (changed("epochs = 1", "epochs = 0"), "epochs = 0: is too small"),
    "many epochs": (changed("epochs = 1", f"epochs = {2**62}"), "is too large"),
    "batch above the images": (changed("batch_size = 64", "batch_size = 5000"), "is more than the 1,"),
    "absurd batch": (changed("batch_size = 64", f"batch_size = {10**9}"), "is too large"),
    "absurd inference batch": (changed("[16]", "[100000000]"), "is too large"),
    "inference batch above the images": (changed("[16]", "[60000]"), "is more than the 3"),
    "absurd seconds": (changed("inference_seconds = 0.1", "inference_seconds = 1e300"), "is too large"),
    "no seconds": (changed("inference_seconds = 0.1", "inference_seconds = 0"), "is too small"),
    "text for a number": (changed("epochs = 1", 'epochs = "one"'), "is not an integer"),
    "table for a list": (changed("seeds = [0]", "seeds = {a = 1}"), "seeds"),
    "list for a table": (changed("[training]\nepochs = 1", "training = [1]\n[other]"), "training"),
    "seed twice": (changed("seeds = [0]", "seeds = [0, 0]"), "there twice"),
    "a thousand wrong": (changed("seeds = [0]", f"seeds = {[-1 - i for i in range(1000)]}"), "and 98"),
    "unknown network": (changed('"resnet20"', '"resnet\\u001b[2J"'), "unknown"),
    "no module": (changed('"resnet20"', '"..:x"'), 'model = "..:x"'),
    "module that exits": (changed('"resnet20"', '"leaves:net"'), "SystemExit: 0"),
    "module that is no module": (changed('"resnet20"', '"broken:net"'), "SyntaxError"),
    "factory that exits": (changed('"resnet20"', '"leaves_later:net"'), "SystemExit: bye"),
    "forward that exits": (changed('"resnet20"', '"leaves_last:net"'), "SystemExit: bye"),
    "method that exits": (changed('"magnitude"', '"leaves:Method"'), "SystemExit: 0"),
}

MODULES = {
    "leaves": "import sys; sys.exit(0)",
    "broken": "def (",
    "leaves_later": "import sys\ndef net(classes): sys.exit('bye')",
    "leaves_last": (
        "import sys\nfrom torch import nn\n"
        "class Net(nn.Module):\n  def forward(self, x): sys.exit('bye')\n"
        "def net(classes): return Net()"
    ),
}


@pytest.mark.parametrize("kind", SUITES)
def test_suites(kind: str, told: Told, tmp_path: Path) -> None:
    content, why = SUITES[kind]
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    path = tmp_path / "suite.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = told("plan", path)
    assert why in said
    assert all(line.startswith("greenprune: ") for line in said.splitlines())


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


PLACES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "empty file": lambda path: path.touch(),
    "link to itself": _link_to_itself,
    "link to nothing": _link_to_nothing,
    "bytes": lambda path: path.write_bytes(bytes(range(256))),
}
COMMANDS: dict[str, list[str]] = {
    "run": ["run", "X"],
    "plan": ["plan", "X"],
    "tune": ["tune", "X", "--method", "gated"],
    "measure": ["measure", "X"],
    "report": ["report", "X"],
    "compare": ["compare", "X", "good"],
    "compare with": ["compare", "good", "X"],
    "data": ["run", "study-macs", "--data", "X"],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "measure"])
def test_places(command: str, place: str, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.CIFAR10", _no_network)
    store(tmp_path / "good", record("dense"))
    PLACES[place](tmp_path / "X")
    assert "X" in told(*COMMANDS[command])


def _no_network(*arguments: object, **options: object) -> None:
    raise OSError("no network")


LONG = "a" * 5000
OPTIONS: list[list[str]] = [
    ["run", LONG],
    ["plan", "study-macs", "--data", LONG],
    ["report", LONG],
    ["compare", LONG, LONG],
    ["report", "good", "--out", LONG],
    ["plan", "quickstart", "--only", "x\x1b[31m"],
    ["plan", "quickstart", "--only", LONG],
    ["plan", "quickstart", "--seeds", "-1"],
    ["plan", "quickstart", "--seeds", "9" * 30],
    ["plan", "quickstart", "--seeds", "1", "1"],
    ["plan", "quickstart", "--name", "../x"],
    ["plan", "quickstart", "--name", LONG],
    ["plan", "quickstart", "--set", "seeds=" + "[" * 5000],
    ["plan", "quickstart", "--set", "x"],
    ["plan", "quickstart", "--set", "training.epochs=-1"],
    ["plan", "quickstart", "--set", "training.epochs=1e999"],
    ["plan", "quickstart", "--set", "a=\x1b[31m"],
    ["plan", "quickstart", "--jobs", "0"],
    ["plan", "quickstart", "--jobs", "9" * 30],
    ["plan", "quickstart", "--country", "\x1b[31m"],
    ["plan", "quickstart", "--gco2e-per-kwh", "nan"],
    ["plan", "quickstart", "--pue", "inf"],
    ["plan", "quickstart", "--data", "~nobody-is-called-so/data", "--set", "dataset=cifar10"],
    ["prune", "resnet20", "--data", "~nobody_/images", "--out", "made"],
    ["prune", "resnet20", "--data", LONG, "--out", "made"],
    ["prune", "resnet20", "--data", "folder", "--out", "made"],
    ["prune", "resnet20", "--data", "cifar10", "--image-size", "64", "--out", "made"],
    ["tune", "quickstart", "--method", "gated", "--trials", "-1"],
    ["tune", "quickstart", "--method", "gated", "--seed", "9" * 30],
    ["tune", "quickstart", "--method", "gated", "--budget", "nan"],
    ["compare", "good", "good", "--tolerance", "nan"],
    ["measure", "good", "--seconds", "1e300"],
    ["measure", "good", "--batch-sizes", "9" * 30],
    ["measure", "good", "--threads", "²"],
    ["doctor", "--idle", "1e300"],
    ["doctor", "--json", "nowhere/x"],
    ["doctor", "--json", "loop"],
    ["energy", "--json", "loop", "--", "true"],
    ["energy", "--csv", "loop", "--", "true"],
    ["prune", "resnet20", "--data", "good", "--out", "loop"],
    ["energy", "--idle", "nan", "--", "true"],
    ["energy"],
    ["energy", "--plot", "x.gif", "--", "true"],
    ["report", "good", "--out", "file"],
    ["run", "quickstart", "--out", "file"],
    ["run", "quickstart", "--out", "caf\udce9"],
    ["run", "quickstart", "--data", "caf\udce9"],
    ["run", "quickstart", "--time-limit", "-1"],
    ["plan", "\x1b[31m"],
    ["report", "\x1b[31m"],
]


@pytest.mark.parametrize("arguments", OPTIONS, ids=lambda a: " ".join(a)[:60].encode("unicode_escape").decode())
def test_options(arguments: list[str], told: Told, tmp_path: Path) -> None:
    store(tmp_path / "good", record("dense"))
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    told(*arguments)


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SUITE.replace("\n", "\r\n").encode())
    assert load_suite(str(path)).name == "mine"


def test_many_seeds_are_read_in_time_that_grows_with_their_number(tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        path = tmp_path / "mine.toml"
        path.write_text(changed("seeds = [0]", f"seeds = {list(range(count))}"))
        started_s = time.process_time()
        load_suite(str(path))
        return time.process_time() - started_s

    seconds(10)
    few_s, many_s = (min(seconds(count) for _ in range(2)) for count in (3_000, 30_000))
    assert many_s < 30 * few_s  # quadratic would be 100


def test_a_suite_of_failures_has_a_report(told: Told, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "bad", failed("magnitude", reason="RuntimeError: no luck today (exit code 1)"))
    assert main(["report", "bad"]) == 0
    assert "no finished run" in capfd.readouterr().out
    assert "no luck today" in (tmp_path / "bad" / "report.html").read_text()


@pytest.mark.parametrize(("device", "code"), [("/dev/full", 2), ("pipe", 141)])
def test_output_that_cannot_be_written(device: str, code: int) -> None:
    """In a process of its own: at its end the interpreter writes what is left in its buffers."""
    child = [sys.executable, "-c", "import sys; from greenprune.bench.cli.main import main; sys.exit(main(['schema']))"]
    if device == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(device, os.O_WRONLY)
    done = subprocess.run(child, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(done.stderr.splitlines()) == (1 if device == "/dev/full" else 0)
