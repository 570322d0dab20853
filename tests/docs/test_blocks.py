"""Every code block of the README, CONTRIBUTING and docs/ does what the page says; see blocks.py."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from tests.docs import blocks


@pytest.mark.parametrize("page", blocks.PAGES)
def test_the_blocks_of_a_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = blocks.example_names() if page == "README.md" else {}
    if page == "docs/tutorials/first-suite.md":
        blocks.stored_run(tmp_path / "results" / "quickstart")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of exporters and short windows: not what pages are about
        for example in blocks.document(page, blocks.Runner(tmp_path, names)).examples():
            example.evaluate()


def test_pages_have_blocks_that_are_run() -> None:
    found = [e.parsed.language for page in blocks.PAGES for e in blocks.document(page, lambda _: None).examples()]
    assert found.count("python") >= 5
    assert found.count("sh") >= 8
    assert found.count("toml") >= 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\n1 / 0\n```", "division by zero"),
        ("```sh\ngreenprune plan no-such-suite\n```", "no such suite"),
        ("```sh\ngreenprune plan quickstart --no-such-option\n```", "2"),
        ("```sh\nrm -r x\n```", "neither of greenprune nor in NOT_RUN"),
        ("```toml\nepochs = 3\n```", "epochs"),
        ("```\nwhat is this\n```", "allowed are"),
    ],
)
def test_a_block_that_is_wrong_is_found(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(text + "\n", encoding="utf-8")
    (example,) = blocks.document(str(tmp_path / "page.md"), blocks.Runner(tmp_path, {})).examples()
    with pytest.raises((Exception, SystemExit), match=message):
        example.evaluate()
