"""The page in a browser: nothing that a model wrote is obeyed, and everything that a reader does works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callwright.report.command import write_report

Write = Callable[..., Path]
Open = Callable[..., Any]

HOSTILE = [
    "<script>window.ran = 1; alert(1)</script>",
    "</script><script>window.ran = 1</script>",
    "<!-- <script>",
    '<img src="x" onerror="window.ran = 1"><svg onload="window.ran = 1">',
    '"><iframe srcdoc="<script>parent.ran = 1</script>"></iframe>',
    "javascript:window.ran=1 [click](javascript:alert(1)) <a href='javascript:alert(1)'>here</a>",
    "<style>body { display: none }</style><link rel=stylesheet href=http://example.org/x.css>",
    "<meta http-equiv=refresh content='0;url=http://example.org/'><base href=http://example.org/>",
    "good \u202eevil\u202c \u2066x\u2069 zero\u200bwidth",
    "NUL \0 and \x07 and \x1b[31mred\x1b[0m \x1b]8;;http://example.org\x07link",
    "half of an emoji \ud83d and \udc00",
    "line\u2028separator\u2029paragraph",
    "{{constructor.constructor('window.ran=1')()}} ${alert(1)}",
    "x" * 100_000,
    "&lt;script&gt;&#x3c;",
    "__proto__",
]


HIDDEN = re.compile("[\0-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\u200b\u2028\u2029]")


def hostile_rows() -> list[dict[str, Any]]:
    return [
        {
            "text": text,
            "task": f"task {text[:60]}",
            "group": number // 2,
            "score": number % 2,
            "reasons": [(f"code {text[:40]}", text[:300], (0, max(1, len(text) // 2)))],
        }
        for number, text in enumerate(HOSTILE)
    ]


def plain_rows(step: int) -> list[dict[str, Any]]:
    """Two groups of four: the first is learned over the steps, the second always half right."""
    rows = []
    for number in range(8):
        right = number % 4 < (min(step, 4) if number < 4 else 2)
        text = f"[add(a={1 if right else 22})]"
        reason = ("correct", "", (1, len(text) - 1)) if right else ("wrong_value", "22 is not 1", (7, 9))
        task = f"prompt_{number // 4}" if number < 4 else f"once_{step}"
        rows.append({"text": text, "task": task, "group": number // 4, "score": float(right), "reasons": [reason]})
    return rows


@pytest.fixture
def page_of(write_run: Write, tmp_path: Path) -> Callable[..., Path]:
    """`page_of({name: steps}, recipes={name: ...})`: the report about runs with these rows."""

    def page_of(runs: dict[str, Any], recipes: dict[str, Any] | None = None) -> Path:
        evaluation = {
            "before": {"accuracy": 0.25, "rows": 4, "reasons": {"wrong_value": 3, "correct": 1}},
            "after": {"accuracy": 0.5, "rows": 4, "reasons": {"wrong_value": 2, "correct": 2}},
        }
        for part, right in (("before", "a"), ("after", "bc")):
            evaluation[part]["rows_correct"] = {name: name in right for name in "abcd"}
        folders = [
            write_run(tmp_path / name, steps, recipe=(recipes or {}).get(name), evaluation=evaluation)
            for name, steps in runs.items()
        ]
        write_report(folders, tmp_path / "report.html")
        return tmp_path / "report.html"

    return page_of


def row_count(page: Any) -> int:
    return int(page.locator("[aria-label=Completions]").get_attribute("aria-rowcount"))


def chosen(page: Any) -> str:
    return str(page.locator(".detail-head h3").inner_text())


# ------------------------------------------------------------------------------------------------- hostile


@pytest.mark.parametrize("width", [1400, 390])
def test_hostile_texts_stay_texts(page_of: Any, open_page: Open, tmp_path: Path, width: int) -> None:
    opened = open_page(page_of({"<img src=x onerror=alert(1)>": [hostile_rows(), hostile_rows()]}), width)
    page = opened.page
    elements = page.evaluate("[...document.querySelectorAll('*')].map((one) => one.tagName.toLowerCase())")
    assert not {"img", "iframe", "a", "link", "base", "object", "embed", "form"} & set(elements)
    assert elements.count("script") == 4, "data of the page, of its run and of its completions, and the page's own"
    assert page.evaluate("document.querySelectorAll('style').length") == 1
    handlers = "[...document.querySelectorAll('*')].some((e) => [...e.attributes].some((a) => a.name.startsWith('on')))"
    assert page.evaluate(handlers) is False
    assert "[31m" in page.locator(".tables").inner_text() or width < 600
    table = page.locator("[aria-label=Completions]")
    table.focus()
    page.keyboard.press("Home")
    for number in range(2 * len(HOSTILE)):
        text = page.locator(".part > .completion").inner_text()
        assert HOSTILE[number % len(HOSTILE)][:3] in text
        assert not re.search(
            "[\0-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\u200b\u2028\u2029]", page.inner_text("#completions")
        )
        page.keyboard.press("ArrowDown")
    opened.check()
    page.get_by_role("button", name="Prompts").click()
    for kind in ("advantage", "parts", "none"):
        page.get_by_role("button", name=kind, exact=True).click()
    opened.check()
    page.screenshot(path=tmp_path / f"hostile-{width}.png", full_page=True)


def test_hidden_characters_are_written_out_and_spans_stay_in_place(page_of: Any, open_page: Open) -> None:
    """Spans count characters; a browser counts an emoji as two."""
    text = "😀😀 a\u202eb\nnext wrong end"
    start = text.index("wrong")
    rows = [{"text": text, "score": 0.0, "reasons": [("odd", "here", (start, start + 5))]}]
    page = open_page(page_of({"run": [rows]})).page
    assert "".join(page.locator(".part > .completion .wrong").all_inner_texts()) == "wrong"
    assert "b\nnext" in page.locator(".part > .completion").inner_text()
    assert page.locator(".part > .completion .escape").all_inner_texts() == ["\\u202e"]
    assert page.locator(".part > .completion .label").inner_text() == "odd"


def test_a_very_long_text_is_cut_until_it_is_asked_for(page_of: Any, open_page: Open) -> None:
    page = open_page(page_of({"run": [[{"text": "y" * 100_000}]]})).page
    assert len(page.locator(".part > .completion").inner_text()) < 25_000
    page.get_by_role("button", name="show all 100,000 characters").click()
    assert len(page.locator(".part > .completion").inner_text()) == 100_000


# --------------------------------------------------------------------------------------------- what a reader does


def test_filter_search_sort_and_choose(page_of: Any, open_page: Open, tmp_path: Path) -> None:
    steps = [plain_rows(step) for step in range(1, 7)]
    page = open_page(page_of({"run": steps})).page
    assert row_count(page) == 48

    page.select_option("select[aria-label=reason]", label="wrong_value (18)")
    assert row_count(page) == 18
    page.get_by_label("search").fill("once_3")
    assert row_count(page) == 2
    page.get_by_role("button", name="clear").click()
    assert row_count(page) == 48
    page.select_option("select[aria-label=score]", label="1 (30)")
    assert row_count(page) == 30
    page.get_by_role("textbox", name="steps").fill("2-3")
    assert row_count(page) == 2 + 2 + 3 + 2
    page.get_by_role("button", name="clear").click()

    first = page.locator("[aria-label=Completions] .long-row").first
    page.get_by_role("button", name="score").click()
    assert first.locator(".score").inner_text() == "1"
    page.get_by_role("button", name="score").click()
    assert first.locator(".score").inner_text() == "0"
    assert page.locator(".long-head .total").get_attribute("aria-sort") == "ascending"

    first.click()
    assert page.locator(".part > .completion .wrong").inner_text() == "22"
    assert page.locator(".part > .completion .label").inner_text() == "wrong_value"
    assert "22 is not 1" in page.locator(".verdicts").inner_text()
    page.screenshot(path=tmp_path / "chosen.png")


def test_a_reason_of_the_chart_shows_its_completions(page_of: Any, open_page: Open) -> None:
    page = open_page(page_of({"run": [plain_rows(step) for step in range(1, 7)]})).page
    page.locator("#reasons").get_by_role("button", name="wrong_value").click()
    assert row_count(page) == 18


def test_siblings_stand_side_by_side(page_of: Any, open_page: Open, tmp_path: Path) -> None:
    page = open_page(page_of({"run": [plain_rows(1)]})).page
    page.get_by_label("search").fill("prompt_0")
    page.locator("[aria-label=Completions] .long-row").first.click()
    cards = page.locator(".sibling")
    assert cards.count() == 2, "three of the four wrote the same"
    assert cards.nth(0).bounding_box()["y"] == cards.nth(1).bounding_box()["y"]
    assert cards.nth(1).locator(".times").inner_text() == "3\u00d7"
    cards.nth(1).click()
    assert page.locator(".sibling[aria-current=true] .label").inner_text() == "wrong_value"
    assert page.locator(".detail-head .score").inner_text() == "0"
    page.locator(".detail").screenshot(path=tmp_path / "siblings.png")


def test_how_the_answers_to_a_prompt_changed(page_of: Any, open_page: Open) -> None:
    page = open_page(page_of({"run": [plain_rows(step) for step in range(1, 7)]})).page
    page.get_by_role("button", name="Prompts").click()
    page.get_by_label("search").fill("prompt_0")
    prompt = page.locator("[aria-label=Prompts] .long-row").first
    assert prompt.locator(".change").inner_text() == "+0.75"
    prompt.click()
    visits = page.locator(".history button")
    assert visits.count() == 6
    assert visits.locator(".visit-mean").all_inner_texts() == ["0.25", "0.50", "0.75", "1.00", "1.00", "1.00"]
    visits.nth(1).click()
    assert "step 2" in page.locator(".detail-head p").inner_text()


def test_the_keyboard_walks_through_the_table(page_of: Any, open_page: Open) -> None:
    page = open_page(page_of({"run": [plain_rows(step) for step in range(1, 7)]})).page
    page.locator("[aria-label=Completions]").focus()
    page.keyboard.press("Home")
    assert "step 6" in page.locator(".detail-head p").inner_text()
    page.keyboard.press("End")
    assert "step 1" in page.locator(".detail-head p").inner_text()
    active = page.locator("[aria-label=Completions]").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"


def test_a_long_table_holds_few_elements(page_of: Any, open_page: Open) -> None:
    rows = [{"text": f"row {number}", "group": number // 8} for number in range(3000)]
    page = open_page(page_of({"run": [rows]})).page
    assert row_count(page) == 3000
    assert page.locator("[aria-label=Completions] .long-row").count() < 60
    page.locator("[aria-label=Completions]").focus()
    page.keyboard.press("End")
    assert page.locator("[aria-label=Completions] .long-row[aria-selected=true]").is_visible()
    assert "row 2999" in page.locator(".part > .completion").inner_text()


def test_pointing_at_a_step_reads_it_in_every_chart(page_of: Any, open_page: Open) -> None:
    page = open_page(page_of({"run": [plain_rows(step) for step in range(1, 7)]})).page
    reward = page.locator(".chart", has_text="Reward").first
    assert reward.locator(".key b").first.inner_text() == "0.75"
    box = reward.locator("svg[role=img]").bounding_box()
    page.mouse.move(box["x"] + 46, box["y"] + 60)
    assert page.locator(".chart .at", has_text="step 1").count() >= 2
    assert reward.locator(".key b").first.inner_text() == "0.375"
    reward.locator("svg[role=img]").focus()
    page.keyboard.press("ArrowRight")
    assert "step 2" in str(reward.locator("svg[role=img]").get_attribute("aria-label"))


def test_two_runs_are_compared(page_of: Any, open_page: Open, tmp_path: Path) -> None:
    runs = {"one": [plain_rows(s) for s in range(1, 5)], "two": [plain_rows(1) for _ in range(1, 4)]}
    recipes = {"one": {"explore": [{"use": "kl", "beta": 0.1}]}, "two": {"explore": []}}
    page = open_page(page_of(runs, recipes)).page
    reward = page.locator(".chart", has_text="Reward").first
    assert reward.locator(".key").all_inner_texts() == ["one\n0.75", "two\n0.375"]
    assert reward.locator("path.line").count() == 2
    table = page.locator("#recipe .differences").first.inner_text()
    assert "explore.0.beta" in table
    assert "0.1" in table
    assert "seed" not in table, "what is alike is not there"
    page.get_by_role("button", name="two").click()
    assert row_count(page) == 24
    page.screenshot(path=tmp_path / "two.png", full_page=True)
    page.get_by_label("search").fill("prompt_0")
    page.locator("[aria-label=Completions] .long-row").first.click()
    assert page.locator(".history button").count() == 7, "the visits of both runs"


def test_dark_and_light(page_of: Any, open_page: Open, tmp_path: Path) -> None:
    path = page_of({"run": [plain_rows(step) for step in range(1, 7)]})
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = open_page(path).page, open_page(path, dark=True).page
    assert light.evaluate(background) != dark.evaluate(background)
    dark.screenshot(path=tmp_path / "dark.png", full_page=True)
    button = light.get_by_title("colours")
    button.click()
    button.click()
    assert "dark" in button.inner_text()
    assert light.evaluate(background) == dark.evaluate(background)


def test_a_phone_shows_all_without_scrolling_sideways(page_of: Any, open_page: Open, tmp_path: Path) -> None:
    page = open_page(page_of({"run": [plain_rows(step) for step in range(1, 7)]}), width=390).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    page.locator("[aria-label=Completions] .long-row").first.click()
    page.get_by_role("button", name="back to the table").click()


def test_held_out_rows_that_were_learned_and_lost(page_of: Any, open_page: Open) -> None:
    page = open_page(page_of({"run": [plain_rows(1)]})).page
    text = page.locator("#held-out").inner_text()
    assert re.search(r"Right only after training 2\s+b\s+c", text)
    assert re.search(r"Right only before 1\s+a", text)


def test_a_finding_leads_to_its_completions(
    page_of: Any, open_page: Open, tmp_path: Path, write_run: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"code": "copied", "title": "<b>Copies</b>", "message": "The example is copied.", "rows": [[3, 5], [9, 9]]}
    monkeypatch.setattr("callwright.report.folder._findings", lambda *_: [found])
    page = open_page(page_of({"run": [plain_rows(step) for step in range(1, 7)]})).page
    assert "<b>Copies</b>" in page.locator(".finding").inner_text()
    page.get_by_role("button", name="step 3, row 5").click()
    assert "step 3" in page.locator(".detail-head p").inner_text()
    assert page.evaluate("location.hash") == "#0.3.5"
    page.get_by_role("button", name="step 9, row 9").click()
    assert page.get_by_role("button", name="step 9, row 9").is_disabled()


def test_a_run_without_completions(write_run: Write, open_page: Open, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [])
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "reward": 0.5}) + "\n")
    write_report([folder], tmp_path / "page.html")
    page = open_page(tmp_path / "page.html").page
    assert "no completions" in page.locator("#completions").inner_text()
    assert page.locator(".chart", has_text="Reward").count() == 1


def test_the_benchmark_measures_what_a_reader_does(browser: Any, tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/report.py", "--completions", "400", "--screenshots", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "400 completions" in done.stdout
    assert len(re.findall(r"\d+ ms +\d+ ms$", done.stdout, re.MULTILINE)) == 12
    assert {path.name for path in tmp_path.glob("*.png")} == {"report-1400.png", "report-390.png"}
