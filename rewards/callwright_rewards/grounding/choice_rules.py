"""Rules for values chosen from a closed set: enum members, true and false, and nothing at all.

Such a choice often rests on no word of the conversation, so one that nothing backs is `unsupported`, not invented.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from callwright.types import Span

from callwright_rewards.grounding.number_rules import find_number
from callwright_rewards.grounding.question import Found, Question, same_value
from callwright_rewards.grounding.spellings import GENERIC_WORDS, SPELLINGS, STOP_WORDS
from callwright_rewards.grounding.string_rules import content_words, find_string, words
from callwright_rewards.grounding.support import GroundingCode as Code
from callwright_rewards.grounding.text_index import fold, stem, words_of

_GENERIC_STEMS = frozenset(stem(word) for word in (*GENERIC_WORDS, *STOP_WORDS))
_NEGATION = re.compile(
    r"\b(?:no|not|n't|never|without|don'?t|doesn'?t|isn'?t|aren'?t|won'?t|avoid|exclud\w*|except|skip\w*|omit\w*|"
    r"disabl\w*|off|neither|nor|unless|ignor\w*|neglect\w*|false)\b|n't\b",
    re.I,
)
_NEGATION_REACH = 40


def find_choice(q: Question) -> tuple[Code, Found] | None:
    """The member itself, one of its words or synonyms, that tells it from the others."""
    if isinstance(q.value, str):
        if (string := find_string(q)) is not None:
            return string
    elif (number := find_number(q)) is not None:
        return number
    for code, found in ((Code.EXPLAINED, explained(q)), (Code.ENUM_WORD, _by_a_word(q))):
        if found is not None:
            return code, found
    return None


def explained(q: Question) -> Found | None:
    """The description says what the value means, and the conversation uses a word of that alone."""
    often = Counter(stem(word) for word in words_of(q.description))
    for meaning in q.explanations:
        for word in content_words(meaning):
            if often[word] == 1 and word not in _GENERIC_STEMS and len(word) > 2 and (span := _anywhere(q, word)):
                return (span,)
    return None


def _by_a_word(q: Question) -> Found | None:
    """A word that tells this member from the others."""
    if not isinstance(q.value, str):
        return None
    others = {
        word for other in q.choices if isinstance(other, str) and other != q.value for word in content_words(other)
    }
    for word in words_of(q.value):
        if stem(word) in others or fold(word) in STOP_WORDS or len(word) < 3:
            continue
        span = _anywhere(q, fold(word))
        if span is not None:
            return (span,)
    return None


def other_choice_stated(q: Question) -> bool:
    """Does the conversation hold all words of another member of the enum?"""
    others = (other for other in q.choices[:200] if isinstance(other, str) and not same_value(other, q.value))
    return any(len(other) > 2 and words(replace(q, value=other)) is not None for other in others)


def listed_option(q: Question) -> bool:
    """Does the description name the value, as an example or as one of the options?"""
    return isinstance(q.value, str) and 1 < len(q.value) < 200 and q.value.lower() in q.description.lower()


def find_boolean(q: Question) -> tuple[Code, Found] | None:
    """True where the parameter's words stand in the conversation, false where they are negated or stand nowhere."""
    told, told_otherwise = (explained(replace(q, value=str(value))) for value in (q.value, not q.value))
    if (told is None) is not (told_otherwise is None):
        return None if told is None else (Code.EXPLAINED, told)
    span = _mention(q)
    if span is None:
        if q.is_default:
            return Code.DEFAULT, ()
        has_default = "default" in q.schema or bool(q.default_windows)
        return (Code.BOOLEAN, ()) if q.value is False and not has_default else None
    before = re.split(r"[.;!?]\s", q.text.text[max(0, span[0] - _NEGATION_REACH) : span[0]])[-1]
    negated = _NEGATION.search(before) is not None
    negative_name = _NEGATION.search(" ".join(words_of(q.name))) is not None
    return (Code.BOOLEAN, (span,)) if q.value is (not negated or negative_name) else None


def _mention(q: Question) -> Span | None:
    """The words of the name that tell it from others; if the name has none, those of the description."""
    name = [word for word in content_words(q.name) if word not in _GENERIC_STEMS and len(word) > 2]
    telling = [word for word in name if word not in q.words_of_tool] or name or list(content_words(q.name))
    found = [span for word in telling if (span := _anywhere(q, word))]
    if found and 2 * len(found) >= len(telling):
        return found[-1]
    about = [
        w for w in content_words(q.description) if w not in _GENERIC_STEMS and w not in q.words_of_tool and len(w) > 3
    ]
    found = [span for word in about[:24] if (span := q.text.stems.get(word))]
    return found[-1] if len(found) >= 2 and 2 * len(found) > len(about) else None


def _anywhere(q: Question, word: str) -> Span | None:
    """The word, another spelling of it, or a longer word with the same beginning."""
    spellings = (stem(word), *(stem(other) for other in SPELLINGS.get(word, ()) if len(other) > 2))
    same = next((q.text.stems[one] for one in spellings if one in q.text.stems), None)
    return same or (q.text.beginnings.get(spellings[0][:6]) if len(spellings[0]) >= 6 else None)


def is_empty(value: object) -> bool:
    return value is None or value in ("", [], {}) or (isinstance(value, str) and not value.strip(" .-'\""))


def find_empty(q: Question) -> tuple[Code, Found] | None:
    """Nothing given: fine where the parameter may be left out, where it is the default, or where the user says so."""
    if q.is_default:
        return Code.DEFAULT, ()
    span = q.text.find_any_case("empty") or q.text.find_any_case("none") or q.text.find_any_case("blank")
    if not q.required or span is not None:
        return Code.LEFT_EMPTY, () if span is None else (span,)
    return None
