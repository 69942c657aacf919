"""Every kind of page in a real browser: fits, loads nothing from elsewhere, and can be read by everybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

Windows = Callable[[str], list[Any]]
Problems = Callable[[Page], list[str]]


def test_every_page_of_the_folder_opens_from_disk(folder: Path, windows: Windows, problems: Problems) -> None:
    wide = max(folder.glob("runs/*"), key=lambda run: len(list(run.glob("*.html"))))
    pages = sorted({*folder.rglob("index.html"), *wide.glob("*.html")})
    assert len(pages) > 15
    for visit in windows(folder.as_uri()):
        for path in pages:
            page = visit.open(path.as_uri())
            assert problems(page) == [], path.relative_to(folder)
            page.close()
        assert visit.complaints == []


def test_every_kind_of_page_is_served(served: Any, windows: Windows, problems: Problems) -> None:
    first, second, third, fourth = served.run_ids
    paths = [
        "",
        "compare",
        f"compare?b={first}",
        f"compare/{first}--{second}/index.html",
        "login",
        "runs/abcdefabcdef",
        *(f"runs/{run}" for run in (first, third)),
        *(f"runs/{run}/pages/index.html" for run in served.run_ids),
        f"runs/{second}/pages/results-1.html",
        f"runs/{second}/pages/diary.html",
        f"runs/{fourth}/pages/provenance.html",
    ]
    for visit in windows(served.origin):
        for path in paths:
            page = visit.open(served.origin + path)
            assert problems(page) == [], path
            page.close()
        assert [text for text in visit.complaints if "404" not in text] == []  # one of the pages is not there


def test_the_single_document_fits_and_asks_for_nothing(served: Any, windows: Windows, misfits: Problems) -> None:
    # Its chapters are looked at by axe one by one, above: on all of them in one page this axe never ends.
    for visit in windows(served.origin):
        page = visit.open(f"{served.origin}runs/{served.run_ids[0]}/report")
        assert misfits(page) == []
        page.close()
        assert visit.complaints == []


def test_a_page_is_read_with_the_keyboard_alone(folder: Path, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900})
    run = next(path for path in sorted(folder.glob("runs/*/results-2.html")))
    page.goto(run.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0  # seen once it has the focus
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    focused = "document.querySelector('main').contains(document.activeElement)"
    assert page.evaluate(focused)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    for _ in range(40):  # a table that is wider than the phone can be scrolled by keys
        if page.evaluate("document.activeElement.classList.contains('scroll')"):
            break
        page.keyboard.press("Tab")
    before = page.evaluate("document.activeElement.scrollLeft")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    for _ in range(500):
        if page.evaluate("document.activeElement.scrollLeft") > before:
            break
        page.wait_for_timeout(20)  # scrolling is smooth: it takes its time
    assert page.evaluate("document.activeElement.scrollLeft") > before
    page.close()


def test_a_page_prints_whole(folder: Path, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 900})
    page.goto(next(path for path in sorted(folder.glob("runs/*/results-2.html"))).as_uri())
    page.emulate_media(media="print")
    hidden = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(s => getComputedStyle(s).overflowX !== 'visible').length"
    )
    assert hidden == 0
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_follows_the_readers_colours(folder: Path, browser: Browser, scheme: Any) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto((folder / "index.html").as_uri())
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
    page.close()


def test_a_served_table_is_saved_by_its_link(served: Any, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{served.origin}runs/{served.run_ids[0]}/pages/data.html")
    with page.expect_download() as download:
        page.get_by_role("link", name="trials.csv").click()
    assert download.value.suggested_filename == "trials.csv"
    assert Path(download.value.path()).read_text().startswith("trial_id,")
    page.close()


def test_two_runs_are_compared_without_script(served: Any, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(served.origin)
    page.get_by_role("link", name="Compare two runs").click()
    page.get_by_label("First run").select_option(served.run_ids[0])
    page.get_by_label("Second run").select_option(served.run_ids[1])
    page.get_by_role("button", name="Compare").click()
    assert page.url == f"{served.origin}compare/{served.run_ids[0]}--{served.run_ids[1]}/index.html"
    assert page.locator("p.first").count() == 1
    context.close()
