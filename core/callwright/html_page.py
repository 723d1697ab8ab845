"""HTML pages that load nothing, in which whatever a recipe, a model or a data set wrote is text.

They run nothing either, unless they are given a script of the package's own.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence

from callwright.display import safe
from callwright.types import JSON


class Markup(str):
    """HTML already. Every other text is escaped."""

    __slots__ = ()


def text(value: str) -> Markup:
    """`value` as HTML that shows its characters, those that cannot be printed written out as in `\\x1b`."""
    return value if isinstance(value, Markup) else Markup(html.escape(safe(value)))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "", bold: int | None = None) -> Markup:
    """A table that scrolls sideways where it is too wide. kind: its class; bold: the number of the row that has the
    class `baseline`, from 0."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in headings)
    body = "".join(
        f"<tr{' class=baseline' if number == bold else ''}>" + "".join(f"<td>{text(c)}</td>" for c in row) + "</tr>"
        for number, row in enumerate(rows)
    )
    classes = f' class="{kind}"' if kind else ""
    return Markup(
        f'<div class="wide" tabindex="0"><table{classes}><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def as_json(value: JSON) -> str:
    """`value` as JSON that can stand in a page: `</script>`, `<!--` and line separators are written as escapes.

    Any text comes back as it was, lone surrogates too. Raises ValueError for numbers that are not finite, which a
    browser's JSON does not know.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data(name: str, value: JSON) -> Markup:
    """Data that a script finds by the id `name`. The browser does not run it."""
    return Markup(f'<script type="application/json" id="{name}">{as_json(value)}</script>')


def policy(style: str, script: str = "", *, images: bool = False, live: bool = False) -> str:
    """What a browser may do with a page: take this style and run this script, and nothing else.

    images: show images that stand in the page itself. live: ask the server that the page came from.
    """
    rules = ["default-src 'none'", *(["img-src data:"] if images else []), f"style-src {_digest(style)}"]
    rules += [f"script-src {_digest(script)}"] if script else []
    rules += ["connect-src 'self'"] if live else []
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def document(
    title: str,
    style: str,
    parts: Sequence[Markup | str],
    *,
    images: bool = False,
    script: str = "",
    live: bool = False,
) -> str:
    """The whole page. parts: its body, as HTML; empty ones are left out.

    The browser is told to load nothing, to run nothing but `script`, and to take no style but `style`: `style`
    attributes do nothing. images: whether images that stand in the page itself are shown. live: whether `script` may
    ask the server that the page came from. Raises ValueError for a script that would end in its middle.
    """
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("the script holds what would end it")
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy(style, script, images=images, live=live)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title><style>{style}</style></head><body>",
        f"<h1>{text(title)}</h1>",
        *parts,
        f"<script>{script}</script>" if script else "",
        "</body></html>",
    ]
    return "\n".join(line for line in lines if line) + "\n"
