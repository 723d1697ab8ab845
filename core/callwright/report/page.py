"""The page itself: what `folder.py` and `completions.py` have read, and the script that draws it, in one file."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from callwright import __version__
from callwright.html_page import Markup, data, document, policy
from callwright.types import JSON

ASSETS = Path(__file__).with_name("assets")
SCRIPTS = (
    *("elements", "numbers", "store", "text", "chart", "curves", "reasons", "table"),
    *("detail", "explorer", "recipes", "overview", "live", "main"),
)
"""In the order in which they stand in the page: together they are one script."""
STYLES = ("page", "charts", "completions")
FRAME = Markup(
    '<main id="page"><noscript>This page is drawn by a script of its own; please allow it.</noscript></main>'
)


def report_page(title: str, runs: Sequence[JSON], completions: Sequence[JSON]) -> str:
    """A page that needs nothing else. runs: of `read_folder`; completions: of `Completions.as_json`, one for each."""
    parts = [
        FRAME,
        data("about", {"callwright": __version__, "live": False}),
        data("runs", list(runs)),
        *(data(f"completions-{index}", packed(rows)) for index, rows in enumerate(completions)),
    ]
    return document(title, style(), parts, script=script())


def live_page(title: str, names: Sequence[str]) -> str:
    """The same page, which asks its server for what it shows."""
    about = {"callwright": __version__, "live": True, "names": list(names)}
    return document(title, style(), [FRAME, data("about", about)], script=script(), live=True)


def live_policy() -> str:
    """The content security policy of `live_page`, for its header; there it can also forbid frames."""
    return f"{policy(style(), script(), live=True)}; frame-ancestors 'none'"


def packed(value: JSON) -> str:
    """JSON, compressed, in base64."""
    content = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    return base64.b64encode(gzip.compress(content, compresslevel=6, mtime=0)).decode("ascii")


@cache
def script() -> str:
    parts = (f"// ---- {name}.js\n{_asset(f'{name}.js')}" for name in SCRIPTS)
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "\n})();"


@cache
def style() -> str:
    return "\n".join(_asset(f"{name}.css") for name in STYLES)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def unpacked(text: str) -> Any:
    """What was `packed`."""
    return json.loads(gzip.decompress(base64.b64decode(text)))
