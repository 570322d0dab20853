"""Methods of third parties: installed for real, named as module:Class, and what a user reads when they are broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.errors import UserError
from greenprune.bench.records.load import read_record
from greenprune.bench.suite.file import load_suite
from greenprune.methods import Method, MethodError, plugins, registry
from greenprune.methods.catalogue import OWN
from greenprune.methods.plugins import GROUP, collect, load, merged, what_lacks

from tests.conftest import SUITE

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).parents[1] / "example_plugin"


def entry(reference: str, name: str = "first") -> EntryPoint:
    return EntryPoint(name, reference, GROUP)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example package was installed into with pip."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "example")  # pip builds beside the source
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--no-index", "--disable-pip-version-check", "--target", str(folder), str(source)], check=True
    )
    return folder


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> str:
    """The example, importable but not installed; its reference."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return "greenprune_first:First"


def suite_with(tmp_path: Path, method: str, options: str = "{}") -> Path:
    text = SUITE.split("[[methods]]")[0] + f'[[methods]]\nname = "{method}"\noptions = {options}\n'
    path = tmp_path / "suite.toml"
    path.write_text(text + "\n[measurement]\ninference_seconds = 0.1\ninference_batch_sizes = [16]\n")
    return path


def refusal(tmp_path: Path, method: str, options: str = "{}") -> str:
    path = suite_with(tmp_path, method, options)
    with pytest.raises(UserError) as caught:
        load_suite(str(path))
    (line,) = str(caught.value).splitlines()
    return line.removeprefix(f"{path}: ")


def test_an_installed_method_is_run_like_all_others(site: Path, at_work: Path, tmp_path: Path) -> None:
    suite = suite_with(tmp_path, "first", "{ reverse = true }")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    ran = subprocess.run(
        [sys.executable, "-m", "greenprune", "run", str(suite), "--out", str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    record = read_record(tmp_path / "tiny" / "first-0.5-s0" / "record.json")
    assert record.valid
    assert record.cost is not None
    assert 0.48 <= record.cost.kept_macs <= 0.5


@pytest.mark.usefixtures("no_figures")
def test_a_class_in_the_working_directory_is_run_like_all_others(at_work: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "greenprune_first.py", at_work / "beside_me.py")
    suite = suite_with(tmp_path, "beside_me:First")
    assert main(["run", str(suite), "--out", str(tmp_path)]) == 0
    record = read_record(tmp_path / "tiny" / "First-0.5-s0" / "record.json")
    assert (record.method_name, record.method, record.valid) == ("beside_me:First", "First", True)


def test_options_of_a_class_are_checked(at_work: Path, example: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, example, "{ revers = true }") == (
        'methods[0].options.revers = true: unknown key; allowed: reverse (did you mean "reverse"?)'
    )


def test_an_unknown_method_is_answered_with_the_known_ones(at_work: Path, tmp_path: Path) -> None:
    line = refusal(tmp_path, "slimmin")
    assert line.startswith('methods[0].name = "slimmin": is unknown; allowed: "dense"')
    assert line.endswith('(did you mean "slimming"?)')


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "class Mine(Method):\n    name, source = 'mine', 'x'\n    def prepare(self, *_): ...",
            "lacks the hook finish",
        ),
        ("class Mine(Method):\n    name, source = 'mine', 'x'", "lacks the hooks finish, prepare"),
        (
            "class Mine:\n    name = 'mine'",
            "is not a subclass of greenprune.methods.Method; it lacks the hooks finish, prepare",
        ),
        (
            "class Mine(Method):\n    source = 'x'\n    def prepare(self, *_): ...\n    def finish(self): ...",
            'lacks the class attribute "name", a text',
        ),
    ],
)
def test_an_incomplete_class_is_told_what_it_lacks(
    at_work: Path, tmp_path: Path, request: pytest.FixtureRequest, body: str, sentence: str
) -> None:
    module = f"incomplete_{abs(hash(body))}"
    (at_work / f"{module}.py").write_text(f"from methods import Method\n\n{body}\n")
    assert refusal(tmp_path, f"{module}:Mine") == f'methods[0].name = "{module}:Mine": {module}:Mine {sentence}'


@pytest.mark.parametrize(
    ("content", "reference", "sentence"),
    [
        (None, "nowhere_at_all:Mine", 'there is no module "nowhere_at_all" in the working directory or among'),
        ("import no_such_thing", "importing_a:Mine", 'there is no module "no_such_thing" in the working directory'),
        ("1 / 0", "importing_b:Mine", 'importing "importing_b" failed with ZeroDivisionError: division by zero'),
        ("", "importing_c:Mine", 'module "importing_c" has no "Mine"'),
    ],
)
def test_an_import_error_is_one_sentence(
    at_work: Path, tmp_path: Path, content: str | None, reference: str, sentence: str
) -> None:
    if content is not None:
        (at_work / f"{reference.split(':')[0]}.py").write_text(content)
    assert refusal(tmp_path, reference).startswith(f'methods[0].name = "{reference}": {sentence}')


def test_two_methods_of_one_name_are_refused_and_named(example: str) -> None:
    copy = type("Copy", (load(example),), {"name": "slimming", "__module__": "elsewhere"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "installed", lambda: ({"slimming": copy}, {}))
        known, broken = merged(OWN)
    assert "slimming" not in known
    assert broken == {
        "slimming": 'two methods are called "slimming": greenprune.methods.slimming:Slimming and elsewhere:Copy; '
        "rename one of them, or uninstall its package"
    }


def test_a_name_that_two_packages_claim_is_refused_in_a_suite(
    at_work: Path, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = type("Copy", (load(example),), {"name": "slimming", "__module__": "elsewhere"})
    monkeypatch.setattr(plugins, "installed", lambda: ({"slimming": copy}, {}))
    assert refusal(tmp_path, "slimming").startswith(
        'methods[0].name = "slimming": two methods are called "slimming": '
        "greenprune.methods.slimming:Slimming and elsewhere:Copy"
    )
    load_suite(str(suite_with(tmp_path, "magnitude")))  # the others are not spoiled


def test_entry_points_of_one_name_clash_and_broken_ones_spoil_nothing(example: str) -> None:
    other = EXAMPLE / "greenprune_first.py"
    namespace = {"__name__": "another_first"}
    module = type(sys)("another_first")
    exec(compile(other.read_text(), str(other), "exec"), namespace)
    module.First = namespace["First"]  # type: ignore[attr-defined]
    sys.modules["another_first"] = module
    good, bad = collect((entry(example), entry("another_first:First", "second"), entry("nowhere_at_all:X", "third")))
    assert good == {}
    assert bad["first"].startswith('two methods are called "first": greenprune_first:First and another_first:First')
    assert bad["third"].startswith('there is no module "nowhere_at_all"')


def test_every_method_here_is_complete() -> None:
    assert [what_lacks(method) for method in registry().values()] == [None] * len(registry())
    assert what_lacks(Method) == "lacks the hooks finish, prepare"
    with pytest.raises(MethodError, match="is not of the form module:Class"):
        load("no colon")


def test_the_schema_takes_references(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    name = json.loads(capsys.readouterr().out)["$defs"]["MethodEntry"]["properties"]["name"]
    assert name["anyOf"][0]["enum"] == list(registry())
