"""A server on loopback that answers as a test's function says. Not a test itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any]  # status; a JSON value, or the bytes themselves
OPTIONS = {"backoff_s": 0.01, "max_tries": 3, "timeout_s": 5.0, "num_parallel": 4}


class Seen:
    """What a server has been asked: (path, body, headers) in order; how many at once at most."""

    def __init__(self, url: str) -> None:
        self.url, self.requests, self.now, self.most = url, list[tuple[str, dict[str, Any], dict[str, str]]](), 0, 0
        self.lock = threading.Lock()

    def num(self, prompt: str) -> int:
        return sum(body.get("prompt") == prompt for _, body, _ in self.requests)


def completion(text: str, finish: str = "stop", num_tokens: int = 3) -> Reply:
    return 200, {"choices": [{"text": text, "finish_reason": finish}], "usage": {"completion_tokens": num_tokens}}


@contextmanager
def serving(reply: Callable[[dict[str, Any], int], Reply], is_well: bool = True) -> Iterator[Seen]:
    """`reply(body, number)` answers; `number` counts the requests with this prompt before."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.say(200 if is_well else 503, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with seen.lock:
                number = seen.num(str(body.get("prompt")))
                seen.requests.append((self.path, body, dict(self.headers)))
                seen.now += 1
                seen.most = max(seen.most, seen.now)
            try:
                self.say(*reply(body, number))
            finally:
                with seen.lock:
                    seen.now -= 1

        def say(self, status: int, value: Any) -> None:
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    seen = Seen(f"http://127.0.0.1:{server.server_port}/v1")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()


def served_by(engine: Any) -> Callable[[dict[str, Any], int], Reply]:
    """A reply that another engine of this process gives, one request at a time."""
    from thinkrec.generate.engines.protocol import GenParams, GenRequest

    lock = threading.Lock()

    def reply(body: dict[str, Any], number: int) -> Reply:
        prompt = body["prompt"] if isinstance(body["prompt"], str) else tuple(body["prompt"])
        params = GenParams(body["max_tokens"], body["temperature"], body["top_p"], body["seed"], stop=tuple(body.get("stop", ())))
        with lock:
            (result,) = engine.generate([GenRequest("served", prompt, params)])
        if result.finish_reason == "error":
            return 400, {"error": {"message": result.error}}
        return completion(result.text, result.finish_reason, result.num_tokens)

    return reply
