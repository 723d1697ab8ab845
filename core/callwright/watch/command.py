"""`callwright watch`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from callwright.display import safe
from callwright.types import CallwrightError


def watch_runs(console: Console, folders: Sequence[Path], port: int | None, tui: bool) -> None:
    """Show the runs until Ctrl-C, or until the terminal's view is left."""
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise CallwrightError(f"{folder} is a file; name the run's folder")
    if tui:
        _in_the_terminal(folders, port)
        return
    from callwright.watch.server import Server

    server = Server(folders, port)
    for folder in folders:
        if not folder.exists():
            text = f"{folder} is not there yet: waiting for it. If it should be, look at the spelling"
            console.print(Text(safe(text), style="yellow"), soft_wrap=True)
    runs = ", ".join(map(str, folders))
    console.print(
        Text.assemble(f"watching {safe(runs)} at ", (server.address, "bold"), "; Ctrl-C ends"), soft_wrap=True
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        console.print("no longer watching; the run goes on")
    finally:
        server.server_close()


def _in_the_terminal(folders: Sequence[Path], port: int | None) -> None:
    if port is not None:
        raise CallwrightError("--port is for the browser: leave it out, or leave out --tui")
    if len(folders) > 1:
        raise CallwrightError("--tui shows one run: name one, or leave --tui out to see several in a browser")
    if not importlib.util.find_spec("textual"):
        raise CallwrightError("--tui needs textual; run pip install 'callwright[tui]'")
    from callwright.watch.tui import WatchApp

    WatchApp(folders[0]).run()
