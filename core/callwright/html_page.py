"""HTML pages that load nothing and run nothing, in which whatever a recipe, a model or a data set wrote is text."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence

from callwright.display import safe


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


def document(title: str, style: str, parts: Sequence[Markup | str], *, images: bool = False) -> str:
    """The whole page. parts: its body, as HTML; empty ones are left out.

    The browser is told to load nothing, to run nothing, and to take no style but `style`: `style` attributes do
    nothing. images: whether images that stand in the page itself are shown.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = ["default-src 'none'", *(["img-src data:"] if images else []), f"style-src 'sha256-{digest}'"]
    policy += ["base-uri 'none'", "form-action 'none'"]
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title><style>{style}</style></head><body>",
        f"<h1>{text(title)}</h1>",
        *parts,
        "</body></html>",
    ]
    return "\n".join(line for line in lines if line) + "\n"
