"""The figure of the report in a browser: every control, the state in the address, the pages of runs, and who can use it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from greenprune.plots.report.report import write_report

from tests.plots.browser import Browser, find_chromium
from tests.plots.records import grid, record, rich, store, with_epochs

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)")

POINTS = "document.getElementById('figure').data"
WORDS = "document.getElementById('in-words').textContent"
ROWS = "[...document.querySelectorAll('#behind tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explorer")
    runs = [with_epochs(run) for run in grid(("dense", "gated", "magnitude"), (0.3, 0.5), 3)]
    rich(folder / "results", *runs)
    store(folder / "results", record("uniform", valid=False, invalid_reason="kept too much", warnings=("<b>hot</b>",)))
    write_report(folder / "results", folder / "out")
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with closing(Browser(str(CHROMIUM), tmp_path_factory.mktemp("profile"))) as browser:
        yield browser


@pytest.fixture
def browser(program: Browser, page: Path) -> Browser:
    """The page as it is first seen."""
    program.ask("Page.navigate", url="about:blank")
    program.dark(False)
    size(program, 1200)
    program.events.clear()
    program.open(page)
    assert program.wait_for(f"{POINTS} && {POINTS}.length")
    return program


def size(browser: Browser, width: int, height: int = 900) -> None:
    browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)


def change(browser: Browser, name: str, value: str) -> None:
    """Choose in a selection, or move a slider."""
    browser.run(
        f"(() => {{ const c = document.querySelector('#explorer [name={name}]'); c.value = {json.dumps(value)};"
        "for (const e of ['input', 'change']) c.dispatchEvent(new Event(e, {bubbles: true})); })()"
    )


def names(browser: Browser) -> list[str]:
    return browser.run(f"{POINTS}.map(trace => trace.name)")


def press(browser: Browser, key: str, code: int, text: str = "") -> None:
    for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
        more = {"text": text} if text and kind == "keyDown" else {}
        browser.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)


def test_it_opens_with_the_answer_and_one_figure(browser: Browser) -> None:
    sentences = browser.run("[...document.querySelectorAll('.answer p')].map(p => p.textContent)")
    assert len(sentences) == 3
    assert sentences[0].startswith("At ")
    top = browser.run("document.getElementById('figure').getBoundingClientRect().top")
    assert top < 900  # on the first screen
    assert {"dense", "gated", "magnitude", "invalid"} <= set(names(browser))


def test_problems_are_a_badge_that_opens_the_worst_first(browser: Browser) -> None:
    badge = "document.querySelector('header .problems')"
    count = int(browser.run(f"{badge}.querySelector('.count').textContent"))
    assert count > 1
    assert not browser.run(f"{badge}.open")
    browser.run(f"{badge}.querySelector('summary').click()")
    kinds = browser.run(f"[...{badge}.querySelectorAll('li > strong')].map(each => each.textContent)")
    assert kinds[0] == "Invalid"
    assert browser.run(f"{badge}.querySelector('.panel').checkVisibility()")


def test_any_quantity_is_on_either_axis_and_the_front_follows_its_direction(browser: Browser) -> None:
    choices = browser.run("[...document.querySelector('[name=x]').options].map(option => option.value)")
    wanted = {
        "kept_macs",
        "params",
        "latency_ms.250",
        "energy_modelled.1",
        "train_energy_modelled",
        "test_score",
        "loss",
    }
    assert wanted <= set(choices)
    change(browser, "x", "kept_macs")
    change(browser, "y", "loss")
    title = browser.run("document.getElementById('figure').layout.yaxis.title.text")
    assert title == "Lost against dense, points · lower is better"
    xs, ys = browser.run(f"(t => [[...t.x], [...t.y]])({POINTS}.find(trace => trace.name === 'Pareto front'))")
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)  # who keeps more loses less: both lower is better
    assert browser.run("location.hash") == "#x=kept_macs&y=loss"


def test_budgets_of_a_method_are_connected_and_seeds_and_intervals_come_and_go(browser: Browser) -> None:
    gated = f"{POINTS}.find(trace => trace.name === 'gated')"
    assert browser.run(f"{gated}.mode") == "lines+markers"
    assert browser.run(f"[...{gated}.x].length") == 2
    assert browser.run(f"{gated}.error_y.visible")
    before = len(names(browser))
    browser.run("document.querySelector('[name=seeds]').click()")
    assert len(names(browser)) == before + 3  # a cloud of runs for each valid method
    browser.run("document.querySelector('[name=intervals]').click()")
    assert not browser.run(f"{gated}.error_y.visible")
    browser.run("document.querySelector('[name=front]').click()")
    assert "Pareto front" not in names(browser)
    assert browser.run("location.hash") == "#seeds=1&intervals=0&front=0"


def test_limits_leave_the_networks_that_qualify(browser: Browser) -> None:
    rows = browser.run(ROWS)
    change(browser, "loss", "30")
    left = browser.run(ROWS)
    assert 0 < len(left) < len(rows)
    limit = float(dict(part.split("=") for part in browser.run("location.hash")[1:].split("&"))["loss"])
    headings = browser.run("[...document.querySelectorAll('#behind th')].map(cell => cell.textContent)")
    column = headings.index("Lost against dense, points")
    numbers = browser.run(
        f"[...document.querySelectorAll('#behind tbody tr')].map(r => +r.cells[{column}].dataset.number)"
    )
    assert max(numbers) <= limit
    assert "within the limits" in browser.run(WORDS)
    change(browser, "cost", "0")  # none is cheaper than the cheapest
    assert len(browser.run(ROWS)) <= 1
    browser.run("document.querySelector('#explorer [type=reset]').click()")
    assert browser.run(ROWS) == rows
    assert browser.run("location.hash") == ""


def test_a_link_shows_what_its_sender_saw(browser: Browser, page: Path) -> None:
    change(browser, "x", "train_energy_modelled")
    change(browser, "loss", "40")
    browser.run("document.querySelector('[name=seeds]').click()")
    fragment, rows = browser.run("location.hash"), browser.run(ROWS)
    browser.ask("Page.navigate", url="about:blank")
    browser.ask("Page.navigate", url=page.resolve().as_uri() + fragment)
    assert browser.wait_for(f"document.readyState === 'complete' && {POINTS} && {POINTS}.length")
    assert browser.run(ROWS) == rows
    assert browser.run("document.querySelector('[name=x]').value") == "train_energy_modelled"
    assert browser.run("document.querySelector('[name=seeds]').checked")


def test_hover_shows_the_run_and_a_click_opens_its_page(browser: Browser) -> None:
    browser.run("document.querySelector('[name=seeds]').click()")
    x, y = browser.run(
        "(() => { const f = document.getElementById('figure'), box = f.getBoundingClientRect(), l = f._fullLayout;"
        f"const t = {POINTS}.find(trace => trace.name === 'magnitude');"
        "return [box.x + l.xaxis._offset + l.xaxis.d2p(t.x[0]), box.y + l.yaxis._offset + l.yaxis.d2p(t.y[0])]; })()"
    )
    browser.run("new Promise(done => setTimeout(done, 300))")
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        browser.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        if kind == "mouseMoved":
            assert browser.wait_for("document.querySelector('#figure .hoverlayer text')")
            assert "magnitude" in browser.run("document.querySelector('#figure .hoverlayer').textContent")
    assert browser.wait_for("document.getElementById('run').open")
    assert browser.run("document.getElementById('run-title').textContent").startswith("magnitude-")


def test_the_page_of_a_run_has_everything_and_back_leaves_it(browser: Browser) -> None:
    browser.run("document.querySelector('#explorer .more').open = true")
    browser.run("document.querySelector('#behind a[aria-label=\"run gated-0.5-1\"]').click()")
    assert browser.wait_for("document.getElementById('run').open")
    assert "run=gated-0.5-1" in browser.run("location.hash")
    headings = browser.run("[...document.querySelectorAll('#run h3')].map(each => each.textContent)")
    assert headings == [
        "Learning curve", "Gates over time", "Architecture before and after", "Ledger", "Energy",
        "Inference, beside the dense network", "Environment", "Exact command",
    ]  # fmt: skip
    tables = browser.run("[...document.querySelectorAll('#run .body details')].length")
    assert tables == browser.run("document.querySelectorAll('#run .plot, #run canvas').length")
    assert browser.run("document.querySelector('#run pre').textContent") == "greenprune run cifar10-cpu --data data"
    browser.run("document.querySelector('#run .seeds a:first-of-type').click()")
    assert browser.wait_for("document.getElementById('run-title').textContent === 'gated-0.5-0'")
    assert browser.run("[...document.querySelectorAll('#run h3')].some(each => each.textContent === 'Power over time')")
    browser.run("history.back()")
    assert browser.wait_for("document.getElementById('run-title').textContent === 'gated-0.5-1'")
    browser.run("history.back()")
    assert browser.wait_for("!document.getElementById('run').open")


def test_the_figure_fills_its_place_in_the_frame_in_which_the_window_changes(browser: Browser) -> None:
    heights = "['#figure', '#figure .main-svg'].map(each => document.querySelector(each).clientHeight)"
    before = browser.run(heights)
    size(browser, 1000, 1100)
    browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    after = browser.run(heights)
    assert before[0] == before[1]
    assert after[0] == after[1] > before[0]


def test_text_of_records_stays_text(browser: Browser) -> None:
    link = "document.querySelector('#behind a[aria-label=\"run uniform-0.5-0\"]')"
    browser.run(f"{link}.click()")
    assert browser.wait_for("document.getElementById('run').open")
    assert "<b>hot</b>" in browser.run("document.querySelector('#run .warned').textContent")
    assert not browser.run("document.querySelector('#run .warned b')")


def test_the_keyboard_alone_moves_limits_and_opens_and_closes_a_run(browser: Browser) -> None:
    browser.run("document.querySelector('[name=loss]').focus()")
    press(browser, "ArrowLeft", 37)
    assert "loss=" in browser.run("location.hash")
    browser.run("document.querySelector('#explorer .more > summary').focus()")
    press(browser, "Enter", 13, "\r")
    assert browser.wait_for("document.querySelector('#explorer .more').open")
    browser.run("document.querySelector('#behind a').focus()")
    press(browser, "Enter", 13, "\r")
    assert browser.wait_for("document.getElementById('run').open")
    browser.run("document.querySelector('#run .seeds a:not([aria-current])').focus()")
    press(browser, "Enter", 13, "\r")  # another seed of it: where one came from stays the same
    assert browser.wait_for("document.querySelector('#run .seeds a:nth-of-type(2)').getAttribute('aria-current')")
    press(browser, "Escape", 27)
    assert browser.wait_for("!document.getElementById('run').open")
    assert browser.run("document.activeElement.matches('#behind a')")
    assert browser.wait_for("!location.hash.includes('run=')")


def test_in_print_and_without_scripts_the_drawn_figures_stand_for_it(browser: Browser, page: Path) -> None:
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert browser.run("getComputedStyle(document.getElementById('explorer')).display") == "none"
    assert (
        browser.run("[...document.images].filter(image => image.checkVisibility({contentVisibilityAuto: true})).length")
        > 3
    )
    browser.ask("Emulation.setEmulatedMedia", media="")
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert browser.run("document.getElementById('explorer').checkVisibility()") is False
        assert browser.run("[...document.images].every(image => image.checkVisibility())")
        assert browser.run("document.querySelectorAll('.answer p').length") == 3
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_scrolls_sideways_and_nothing_is_said_or_asked(browser: Browser, width: int) -> None:
    size(browser, width)
    assert browser.wait_for(f"document.documentElement.scrollWidth <= {width}")
    change(browser, "y", "kept_macs")
    browser.run("document.querySelector('#behind a').click()")
    assert browser.wait_for("document.getElementById('run').open")
    assert browser.run("document.getElementById('run').scrollWidth") <= width
    said = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [event for event in browser.events if event["method"] in said] == []
    urls = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("file:", "data:", "about:", "blob:"))] == []


def axe() -> Path | None:
    """The script of axe-core: named in AXE_CORE, or installed with npm, in this folder or for all."""
    named = os.environ.get("AXE_CORE")
    folders = [Path("node_modules")]
    if npm := shutil.which("npm"):
        folders.append(Path(subprocess.run([npm, "root", "-g"], capture_output=True, text=True).stdout.strip()))
    places = [*([Path(named)] if named else []), *(folder / "axe-core" / "axe.min.js" for folder in folders)]
    return next((place for place in places if place.is_file()), None)


AXE = axe() if CHROMIUM else None


@pytest.mark.skipif(AXE is None, reason="there is no axe-core here (npm install -g axe-core)")
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_serious_fault(browser: Browser, dark: bool) -> None:
    assert AXE is not None
    browser.dark(dark)
    browser.run(AXE.read_text(encoding="utf-8") + "; 0")
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = !each.matches('.problems'); })")
    assert serious(browser) == []
    browser.run("document.querySelector('.problems').open = true")
    assert serious(browser) == []
    browser.run("document.querySelector('.problems').open = false")
    browser.run("document.querySelector('#behind a[aria-label=\"run gated-0.5-0\"]').click()")
    assert browser.wait_for("document.getElementById('run').open && document.querySelector('#run canvas')")
    assert serious(browser) == []


def serious(browser: Browser) -> list[Any]:
    found = browser.run("axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)")
    return [
        (fault["id"], fault["impact"], [node["html"][:120] for node in fault["nodes"][:3]])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
