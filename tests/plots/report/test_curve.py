"""The table of a learning curve on the page of a run, in an empty page: it needs no report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from greenprune.plots.report import page

from tests.plots.browser import Browser, find_chromium

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)")

SCRIPTS = Path(page.__file__).parent / "js"
CURVE = {
    "epoch": [1],
    "phase": ["train"],
    "loss": [0.5],
    "train": [1.25],
    "holdout": [85.125],
    "kept": [100.0],
    "seconds": [3.0],
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with closing(Browser(str(CHROMIUM), tmp_path_factory.mktemp("profile"))) as browser:
        yield browser


def table(browser: Browser, name: str, unit: str) -> dict[str, str]:
    """Its only row, by heading."""
    source = "".join((SCRIPTS / script).read_text(encoding="utf-8") for script in ("text.js", "run.js"))
    score = json.dumps({"name": name, "unit": unit})
    texts = "(selector) => [...body.querySelectorAll(selector)].map((cell) => cell.textContent)"
    headings, cells = browser.run(
        f"(() => {{ {source}; const body = document.createElement('div'); curve(body, {json.dumps(CURVE)}, {score});"
        f"const texts = {texts}; return [texts('th'), texts('td')]; }})()"
    )
    return dict(zip(headings, cells, strict=True))


@pytest.mark.parametrize(
    ("name", "unit", "training", "held_out"),
    [
        ("RMSE", "cm", ("Training RMSE, cm", "1.25"), ("Held-out RMSE, cm", "85.1")),
        ("accuracy", "%", ("Training accuracy, %", "1.25"), ("Held-out accuracy, %", "85.13")),
        ("loss ratio", "", ("Training loss ratio", "1.25"), ("Held-out loss ratio", "85.1")),
    ],
)
def test_the_score_has_its_unit(browser: Browser, name: str, unit: str, training, held_out) -> None:
    row = table(browser, name, unit)
    assert (training, held_out) == tuple((heading, row[heading]) for heading in (training[0], held_out[0]))
