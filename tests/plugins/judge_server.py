"""A small OpenAI-compatible server on loopback that answers as a test says, and counts what it is asked."""

import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class JudgeServer:
    """`script(row, body, number)` gives what comes back on request `number` (from 0) about `row` (the JSON of the
    user's turn, or its text where it is none): a verdict as a dict, a reply's text, or a `Response`."""

    def __init__(self, script, usage=(100, 20)):
        self.script, self.usage = script, usage
        self.bodies, self.keys = [], []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.over = threading.Event()

    @property
    def requests(self):
        return len(self.bodies)

    def formats(self):
        return [body.get("response_format", {}).get("type") for body in self.bodies]


class Response:
    def __init__(self, status=200, body="", headers=None, seconds=0.0, cut=False):
        self.status, self.body, self.headers = status, body, headers or {}
        self.seconds, self.cut = seconds, cut


def completion(text, usage=None, finish="stop"):
    content = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}]}
    if usage:
        content["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return json.dumps(content)


def row_of(turn):
    try:
        return json.loads(turn)
    except ValueError:
        return turn


@contextmanager
def serving(script, usage=(100, 20)):
    server = JudgeServer(script, usage)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # it waits 40 ms between head and body

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with server.lock:
                number = len(server.bodies)
                server.bodies.append(body)
                server.keys.append(self.headers.get("authorization"))
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                answer = server.script(row_of(body["messages"][-1]["content"]), body, number)
                server.over.wait(getattr(answer, "seconds", 0))
            finally:
                with server.lock:
                    server.at_once -= 1
            with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up
                self.respond(answer)

        def respond(self, answer):
            if isinstance(answer, dict):
                answer = json.dumps(answer)
            if isinstance(answer, str):
                answer = Response(body=completion(answer, server.usage))
            data = answer.body.encode()
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if answer.cut else data)
            self.close_connection = answer.cut

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        server.over.set()
        http.shutdown()
        http.server_close()
        thread.join()
