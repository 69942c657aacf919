"""Chapters as HTML: escaped, well formed, nothing from elsewhere, every table and figure with its data."""

from __future__ import annotations

import base64
import csv
import io
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from reports.figures.canvas import FigurePage, new_figure
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Listing, Picture, Text
from reports.pages.document import (
    Drawn,
    Front,
    Place,
    data_of,
    figures_of,
    page_style,
    render_document,
    render_page,
    security_policy,
)
from reports.pages.paging import pages_of

VOID = {"meta", "img", "br", "link", "input"}
HOSTILE = "<script>alert(1)</script>\"&'{{ 7*7 }}"
PLACE = Place(
    root="../../",
    crumbs=(("All runs", "index.html"),),
    pages=(("Answer", "runs/r/index.html"), ("Costs", "runs/r/costs.html")),
    here="runs/r/costs.html",
)


class Page(HTMLParser):
    """Tags with their attributes, texts, and whether tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str, name: str) -> list[str]:
        """Return every value of one attribute of one tag."""
        return [value for found, attributes in self.tags if found == tag and (value := attributes.get(name))]


def draw() -> Figure:
    return new_figure(2)


FIGURE = FigurePage("cost-1", "What it costs", "Envoy costs twice as much", ({"arm": "=envoy", "cores": 0.4},), draw)
TABLE = Grid(
    "costs",
    "Cost of each arm",
    ("Arm", "Cores", "Cores"),
    ((Cell("envoy", link="runs/r/index.html#scope-1"), Cell("+0.4", "more"), Cell(HOSTILE)),),
    numeric=frozenset({1, 2}),
)


def chapter(*more: Text | Grid | Heading) -> Chapter:
    """Return a chapter with one part of each kind."""
    parts = (
        Heading("Where it goes", "where"),
        Text((HOSTILE,), "warning"),
        Listing((("envoy", "twice"), ("", HOSTILE))),
        TABLE,
        Picture(FIGURE),
    )
    return Chapter("costs", f"Cost {HOSTILE}", f"Envoy costs more {HOSTILE}", (*parts, *more), {"raw.json": b"{}"})


def test_hostile_texts_stay_texts() -> None:
    for text in (
        render_page(pages_of(chapter())[0], PLACE),
        render_document(Front(chapter(), HOSTILE, HOSTILE), [chapter()], {"cost-1": Drawn(b"png")}, HOSTILE),
    ):
        page = Page(text)
        assert "script" not in {tag for tag, _ in page.tags}
        assert page.text.count(HOSTILE) >= 5


def test_a_page_asks_for_nothing_but_the_files_beside_it() -> None:
    page = Page(render_page(pages_of(chapter())[0], PLACE))
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or tag == "link" or not re.match(r"[a-z]+:|/", target), target
    assert all(icon.startswith("data:image/svg+xml") for icon in page.attributes("link", "href"))
    assert page.attributes("img", "src") == ["figures/cost-1.png"]
    assert page.attributes("img", "alt") == [FIGURE.alt]
    assert {"figures/cost-1.svg", "data/cost-1.csv", "data/costs-costs.csv", "data/costs-raw.json"} <= set(
        page.attributes("a", "href")
    )


def test_a_document_of_several_chapters_needs_no_other_file() -> None:
    figure = {"cost-1": Drawn(b"the png", b"the svg")}
    page = Page(render_document(Front(Chapter("index", "Run", "Yes", ())), [chapter()], figure, "run r"))
    for name in ("src", "href"):
        for tag in ("a", "img"):
            assert all(target.startswith(("data:", "#")) for target in page.attributes(tag, name))
    saved = {a["download"]: a["href"] or "" for tag, a in page.tags if tag == "a" and a.get("download")}
    assert base64.b64decode(saved["cost-1.svg"].partition("base64,")[2]) == b"the svg"
    assert b"'=envoy" in base64.b64decode(saved["cost-1.csv"].partition("base64,")[2])


def test_the_answer_is_the_first_line_after_the_title() -> None:
    text = render_page(pages_of(chapter())[0], PLACE)
    main = text[text.index("<main") :]
    assert re.match(r'<main[^>]*>\s*<h1>.*?</h1>\s*<p class="first">Envoy costs more', main, re.DOTALL)


def test_links_lead_from_the_sites_root_or_wherever_it_is_served() -> None:
    page = Page(render_page(pages_of(chapter())[0], PLACE))
    assert "../../runs/r/index.html#scope-1" in page.attributes("a", "href")
    assert page.attributes("a", "aria-current") == ["page"]
    served = Place(link=lambda target: f"/pages/{target}")
    assert "/pages/runs/r/index.html#scope-1" in Page(render_page(pages_of(chapter())[0], served)).attributes(
        "a", "href"
    )


def test_links_to_chapters_of_the_same_document_become_places_in_it_and_others_plain_text() -> None:
    first = Chapter("index", "Answer", "Yes", (Heading("Scope", "scope-1"),))
    page = Page(render_document(Front(Chapter("front", "Run", "Yes", ())), [first, chapter()], {}, "run r"))
    assert "#index-scope-1" in page.attributes("a", "href")
    assert {"index-scope-1", "costs-where"} <= {a["id"] for _, a in page.tags if a.get("id")}
    alone = Page(render_document(Front(Chapter("front", "Run", "Yes", ())), [chapter()], {}, "run r"))
    assert "#index-scope-1" not in alone.attributes("a", "href")


def test_the_policy_allows_the_pages_own_style_and_pictures_only() -> None:
    text = render_page(pages_of(chapter())[0], PLACE)
    assert f"<style>{page_style()}</style>" in text
    (policy,) = [a["content"] for _, a in Page(text).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == security_policy("linked")
    assert "default-src 'none'" in (policy or "")
    assert "script" not in (policy or "")
    assert not re.search(r"url\(|@import|https?:", page_style())


def test_every_table_and_figure_has_its_data_file() -> None:
    files = {name: make() for name, make in data_of(chapter()).items()}
    assert set(files) == {"cost-1.csv", "costs-costs.csv", "costs-raw.json"}
    rows = list(csv.reader(io.StringIO(files["costs-costs.csv"].decode(), newline="")))
    assert rows == [["Arm", "Cores", "Cores"], ["envoy", "'+0.4", HOSTILE]]
    assert figures_of([chapter(), chapter()]) == (FIGURE,)


def long_table(rows: int) -> Grid:
    return Grid("long", "Every trial", ("Trial",), tuple((Cell(f"trial {at}"),) for at in range(rows)))


def test_a_long_table_goes_over_several_pages_without_losing_a_row() -> None:
    long = chapter(Heading("All of them", "all"), long_table(1203))
    pages = pages_of(long)
    assert [page.file_name for page in pages][1:3] == ["costs-page-2.html", "costs-page-3.html"]
    shown = [render_page(page, PLACE) for page in pages]
    for at in range(1203):
        assert sum(f">trial {at}<" in text for text in shown) == 1, at
    assert "costs-page-2.html#all" in Page(shown[0]).attributes("a", "href")
    assert "costs-page-2.html" in Page(shown[0]).attributes("a", "href")
    assert all("data/costs-long.csv" in text for text in shown[1:])


@pytest.mark.parametrize("rows", [0, 1, 499, 500, 501])
def test_a_heading_is_on_the_page_of_what_it_heads(rows: int) -> None:
    long = chapter(Heading("All of them", "all"), Heading("By name", "names"), long_table(rows))
    for page in pages_of(long):
        assert not isinstance(page.pieces[-1], Heading)


def test_a_single_document_shows_the_first_rows_and_carries_all_of_them_as_data() -> None:
    text = render_document(Front(Chapter("front", "Run", "Yes", ())), [chapter(long_table(700))], {}, "run r")
    assert "rows 1 to 500 of 700" in text
    assert text.count(">trial ") == 500
    encoded = next(a["href"] or "" for _, a in Page(text).tags if a.get("download") == "costs-long.csv")
    assert base64.b64decode(encoded.partition("base64,")[2]).count(b"trial ") == 700
