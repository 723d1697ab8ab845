"""A real browser: Debian's Chromium, driven by Playwright. `make test-browser` runs these tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
WATCHER = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass
class Opened:
    """A page, and all that it did which it should not."""

    page: Any
    wrong: list[str] = field(default_factory=list)

    def check(self) -> None:
        assert self.wrong == []
        assert self.page.evaluate("window.violations") == []
        assert self.page.evaluate("window.ran") is None, "what a model wrote was run"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs make test-browser")
    if CHROMIUM is None:
        pytest.fail("there is no chromium: apt-get install chromium, or CHROMIUM=/path/to/it make test-browser")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def expect(browser: Any) -> Any:
    """Playwright's, which waits a while for what is expected."""
    from playwright.sync_api import expect

    return expect


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Opened]]:
    """`open_page(path or address, width=1400, dark=False)`: the page, drawn, with everything watched that it does."""
    contexts = []
    opened = []

    def open_page(where: Path | str, width: int = 1400, dark: bool = False, live: bool = False) -> Opened:
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        one = Opened(page)
        opened.append(one)
        address = where if isinstance(where, str) else where.resolve().as_uri()
        page.add_init_script(WATCHER)
        page.on("dialog", lambda dialog: (one.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: one.wrong.append(f"error {error}"))
        page.on("console", lambda said: said.type in ("error", "warning") and one.wrong.append(said.text))
        page.on("popup", lambda other: one.wrong.append(f"window {other.url}"))
        page.on("request", lambda asked: asked.url.startswith(address) or one.wrong.append(f"request {asked.url}"))
        page.goto(address)
        page.wait_for_selector(".long-row" if live else "html[data-ready]")
        return one

    yield open_page
    for one in opened:
        one.check()
    for context in contexts:
        context.close()
