"""The page of `callwright watch` while a run goes on."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from callwright.watch.server import Server

Write = Callable[..., Path]


def rows(step: int) -> list[dict[str, Any]]:
    return [{"text": f"<b>answer {step}.{n}</b>", "score": float(n), "reasons": [("odd", "", None)]} for n in range(2)]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The folder of a run that is not there yet, and the address at which it is watched."""
    folder = tmp_path / "run"
    server = Server([folder], 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, server.address
    server.shutdown()
    server.server_close()


def test_steps_appear_as_they_are_written(
    served: tuple[Path, str], write_run: Write, open_page: Callable[..., Any], tmp_path: Path, expect: Any
) -> None:
    folder, address = served
    write_run(folder, [rows(1)], planned=3)
    page = open_page(address, live=True).page
    expect(page.locator("[aria-label=Completions]")).to_have_attribute("aria-rowcount", "2")
    assert page.locator(".live").inner_text() == "live"
    page.locator(".long-row", has_text="answer 1.0").click()

    write_run(folder, [rows(1), rows(2), rows(3)], planned=3)
    expect(page.locator("[aria-label=Completions]")).to_have_attribute("aria-rowcount", "6")
    assert "answer 1.0" in page.locator(".part > .completion").inner_text(), "what is looked at stays"
    expect(page.locator(".live")).to_have_text("all steps are done")
    assert page.locator(".chart", has_text="Reward").locator("path.line").count() == 1
    page.screenshot(path=tmp_path / "live.png", full_page=True)

    shutil.rmtree(folder)
    write_run(folder, [rows(7)], planned=3)
    expect(page.locator("[aria-label=Completions]")).to_have_attribute("aria-rowcount", "2")
    assert "answer 7" in page.locator(".tables").inner_text(), "a run that was begun anew is told anew"


def test_a_run_that_has_not_begun(served: tuple[Path, str], write_run: Write, browser: Any, expect: Any) -> None:
    folder, address = served
    page = browser.new_page()
    page.goto(address)
    expect(page.locator(".live")).to_have_text("waiting for the first step")
    assert "there is no such folder yet" in page.locator("#overview").inner_text()
    write_run(folder, [rows(1)], planned=1)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "reward": 0.5}) + '\n{"step": 2, "rew')
    page.wait_for_selector(".long-row")
    assert page.locator(".long-row").count() == 2
    page.close()
