"""A headless Chromium, and every kind of page for it: as files on disk, and served by a coordinator."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from werkzeug.serving import make_server

from coordinator.web.installation import Installation
from coordinator.web.reporting import Reporting
from meshgauge.run import RunRecord
from meshgauge.store.database import transaction
from meshgauge.trial import TrialRecord
from reports.analysis import Analysis, analyse
from reports.chapters.two_runs import two_runs_chapter
from reports.pages.book import book_of
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Text
from reports.pages.code_key import code_key
from reports.pages.site import BookSource, RunLine, RunSource, write_site

if TYPE_CHECKING:
    from flask import Flask

AXE = resources.files("axe_core_python").joinpath("axe.min.js").read_text()
# Not decode(): for a picture that lies in a page nobody looks at, Chromium may never keep its promise.
_ASK_FOR_ALL_PICTURES = "for (const image of document.images) image.loading = 'eager'"
_ALL_PICTURES_ENDED = "[...document.images].every(image => image.complete)"
Window = tuple[int, Literal["light", "dark"]]
EVERY_DAY: tuple[Window, ...] = ((390, "dark"), (1280, "light"))
THE_OTHERS: tuple[Window, ...] = ((390, "light"), (1280, "dark"))
_PATIENCE_MS = 120_000  # figures are drawn when a page asks for them, on a machine that may be busy


def _neighbour(room: str) -> ModuleType:
    """Return the fixtures of another room's tests: fixtures are found by folder, and these are needed here too."""
    name = f"{room}_fixtures_for_browser"
    if name not in sys.modules:
        path = Path(__file__).parent.parent / room / "conftest.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_FACE = _neighbour("coordinator")
installed, planner, shelf, mailbox = _FACE.installed, _FACE.planner, _FACE.shelf, _FACE.mailbox
settings, make_app, client, submit, plan_text = (
    _FACE.settings,
    _FACE.make_app,
    _FACE.client,
    _FACE.submit,
    _FACE.plan_text,
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium; where there is none, tests that need it are skipped."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed: chromium, chromium-browser or google-chrome on the PATH is needed")
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to sandbox as root
        running = playwright.chromium.launch(executable_path=program, args=options)
        yield running
        running.close()


@dataclass
class Visit:
    """A browser window that writes down what pages complain about and ask for."""

    context: BrowserContext
    origin: str
    complaints: list[str] = field(default_factory=list)

    def open(self, address: str) -> Page:
        """Return a page, loaded to its end, pictures further down included."""
        page = self.context.new_page()
        page.on("console", lambda message: self._complain(message.type in ("error", "warning"), message.text))
        page.on("pageerror", lambda error: self._complain(True, str(error)))
        page.on("request", lambda sent: self._complain(not sent.url.startswith((self.origin, "data:")), sent.url))
        page.on("requestfailed", lambda sent: self._complain(True, f"failed: {sent.url}"))
        page.goto(address, wait_until="load")
        page.evaluate(_ASK_FOR_ALL_PICTURES)
        deadline = time.monotonic() + _PATIENCE_MS / 1000
        while not page.evaluate(_ALL_PICTURES_ENDED):  # wait_for_function needs what the page's policy forbids
            assert time.monotonic() < deadline, f"the pictures of {address} never came"
            page.wait_for_timeout(20)
        return page

    def _complain(self, is_bad: bool, text: str) -> None:
        if is_bad:
            self.complaints.append(text)


@pytest.fixture(params=[EVERY_DAY, pytest.param(THE_OTHERS, marks=pytest.mark.slow)], ids=["", "others"])
def windows(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Callable[[str], list[Visit]]]:
    """Return a function that gives windows onto one origin: phone and desk, dark and light."""
    contexts = [
        browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        for width, scheme in request.param
    ]
    for context in contexts:
        context.set_default_timeout(_PATIENCE_MS)
    yield lambda origin: [Visit(context, origin) for context in contexts]
    for context in contexts:
        context.close()


@pytest.fixture
def misfits() -> Callable[[Page], list[str]]:
    """Return a function that says what is wrong with the layout of a loaded page."""
    return _misfits_of


@pytest.fixture
def problems() -> Callable[[Page], list[str]]:
    """Return a function that says what is wrong with the layout and the accessibility of a loaded page."""
    return _problems_of


def _misfits_of(page: Page) -> list[str]:
    """Return what is wrong with the layout of a loaded page."""
    found = []
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow > 0:
        found.append(f"{overflow} px wider than the window")
    broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src.slice(0, 200))")
    return [*found, *(f"picture not shown: {source}" for source in broken)]


def _problems_of(page: Page) -> list[str]:
    """Return what is wrong with the layout and the accessibility of a loaded page."""
    found = _misfits_of(page)
    # What is folded is read too; axe takes the colours of what lies in its place otherwise.
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    page.evaluate(AXE)
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    for violation in result["violations"]:
        if violation["impact"] in ("serious", "critical"):
            nodes = [node["html"][:200] for node in violation["nodes"][:3]]
            found.append(f"{violation['id']}: {violation['help']}: {nodes}")
    return found


def runs() -> dict[str, RunRecord]:
    """Return runs in every state a page has to speak about, by what they are."""
    make, arm = _neighbour("reports").RunFactory(), _neighbour("reports").arm
    truth = {"envoy-1.40.0": 1.61, "envoy-1.36.4": 1.7, "nginx-1.31.0": 1.2}
    loads = [{"rate_rps": rate, "window_s": 20} for rate in (500, 1000)]

    def failing(trial: TrialRecord) -> TrialRecord:
        died = replace(trial, state="failed", reason="envoy died: signal 9", load=None, gates=())
        return died if trial.trial_id == "trial-7" else trial

    long_name = "a-mesh-with-a-rather-long-name-that-somebody-gave-it-in-a-hurry"
    return {
        "small": make(ratio=truth, host_cores=2),
        "wide": make(ratio=truth, blocks=6, loads=loads, profiles=["plain", "mtls"], edit=failing),
        "unstarted": replace(make(blocks=2, state="running", edit=lambda _: None), finished_at=None),
        "long names": make((arm("none"), arm(long_name, "envoy")), blocks=6, description="word " * 200 + "x" * 300),
    }


def _identified(found: dict[str, RunRecord]) -> list[RunRecord]:
    return [replace(run, run_id=str(uuid.UUID(int=at))) for at, run in enumerate(found.values(), 1)]


def _trend() -> Chapter:
    cells = (Cell("2026-07-01", link=f"runs/{uuid.UUID(int=1)}/index.html"), Cell("slower", "slower"), Cell("+4.2 %"))
    table = Grid("nights", "Every night", ("Night", "State", "Step"), (cells,) * 80, frozenset({2}))
    return Chapter(
        "nightly", "Nightly", "No step in 42 nights.", (Heading("Nights", "nights"), Text(("Calm.",), "info"), table)
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of an installation as a folder."""
    directory = tmp_path_factory.mktemp("pages")
    made = _identified(runs())

    def source(run: RunRecord) -> RunSource:
        return RunSource(RunLine(run.run_id, run.plan.name, run.state, "2026-07-01 22:00"), "1", lambda: run)

    def comparison() -> Any:
        from reports.comparing.across import compare_runs  # noqa: PLC0415

        return book_of("compare/a--b", [two_runs_chapter(compare_runs(analyse(made[0]), analyse(made[1])))])

    others = [
        BookSource("trends/nightly", "1", lambda: book_of("trends/nightly", [_trend()])),
        BookSource("compare/a--b", "1", comparison),
    ]
    write_site(directory, map(source, made), others, code_key())
    return directory


class Prepared(Reporting):
    """Reporting over runs made for the test: the store knows their states, not their trials."""

    def __init__(self, known: dict[str, RunRecord]) -> None:
        super().__init__()
        self._known = known
        self._analysed: dict[uuid.UUID, Analysis] = {}

    def analysis(self, engine: sa.Engine, run_id: uuid.UUID) -> Analysis:
        del engine
        if run_id not in self._analysed:
            self._analysed[run_id] = analyse(self._known[str(run_id)])
        return self._analysed[run_id]


@dataclass(frozen=True)
class Served:
    """A coordinator that answers on loopback, and the runs it has."""

    origin: str
    run_ids: list[str]


@pytest.fixture
def served(
    installed: Installation,
    make_app: Callable[[Installation], Flask],
    submit: Callable[..., dict[str, Any]],
    engine: sa.Engine,
) -> Iterator[Served]:
    """A coordinator with runs in every state."""
    known: dict[str, RunRecord] = {}
    for name, run in runs().items():
        run_id = submit(**{"Idempotency-Key": name})["id"]
        known[run_id] = replace(run, run_id=run_id)
        if run.state == "done":
            with transaction(engine) as connection:
                connection.execute(sa.text("UPDATE trial SET state = 'measured' WHERE run_id = :run"), {"run": run_id})
                connection.execute(
                    sa.text("UPDATE run SET state = 'done', started_at = now(), finished_at = now() WHERE id = :run"),
                    {"run": run_id},
                )
    app = make_app(dataclasses.replace(installed, reporting=Prepared(known)))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Served(f"http://127.0.0.1:{server.server_port}/", list(known))
    server.shutdown()
    thread.join()
    server.server_close()
