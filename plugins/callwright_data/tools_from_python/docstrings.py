"""What a docstring says of a function or a class, and of each of its parameters."""

from __future__ import annotations

import re

import docstring_parser


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """(description, descriptions by parameter) of a docstring in Google's, NumPy's, reST's or Epydoc's style.

    Sections of other subjects, such as returns and raises, are left out; the lines of a parameter's are joined.
    """
    try:
        parsed = docstring_parser.parse(text)
    except (docstring_parser.ParseError, IndexError):  # the latter where nothing stands between two colons
        return text.strip(), {}
    parameters = {}
    for parameter in parsed.params:
        for name in parameter.arg_name.split(","):  # NumPy: "x, y : float"
            parameters[name.strip().lstrip("*")] = re.sub(r"\s*\n\s*", " ", (parameter.description or "").strip())
    return (parsed.description or "").strip(), {name: words for name, words in parameters.items() if words}
