"""What a release stands on: one version, workflows that can be read, the Pythons that are promised."""

from __future__ import annotations

import tomllib

import pytest
import yaml

from tests.docs.readme import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github").rglob("*.yml"))


def test_the_citation_and_the_changelog_name_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_forms_and_workflows_are_yaml(path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_workflows_run_environments_that_tox_has_on_all_pythons_that_are_promised() -> None:
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8"))["jobs"]
    for name in jobs["static"]["strategy"]["matrix"]["environment"]:
        assert f"[testenv:{name}]" in tox
    promised = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c}
    assert set(jobs["tests"]["strategy"]["matrix"]["python"]) == promised
    assert {f">={min(promised)}"} == {PROJECT["requires-python"]}


def test_a_release_is_checked_before_it_is_uploaded_without_a_token() -> None:
    text = (ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert set(jobs["upload"]["needs"]) == {"checks", "build"}
    assert jobs["upload"]["permissions"] == {"id-token": "write"}
    assert "password" not in text
    assert "secrets." not in text
