"""The live page's server. It only reads, and answers nobody but a browser on this machine that asks for it by name."""

from __future__ import annotations

import errno
import gzip
import json
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from callwright.report.folder import names_of
from callwright.report.page import live_page, live_policy
from callwright.types import CallwrightError
from callwright.watch.news import news

ADDRESS = "127.0.0.1"
PORT = 8765
OWN_NAMES = (ADDRESS, "localhost", "[::1]")
WORTH_COMPRESSING = 10_000
"""Bytes: the way may be a tunnel from far away."""


class Server(ThreadingHTTPServer):
    """Serves the page about `folders`. Raises CallwrightError for a port that cannot be used."""

    daemon_threads = True

    def __init__(self, folders: Sequence[Path], port: int | None = None) -> None:
        self.folders = list(folders)
        self.names = names_of(folders)
        wanted = PORT if port is None else port
        try:
            super().__init__((ADDRESS, wanted), Handler)
        except OSError as error:
            if port is None and error.errno == errno.EADDRINUSE:
                super().__init__((ADDRESS, 0), Handler)
                return
            raise CallwrightError(
                f"--port {wanted}: {error.strerror}; name another one, or leave it out for a free one"
            ) from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a browser that went away is no error, and others are in the answer."""

    @property
    def address(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "callwright", ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        if not self._asked_by_name():
            self._send(HTTPStatus.FORBIDDEN, b"this page is asked for by the address that `callwright watch` shows\n")
            return
        parts = urlsplit(self.path)
        if parts.path == "/":
            page = live_page(", ".join(self.server.names), self.server.names)
            self._send(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8")
        elif parts.path == "/news":
            self._news(parse_qs(parts.query))
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there is nothing here\n")

    def _asked_by_name(self) -> bool:
        """Whether the browser believes to be talking to this machine: a page elsewhere may have its own name lead here,
        and would then read the answers (DNS rebinding)."""
        name, _, port = self.headers.get("Host", "").rpartition(":")
        return name.lower() in OWN_NAMES and port.isdecimal()

    def _news(self, query: dict[str, list[str]]) -> None:
        asked = {name: values[0] for name, values in query.items()}
        run, after = asked.get("run", ""), asked.get("after", "0")
        if not (_number(run) and _number(after) and int(run) < len(self.server.folders)):
            self._send(HTTPStatus.BAD_REQUEST, b"there is no such run\n")
            return
        which = int(run)
        read = partial(news, self.server.folders[which], self.server.names[which], int(after))
        try:
            found: dict[str, Any] = read(asked.get("digest", ""), asked.get("state", ""))
            body = json.dumps(found, allow_nan=False, separators=(",", ":")).encode()
        except Exception as error:  # the page says that there is no answer, and asks again
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}\n".encode())
            return
        self._send(HTTPStatus.OK, body, "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        if len(body) > WORTH_COMPRESSING and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=3)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", live_policy())
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # the name is the library's
        """Nothing: the terminal is for the address."""


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
