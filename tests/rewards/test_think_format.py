import pytest
from callwright import ReasonCode, Task
from callwright_dialects.funrl import FunRL
from callwright_dialects.python_calls import PythonCalls
from callwright_rewards.think_format import ThinkFormat
from hypothesis import given
from hypothesis import strategies as st

TASK = Task("t", ())
GOOD = "<think>Ulm is a city.</think>\n<answer>[f(a=1)]</answer>"


@pytest.fixture
def judge(rollouts_of):
    def run(text, dialect=None, **options):
        (verdict,) = ThinkFormat(**options).score(rollouts=rollouts_of(dialect or FunRL(), [TASK], [text]))
        return verdict

    return run


@pytest.mark.parametrize("text", [GOOD, GOOD + "\n", GOOD.replace("[f(a=1)]", "I cannot."), GOOD.replace("(a=1", "(")])
def test_well_formed(judge, text):
    verdict = judge(text)
    assert verdict.score == 1.0
    assert verdict.reasons[0].code == ReasonCode.CORRECT


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"Well. {GOOD}", "Well. "),
        (f"{GOOD} Done.", " Done."),
        (GOOD.replace("\n", " so "), " so "),
        (GOOD.replace("Ulm is a city.", " \n"), " \n"),
        (f"\n{GOOD}", "Ulm is a city."),
        (GOOD.replace("city", "<think>city"), "<think>"),
        (GOOD + GOOD, "<think>"),
        ("<answer>[f(a=1)]</answer><think>x</think>", "<answer>"),
        (GOOD.removeprefix("<think>"), None),
        (GOOD.replace("</think>", ""), None),
        (GOOD.removesuffix("</answer>"), None),
        ("[f(a=1)]", None),
        ("", None),
    ],
)
def test_malformed(judge, text, place):
    verdict = judge(text)
    assert verdict.score == 0.0
    assert {reason.code for reason in verdict.reasons} == {ReasonCode.BAD_FORMAT}
    places = [text[slice(*reason.span)] for reason in verdict.reasons]
    assert (text if place is None else place) in places  # None: what is missing has no place but the whole text


def test_least_thinking(judge):
    assert judge(GOOD, min_characters=10).score == 1.0
    assert judge(GOOD, min_characters=11).score == 0.0
    for nothing in (" ", "\u200b", "...", "---\n"):
        assert judge(GOOD.replace("Ulm is a city.", nothing)).score == 0.0
    assert judge(GOOD.replace("Ulm is a city.", ""), min_characters=0).score == 1.0


def test_a_dialect_without_thinking(judge):
    assert judge("[f(a=1)]", PythonCalls()).reasons[0].message == "no thinking block"


@given(
    st.text(st.characters(exclude_characters="<"), min_size=1).filter(lambda text: any(map(str.isalnum, text))),
    st.integers(1, 50),
)
def test_length_is_never_paid(thinking, times):
    verdicts = [
        ThinkFormat()._judge(FunRL().parse(f"<think>{thinking * n}</think><answer>x</answer>")) for n in (1, times)
    ]
    assert verdicts[0].score == verdicts[1].score == 1.0
