"""What an installation brings: one name, everything that belongs to it, and it works beside other people's code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

import greenprune
from tests.conftest import NETWORKS, SUITE

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCES = PROJECT["tool"]["setuptools"]["package-dir"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel of this source brings into site-packages, in a folder of its own."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("made")
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in SOURCES.values():
        kept = shutil.ignore_patterns("__pycache__", "*.egg-info")
        if folder == "results":  # the records stay at home
            kept = shutil.ignore_patterns("__pycache__", *(p.name for p in (ROOT / folder).iterdir() if p.is_dir()))
        shutil.copytree(ROOT / folder, source / folder, ignore=kept)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", build, str(made)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = made.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(made / "site")
    return made / "site"


def test_one_name_is_all_that_it_brings(installed: Path) -> None:
    version = PROJECT["project"]["version"]
    assert {path.name for path in installed.iterdir()} == {"greenprune", f"greenprune-{version}.dist-info"}


def test_every_folder_is_in_the_list_of_packages(installed: Path) -> None:
    found = {
        ".".join((package, *path.parent.relative_to(ROOT / folder).parts))
        for package, folder in SOURCES.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(found)
    without = [
        path
        for folder in SOURCES.values()
        for path in (ROOT / folder).rglob("*.py")
        if not (path.parent / "__init__.py").is_file()
    ]
    assert not without  # a folder of code that no list could name
    python = {path.relative_to(installed / "greenprune") for path in (installed / "greenprune").rglob("*.py")}
    assert len(python) == sum(1 for folder in SOURCES.values() for _ in (ROOT / folder).rglob("*.py"))


def test_what_is_not_python_is_there_too(installed: Path) -> None:
    package = installed / "greenprune"
    for place in (
        "py.typed",
        "results/published.csv",
        "plots/report/report.css",
        "plots/report/report.html",
        "plots/report/site.html",
        "plots/report/js/main.js",
        "plots/report/vendor/plotly-basic.min.js",
    ):
        assert (package / place).is_file(), place
    suites = {path.name for path in (ROOT / "bench" / "suites").glob("*.toml")}
    assert {path.name for path in (package / "bench" / "suites").glob("*.toml")} == suites
    assert {path.name for path in (package / "results").iterdir()} == {"__init__.py", "published.csv"}


def test_the_version_stands_in_one_place(installed: Path) -> None:
    version = PROJECT["project"]["version"]
    assert greenprune.__version__ == version
    literals = [
        path.relative_to(ROOT)
        for folder in SOURCES.values()
        for path in (ROOT / folder).rglob("*.py")
        if f'"{version}"' in path.read_text(encoding="utf-8")
    ]
    assert not literals
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_it_works_in_a_folder_with_modules_of_the_same_names(installed: Path, tmp_path: Path) -> None:
    """The library, a suite with its worker processes and its report, beside files that would break all of them."""
    for name in ("bench.py", "methods/__init__.py", "plots/__init__.py", "results/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('raise RuntimeError("somebody else\'s")\n')
    (tmp_path / "tiny_networks.py").write_text(NETWORKS, encoding="utf-8")
    only_dense = SUITE
    for method in ("gated", "magnitude"):
        only_dense = only_dense.replace(f'[[methods]]\nname = "{method}"\n', "")
    (tmp_path / "tiny.toml").write_text(only_dense.replace("epochs = 2", "epochs = 1"), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    library = "import greenprune; from greenprune import ConsensusGating; print(greenprune.__file__)"
    assert python("-c", library).strip() == str(installed / "greenprune" / "__init__.py")
    assert "dense-1-s0" in python("-m", "greenprune", "run", "tiny.toml")
    assert (tmp_path / "results" / "tiny" / "report.html").is_file()
