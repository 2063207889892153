"""A drop-in's settings, and a server that answers it as a test says."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from databricks.sdk.core import Config

Reply = Callable[[BaseHTTPRequestHandler, int], None]
#: An answer to a query.
GOOD = {"predictions": [1]}


@contextmanager
def replying(
    reply: Reply, shown: Mapping[str, object] | None = None
) -> Iterator[tuple[str, list[bytes]]]:
    """A server whose answers `reply` writes, told the number of the query; its address, and the
    bodies of the queries. `shown` is what it answers to GET, by the end of the path."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            for end, body in (shown or {}).items():
                if self.path.endswith(end):
                    return answer(self, 200, body)
            return answer(self, 404, {"error_code": "NOT_FOUND", "message": "no"})

        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            reply(self, len(asked))

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def answer(handler: BaseHTTPRequestHandler, status: int, body: object, **headers: str) -> None:
    content = json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def config(host: str, token: str = "a-token", **more: Any) -> Config:
    given = {"retry_timeout_seconds": 5, "http_timeout_seconds": 60} | more
    return Config(host=host, token=token, auth_type="pat", **given)
