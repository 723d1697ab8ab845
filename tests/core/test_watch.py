"""Watching a run: what is new, to whom it is told, and the terminal's view."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from callwright import CallwrightError
from callwright.html_page import as_json
from callwright.watch.command import watch_runs
from callwright.watch.news import news
from callwright.watch.server import Server
from rich.console import Console

Write = Callable[..., Path]


def rows(step: int, amount: int = 2) -> list[dict[str, Any]]:
    return [
        {"text": f"answer {step}.{n}", "score": float(n), "reasons": [("correct" if n else "odd", "why", None)]}
        for n in range(amount)
    ]


# ------------------------------------------------------------------------------------------------------ news


def test_what_was_told_is_not_told_again(write_run: Write, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [rows(1), rows(2)], planned=4)
    first = news(folder, "run")
    assert first["anew"]
    assert first["after"] == 2
    assert len(first["completions"]["columns"]["text"]) == 4
    known = {name: first[name] for name in ("after", "digest", "state")}
    assert news(folder, "run", **known) == {"nothing": True}

    write_run(folder, [rows(1), rows(2), rows(3)], planned=4)
    second = news(folder, "run", **known)
    assert not second["anew"]
    assert second["run"]["metrics"]["steps"] == [3]
    assert second["completions"]["columns"]["text"] == ["answer 3.0", "answer 3.1"]
    as_json(second)


def test_a_run_begun_anew_is_told_anew(write_run: Write, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [rows(1), rows(2)])
    first = news(folder, "run")
    shutil.rmtree(folder)
    write_run(folder, [rows(1, 4), rows(2), rows(3)])
    second = news(folder, "run", first["after"], first["digest"], first["state"])
    assert second["anew"]
    assert len(second["completions"]["columns"]["text"]) == 8


def test_a_run_that_went_back_to_a_checkpoint_is_told_anew(write_run: Write, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [rows(1), rows(2), rows(3)])
    first = news(folder, "run")
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text(lines[0])
    second = news(folder, "run", first["after"], first["digest"], first["state"])
    assert second["anew"]
    assert second["completions"]["columns"]["step"] == [1, 1], "completions of steps that will be done again are old"


def test_half_of_what_is_being_written_is_not_told(write_run: Write, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [rows(1), rows(2)])
    whole = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(whole[:-20])
    (folder / "rollouts" / "step-000003.parquet").write_bytes(b"PAR1")
    told = news(folder, "run")
    assert told["after"] == 1
    assert told["run"]["notes"] == []
    assert told["completions"]["columns"]["step"] == [1, 1]
    (folder / "metrics.jsonl").write_text(whole)
    assert news(folder, "run", told["after"], told["digest"], told["state"])["run"]["metrics"]["steps"] == [2]


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    told = news(tmp_path / "run", "run")
    assert told["run"]["notes"] == ["there is no such folder yet"]
    assert told["after"] == 0
    assert news(tmp_path / "run", "run", 0, told["digest"], told["state"]) == {"nothing": True}


# ---------------------------------------------------------------------------------------------------- server


@pytest.fixture
def server(write_run: Write, tmp_path: Path) -> Iterator[Server]:
    server = Server([write_run(tmp_path / "run", [rows(step, 40) for step in range(1, 4)]), tmp_path / "later"], 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def asked(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


def test_the_server_shows_the_page_and_what_is_new(server: Server) -> None:
    status, body, headers = asked(server, "/")
    assert status == 200
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert b"answer 1.0" not in body, "the page asks for what it shows"
    assert json.loads(asked(server, "/news?run=0")[1])["after"] == 3
    assert json.loads(asked(server, "/news?run=1")[1])["after"] == 0
    status, body, headers = asked(server, "/news?run=0", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(body))["after"] == 3


@pytest.mark.parametrize("path", ["/news?run=2", "/news?run=x", "/news?run=0&after=-1", "/news", "/news?run=%C2%B2"])
def test_a_question_that_makes_no_sense_is_refused(server: Server, path: str) -> None:
    assert asked(server, path)[0] == 400


@pytest.mark.parametrize("path", ["/metrics.jsonl", "/../etc/passwd", "/run/recipe.resolved.yaml", "//x", "/news/"])
def test_the_server_serves_no_files(server: Server, path: str) -> None:
    assert asked(server, path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:{port}", "", "localhost"])
def test_a_page_elsewhere_whose_name_leads_here_gets_nothing(server: Server, host: str) -> None:
    status, body, _ = asked(server, "/news?run=0", Host=host.format(port=server.server_port))
    assert status == 403
    assert b"answer" not in body


def test_this_machine_has_three_names(server: Server) -> None:
    for name in ("127.0.0.1", "localhost", "[::1]", "LOCALHOST"):
        assert asked(server, "/", Host=f"{name}:{server.server_port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_the_server_only_reads(server: Server, method: str) -> None:
    assert asked(server, "/", method)[0] == 501


def test_a_taken_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CallwrightError, match=f"--port {port}"):
            Server([tmp_path], port)
        monkeypatch.setattr("callwright.watch.server.PORT", port)
        free = Server([tmp_path])
        assert free.server_port != port
        free.server_close()


def test_watching_ends_with_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Server) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupt)
    console = Console(record=True, width=300)
    watch_runs(console, [tmp_path / "later"], 0, tui=False)
    text = console.export_text()
    assert "waiting for it" in text
    assert "http://127.0.0.1:" in text
    assert "the run goes on" in text


def test_what_cannot_be_watched_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for folders, port, tui, said in (
        ([tmp_path / "file"], None, False, "is a file"),
        ([tmp_path, tmp_path], None, True, "shows one run"),
        ([tmp_path], 80, True, "--port is for the browser"),
    ):
        with pytest.raises(CallwrightError, match=said):
            watch_runs(Console(), folders, port, tui)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CallwrightError, match=r"pip install 'callwright\[tui\]'"):
        watch_runs(Console(), [tmp_path], None, tui=True)


# ------------------------------------------------------------------------------------------------- terminal


def test_the_terminal_shows_the_run_as_it_grows(write_run: Write, tmp_path: Path) -> None:
    pytest.importorskip("textual")
    from callwright.watch.tui import Figure, WatchApp
    from textual.widgets import Sparkline, Static

    folder = tmp_path / "run"

    def text(app: WatchApp, where: str) -> str:
        return str(app.query_one(where, Static).render())

    async def follow() -> None:
        app = WatchApp(folder)
        async with app.run_test(size=(140, 40)) as pilot:
            assert "waiting for" in text(app, "#about")
            assert not app.query_one("#figure-reward", Figure).display
            hostile = [{"text": "\x1b[31m[bold]not markup[/bold]", "score": 1.0, "reasons": [("correct", "", None)]}]
            write_run(folder, [rows(1), [*rows(2), *hostile]], planned=5)
            app.look()
            await pilot.pause()
            drawn = app.query_one("#figure-reward Sparkline", Sparkline).data
            assert list(drawn or ()) == pytest.approx([0.5, 2 / 3], abs=1e-5)
            last = text(app, "#last Static")
            assert "answer 2.0" in last
            assert "\\x1b[31m[bold]not markup[/bold]" in last
            assert "judge: odd" in last
            await pilot.press("w")
            assert "not markup" not in text(app, "#last Static")
            assert "answer 2.0" in text(app, "#last Static")
            app.look()
            await pilot.press("q")
        assert app.return_code == 0

    asyncio.run(follow())
