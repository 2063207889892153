"""A workspace on a thread that answers GETs as a test says, and remembers what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lakeport.cli.connection import Session
from lakeport.cli.output import Format, Output

#: What a workspace answers to a path with its query: a status and a document.
Answer = Callable[[str, dict[str, list[str]]], tuple[int, Any]]


class Workspace:
    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, dict[str, list[str]]]] = []

    def session(self, format: Format = "text") -> Session:
        session = Session(Output(format), self.url, None)
        session.once = 10.0
        return session


@contextmanager
def answering(answer: Answer) -> Iterator[Workspace]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            made.asked.append((path, query))
            status, document = answer(path, query)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Workspace(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
