"""The report in a browser: it opens, says nothing in the console, and everything on it can be used and read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from greenprune.plots.report.report import write_report

from tests.plots.browser import Browser, find_chromium
from tests.plots.records import failed, grid, record, rich, store

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    rich(folder / "results", *grid(("dense", "gated", "magnitude"), (0.3, 0.5), 3))
    invalid = record("uniform", valid=False, invalid_reason="kept too much")
    store(folder / "results", invalid, failed("slimming"), record("gated", machine={"cpu": "Other CPU"}, key="other"))
    write_report(folder / "results", folder / "out")
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def browser(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    browser = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    try:
        browser.open(report)
        yield browser
    finally:
        browser.close()


def test_it_opens_without_a_word_in_the_console(browser: Browser) -> None:
    assert browser.run("document.title") == "greenprune: cifar10-cpu"
    said = [
        e
        for e in browser.events
        if e["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    ]
    assert said == []


def test_an_error_in_the_console_would_be_seen(browser: Browser) -> None:
    before = len(browser.events)
    browser.run("setTimeout(() => { throw new Error('seen') }, 0), new Promise(done => setTimeout(done, 50))")
    assert [e for e in browser.events[before:] if e["method"] == "Runtime.exceptionThrown"]


def test_every_picture_loads(browser: Browser) -> None:
    sizes = browser.run("[...document.images].map(image => [image.complete, image.naturalWidth, image.alt.length])")
    assert len(sizes) >= 8
    assert all(complete and width > 100 and words > 20 for complete, width, words in sizes)


def test_nothing_is_asked_of_the_network(browser: Browser) -> None:
    urls = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("file:", "data:", "about:"))] == []
    assert any(url.endswith("report.html") for url in urls)


def test_the_page_may_not_ask_the_network(browser: Browser) -> None:
    answer = browser.run("fetch('http://127.0.0.1:9/').then(() => 'asked', error => error.name)")
    assert answer == "TypeError"
    blocked = [
        e
        for e in browser.events
        if e["method"] == "Log.entryAdded" and "Content Security" in e["params"]["entry"]["text"]
    ]
    assert blocked


def test_a_click_sorts_and_another_one_reverses(browser: Browser) -> None:
    table = "document.querySelector('main > section[id^=cifar] table.sortable')"
    column = browser.run(f"[...{table}.tHead.rows[0].cells].findIndex(c => c.innerText.startsWith('Test acc'))")
    assert column > 0
    orders = []
    for _ in range(2):
        browser.run(f"{table}.tHead.rows[0].cells[{column}].firstElementChild.click()")
        numbers = browser.run(f"[...{table}.tBodies[0].rows].map(row => row.cells[{column}].dataset.number)")
        orders.append([float(number) for number in numbers])
    assert len(orders[0]) > 3
    assert orders[0] == sorted(orders[0])
    assert orders[1] == sorted(orders[0], reverse=True)


def test_light_and_dark_can_be_read(browser: Browser, tmp_path: Path) -> None:
    """Contrast of the text with its page, as WCAG counts it: at least 7."""
    for dark in (False, True):
        browser.dark(dark)
        colors = browser.run(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
            ".map(color => color.match(/[0-9]+/g).slice(0, 3).map(Number))"
        )
        light, other = sorted((_luminance(color) for color in colors), reverse=True)
        assert (light + 0.05) / (other + 0.05) > 7
        assert (_luminance(colors[1]) < 0.1) == dark
        assert browser.screenshot(tmp_path / f"{dark}.png").stat().st_size > 10_000


def _luminance(color: list[int]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_narrow_page_does_not_scroll_sideways(browser: Browser) -> None:
    browser.ask("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=False)
    assert browser.run("document.documentElement.scrollWidth") <= 400
