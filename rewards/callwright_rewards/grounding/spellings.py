"""Tables of language: different spellings of one meaning.

Codes are ISO 639-1 (languages), ISO 3166-1 (countries), ISO 4217 (currencies) and USPS (states).
"""

from __future__ import annotations

from decimal import Decimal

from callwright_rewards.grounding.units import NAMES

# --------------------------------------------------------------------------------------------------- numbers

DIGITS = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
} | {
    word: 10 * number
    for number, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)
}
SCALES = {
    "dozen": 12,
    "hundred": 10**2,
    "thousand": 10**3,
    "k": 10**3,
    "lakh": 10**5,
    "million": 10**6,
    "mn": 10**6,
    "crore": 10**7,
    "billion": 10**9,
    "bn": 10**9,
    "trillion": 10**12,
}
_ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
]
COUNT_WORDS: dict[str, Decimal] = {
    **{word: Decimal(number) for number, word in enumerate(_ORDINALS, 1)},
    **{word: Decimal(1) for word in ("once", "single", "singular", "uno", "un", "une", "satu")},
    **{word: Decimal(2) for word in ("twice", "double", "pair", "couple", "both", "dos", "deux", "dua")},
    **{word: Decimal(3) for word in ("thrice", "triple", "tres", "trois", "tiga")},
    "quadruple": Decimal(4),
    "score": Decimal(20),
    "half": Decimal("0.5"),
    "quarter": Decimal("0.25"),
    "no": Decimal(0),
    "none": Decimal(0),
    "rest": Decimal(0),  # "an object at rest", "from rest"
}
"""Words that are a number by themselves."""
TIMES_PER_YEAR = {
    "annually": 1,
    "annual": 1,
    "yearly": 1,
    "semiannually": 2,
    "biannually": 2,
    "quarterly": 4,
    "bimonthly": 6,
    "monthly": 12,
    "biweekly": 26,
    "weekly": 52,
    "daily": 365,
}

# ------------------------------------------------------------------------------------------------- spellings

_SAME = """
celsius, centigrade, degree c, degrees c, °c, ℃, oc, c
fahrenheit, degree f, degrees f, °f, ℉, of, fahr, f
kelvin, k
percent, percentage, %, pct
dollar, dollars, usd, us dollars, american dollars, $
euro, euros, eur, €
pound, pounds, gbp, pounds sterling, british pounds, £
yen, jpy, japanese yen, ¥
yuan, cny, rmb, renminbi, chinese yuan
rupee, rupees, inr, indian rupees, ₹
won, krw, korean won, ₩
rupiah, idr
canadian dollars, canadian dollar, cad
australian dollars, australian dollar, aud
swiss francs, swiss franc, chf
bitcoin, btc
ethereum, eth
miles per hour, mph, mi/h
kilometers per hour, kilometres per hour, km/h, kmh, kph, kmph
meters per second, m/s
extra large, xl
large, l
medium, mid, m
small, s
male, man, m, boy, he, his
female, woman, f, girl, she, her
photograph, photo, picture, image
car, drive, driving, driver
walk, walking, on foot
bicycle, bike, biking, cycling
public transit, transit, public transport, public transportation, bus, subway, train
movie, film
flight, fly, plane
vegetarian, veggie
add, create, new, insert, append, remember, remind, make
delete, remove, cancel, erase, drop, discard
update, change, modify, edit, switch, alter, revise
complete, completed, finish, finished, done
get, retrieve, fetch, show, list, find, search, give
start, begin, turn on, switch on, activate, run, play, on, open, power_on
stop, end, turn off, switch off, deactivate, off, power_off, close
increase, raise, up, more, higher
decrease, lower, down, less, reduce
ascending, asc, increasing, lowest, alphabetical, cheapest, oldest
descending, desc, decreasing, highest, top, latest, newest, recent
most recent, latest, newest, recent
cheap, affordable, budget, inexpensive, low
expensive, luxury, luxurious, high
maximum, max, highest, biggest, largest
minimum, min, lowest, smallest, least
average, avg, mean
temperature, temp
mathematics, math, maths
human, homo sapiens, humans
united states, usa, us, u.s., u.s.a., united states of america, america, american
united kingdom, uk, gb, u.k., great britain, britain, british
germany, de, german, ger
france, fr, french
spain, es, spanish, español
italy, it, italian
japan, jp, ja, japanese
china, cn, zh, chinese, mandarin
korea, kr, ko, korean, south korea
india, in, indian, hindi, hi
brazil, br
portugal, pt, portuguese
russia, ru, russian
canada, ca, canadian
australia, au, australian
mexico, mx, mexican
netherlands, nl, dutch, holland
indonesia, id, indonesian
vietnam, vn, vi, vietnamese
thailand, th, thai
turkey, tr, turkish
sweden, se, sv, swedish
norway, no, norwegian
denmark, dk, da, danish
finland, fi, finnish
poland, pl, polish
greece, gr, el, greek
switzerland, ch, swiss
austria, at
ireland, ie, irish
israel, il, he, hebrew
egypt, eg, egyptian
saudi arabia, sa, arabic, ar
new zealand, nz
south africa, za
singapore, sg
malaysia, my
philippines, ph
english, en, england, eng
new york city, new york, nyc, ny
los angeles, la, l.a.
san francisco, sf
washington d.c., washington, dc, d.c., district of columbia
monday, mon
tuesday, tue, tues
wednesday, wed
thursday, thu, thurs
friday, fri
saturday, sat
sunday, sun
january, jan
february, feb
april, apr
august, aug
september, sep, sept
october, oct
november, nov
december, dec
stats, statistics, stat
buy, purchase, purchasing
rent, lease, let
music, musical, song, songs, concert
drama, dramatic
comedy, comic, funny
sci-fi, science fiction, scientific fiction
horror, scary
thriller, suspense, suspenseful
animation, cartoon, animated
shared, share, pool
clothing, clothes, apparel
children, child, kids, kid, grandchildren
people, person, persons
carbohydrates, carbs
microsoft, msft
apple, aapl
google, goog, googl, alphabet
amazon, amzn
tesla, tsla
facebook, meta, fb
netflix, nflx
"""
_STATES = """
alabama al alaska ak arizona az arkansas ar california ca colorado co connecticut ct delaware de florida fl georgia ga
hawaii hi idaho id illinois il indiana in iowa ia kansas ks kentucky ky louisiana la maine me maryland md massachusetts
ma michigan mi minnesota mn mississippi ms missouri mo montana mt nebraska ne nevada nv ohio oh oklahoma ok oregon or
pennsylvania pa tennessee tn texas tx utah ut vermont vt virginia va washington wa wisconsin wi wyoming wy
new_hampshire nh new_jersey nj new_mexico nm new_york ny north_carolina nc north_dakota nd rhode_island ri
south_carolina sc south_dakota sd west_virginia wv
"""


def _groups() -> list[list[str]]:
    groups = [[word.strip() for word in line.split(", ")] for line in _SAME.strip().splitlines()]
    states = _STATES.replace("_", " ").split("\n")
    words = " ".join(states).split()
    code_ends = [index for index, word in enumerate(words) if len(word) == 2]
    starts = [0, *(index + 1 for index in code_ends)]
    groups += [[" ".join(words[start:end]), words[end]] for start, end in zip(starts, code_ends, strict=False)]
    return groups + [unit.split()[1:] for units in NAMES.values() for unit in units.split("|")]


def _spellings() -> dict[str, tuple[str, ...]]:
    table: dict[str, list[str]] = {}
    for group in _groups():
        for word in group:
            table.setdefault(word, []).extend(other for other in group if other != word)
    return {word: tuple(dict.fromkeys(others)) for word, others in table.items()}


SPELLINGS = _spellings()
"""Lower-case spelling -> other spellings of the same meaning."""

MONTHS = {
    name: number
    for number, names in enumerate(
        [
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sep sept",
            "october oct",
            "november nov",
            "december dec",
        ],
        1,
    )
    for name in names.split()
}
RELATIVE_DAYS = {
    "today": 0,
    "tonight": 0,
    "tomorrow": 1,
    "yesterday": -1,
    "day after tomorrow": 2,
    "day before yesterday": -2,
    "next week": 7,
    "a week ago": -7,
}
WEEKDAYS = {name: number for number, name in enumerate(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])}

STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "get",
        "give",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "me",
        "my",
        "no",
        "not",
        "of",
        "on",
        "or",
        "our",
        "please",
        "should",
        "so",
        "some",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "us",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)
GENERIC_WORDS = frozenset(
    [
        "whether",
        "true",
        "false",
        "flag",
        "indicate",
        "indicates",
        "indicating",
        "include",
        "including",
        "included",
        "includes",
        "if",
        "set",
        "default",
        "defaults",
        "boolean",
        "optional",
        "option",
        "parameter",
        "value",
        "result",
        "results",
        "information",
        "data",
        "detail",
        "only",
        "enable",
        "enabled",
        "enables",
        "return",
        "response",
        "specify",
        "specifies",
        "specified",
        "determine",
        "determines",
        "provide",
        "provided",
        "show",
        "use",
        "used",
        "using",
        "not",
        "e.g",
        "etc",
    ]
)
"""Words of a description that say nothing about the parameter."""
