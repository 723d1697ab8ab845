"""What the displays print: figures, samples as literal text, no flood from phases, and both kinds of stream."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from callwright import Reason, ReasonCode, Verdict
from callwright.display import (
    LiveDisplay,
    PlainDisplay,
    Sample,
    SilentDisplay,
    duration,
    make_display,
    safe,
    sample_text,
    shortened,
    verdict_text,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

unhurried = settings(deadline=None)  # the machine may be busy

METRICS = {
    "reward": 0.3125,
    "failed_rows": 2,
    "entropy": 0.41,
    "completion_length": 27.3,
    "tokens_per_second": 118.2,
    "seconds": 10.0,
    "loss": 0.1,
}
ESCAPE = "\x1b[2J"


def sample(completion="[f(a=1)]", total=1.0, **verdicts):
    return Sample("What is the area?", completion, total, verdicts)


def plain(**options):
    console = Console(file=io.StringIO())
    return PlainDisplay(console, **options), console.file


def live(width=100):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    return LiveDisplay(console), console.file


def test_plain_prints_one_line_a_step_with_the_figures_of_that_step():
    display, out = plain()
    display.started(12, 0, Path("runs/a"))
    display.step(0, METRICS, None)
    display.step(1, METRICS | {"kl": 0.0123, "validation_accuracy": 0.425, "seconds": 20.0}, None)
    display.finished()
    assert out.getvalue().splitlines() == [
        "training steps 1 to 12 in runs/a",
        "step  1/12  reward 0.312  failures 2  entropy 0.410  length 27.3  118 tok/s  10.0 s  left 1:50",
        "step  2/12  reward 0.312  validation 42.5%  failures 2  entropy 0.410  KL 0.0123  length 27.3  118 tok/s"
        "  20.0 s  left 2:30",
    ]


def test_plain_does_not_fold_long_lines_and_takes_any_metrics():
    display, out = plain()
    display.note("x" * 500)
    display.started(1, 0, Path("run"))
    display.step(0, {"reward": float("nan")}, None)
    assert out.getvalue().splitlines() == ["x" * 500, "training steps 1 to 1 in run", "step 1/1  reward nan"]


def test_plain_reports_a_long_phase_every_ten_seconds_and_a_short_one_never():
    now = 0.0
    display, out = plain(clock=lambda: now)
    for done in range(101):
        display.phase("generate", done, 100)
        now += 0.25
    assert out.getvalue().splitlines() == ["generate 40/100", "generate 80/100"]
    for done in range(31):
        display.phase("update", done, 30)
        now += 0.25
    assert len(out.getvalue().splitlines()) == 2


def test_a_resumed_run_says_where_it_goes_on():
    display, out = plain()
    display.started(40, 12, Path("runs/a"))
    display.step(12, {}, None)
    assert out.getvalue().splitlines() == ["training steps 13 to 40 in runs/a", "step 13/40"]


@pytest.mark.parametrize("make", [plain, live])
def test_model_text_is_shown_literally_and_drives_no_terminal(make):
    display, out = make()
    display.started(1, 0, Path("run"))
    display.step(
        0, METRICS, sample(f"[bold]x[/bold] :smile: [/oops] {ESCAPE}\r\u202e", evil=Verdict(0.0, (Reason(ESCAPE),)))
    )
    display.warn(f"[red]{ESCAPE}")
    display.note(f"[/red]{ESCAPE}")
    display.finished()
    assert r"[bold]x[/bold] :smile: [/oops] \x1b[2J\r\u202e" in out.getvalue()
    assert r"evil: \x1b[2J" in out.getvalue()
    assert r"warning: [red]\x1b[2J" in out.getvalue()
    assert r"[/red]\x1b[2J" in out.getvalue()
    assert ESCAPE not in out.getvalue()


@unhurried
@given(st.text())
def test_safe_text_is_printable_and_keeps_what_already_was(text):
    assert all(c == "\n" or c.isprintable() for c in safe(text))
    assert safe(safe(text)) == safe(text)
    if text.isprintable():
        assert safe(text) == text


@unhurried
@given(st.text(), st.integers(10, 50))
def test_shortened_text_fits_and_short_text_is_whole(text, length):
    short = shortened(text, length)
    assert len(short) <= length
    assert short == text.strip() or (short.endswith(" …") and text.strip().startswith(short[:-2]))


@unhurried
@given(st.floats(0, 10**6))
def test_a_duration_counts_whole_seconds(seconds):
    parts = [int(part) for part in duration(seconds).split(":")]
    assert sum(part * 60**place for place, part in enumerate(reversed(parts))) == round(seconds)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Verdict(1.0), "1"),
        (
            Verdict(0.25, (Reason(ReasonCode.WRONG_VALUE, "a is 1"), Reason(ReasonCode.TRUNCATED))),
            "wrong_value (a is 1), truncated",
        ),
        (Verdict.abstain("no answer"), "not_applicable (no answer)"),
        (Verdict(None), "abstained"),
        (Verdict.failed("TimeoutError: 5 s"), "failed, TimeoutError: 5 s"),
    ],
)
def test_every_state_of_a_verdict_has_words(verdict, text):
    assert verdict_text(verdict) == text


def test_a_sample_shows_question_completion_score_and_reasons():
    text = sample_text(sample("", 0.0, ast_match=Verdict(0.0, (Reason(ReasonCode.NO_CALL),))))
    assert text.plain == "What is the area?\n(empty completion)\nscore 0  ast_match: no_call"


def test_live_shows_step_figures_and_the_phase_at_work():
    display, out = live()
    display.started(40, 0, Path("runs/a"))
    display.step(0, METRICS | {"validation_accuracy": 0.425}, None)
    display.step(1, METRICS, None)
    display.phase("generate", 3, 48)
    display.finished()
    display.finished()
    last = out.getvalue()
    assert "training in runs/a" in last
    assert " 2/40 " in last
    assert "left 6:20" in last
    assert "reward 0.312  validation 42.5%  failures 2  entropy 0.410  length 27.3  118 tok/s  10.0 s" in last


def test_live_shows_an_evaluation_without_a_run_and_cleans_up():
    display, out = live()
    display.phase("evaluate", 0, 80)
    display.phase("evaluate", 40, 80)
    display._live.refresh()  # rather than wait for the refreshing thread
    assert "evaluate" in out.getvalue()
    assert "40/80" in out.getvalue()
    display.finished()
    assert not display._live.is_started


def test_silence(capfd):
    display = SilentDisplay()
    display.note("a")
    display.warn("b")
    display.started(1, 0, Path("run"))
    display.phase("generate", 0, 1)
    display.step(0, METRICS, sample())
    display.finished()
    assert capfd.readouterr() == ("", "")


def kind_of_display(stdout, environment):
    code = "import sys; from rich.console import Console; from callwright.display import make_display;"
    code += "sys.stderr.write(type(make_display(Console())).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, env=os.environ | environment, check=True
    )
    return done.stderr.decode()


@pytest.mark.parametrize(("term", "kind"), [("xterm", "LiveDisplay"), ("dumb", "PlainDisplay")])
def test_a_real_terminal_gets_the_live_view_unless_it_is_dumb(term, kind):
    master, slave = pty.openpty()
    assert kind_of_display(slave, {"TERM": term}) == kind
    os.close(slave)
    os.close(master)


def test_a_pipe_gets_plain_lines_even_with_forced_colours():
    assert kind_of_display(subprocess.PIPE, {"FORCE_COLOR": "1", "TERM": "xterm"}) == "PlainDisplay"
    assert isinstance(make_display(Console(file=io.StringIO(), force_terminal=True)), PlainDisplay)
