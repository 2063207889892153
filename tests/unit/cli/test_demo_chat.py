"""The demo's last act against a server that says what a test wants."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from databricks.sdk import WorkspaceClient

from lakeport.cli import demo_chat
from lakeport.cli.demo_chat import NoAnswer, Used


@contextmanager
def saying(status: int, body: bytes) -> Iterator[str]:
    """A server that answers everything with this; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def endpoint(ready: str, update: str, message: str = "") -> bytes:
    entity = {"name": "e", "state": {"deployment_state_message": message}}
    return json.dumps(
        {
            "name": demo_chat.ENDPOINT,
            "state": {"ready": ready, "config_update": update},
            "pending_config": {"served_entities": [entity]},
        }
    ).encode()


def why_not(body: bytes, wait: float = 0) -> str | None:
    with saying(200, body) as address:
        client = WorkspaceClient(host=address, token="t", auth_type="pat")
        return demo_chat.why_not(client, wait=wait)


def test_a_model_that_is_ready_needs_no_excuse() -> None:
    assert why_not(endpoint("READY", "NOT_UPDATING")) is None


def test_a_model_that_failed_says_why_in_one_line() -> None:
    body = endpoint("NOT_READY", "UPDATE_FAILED", "pip install 'lakeport[llm]'\nand more")

    assert why_not(body, wait=60) == "pip install 'lakeport[llm]'"


def test_a_model_that_takes_too_long_is_not_waited_for() -> None:
    assert "still being fetched" in str(why_not(endpoint("NOT_READY", "IN_PROGRESS")))


def heard(status: int, *events: str) -> tuple[str, Used]:
    said: list[str] = []
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    with saying(status, body) as address:
        used = demo_chat.stream(address, "t", "?", said.append)
    return "".join(said), used


def chunk(content: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": content}}]})


USAGE = '{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}'


def test_a_stream_is_told_piece_by_piece_with_its_usage() -> None:
    said = heard(200, chunk("They"), chunk(" float."), USAGE, "[DONE]")

    assert said == ("They float.", Used(7, 2))


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda: heard(200, chunk("They"), USAGE), "before its"),
        (lambda: heard(200, '{"error": {"message": "the engine died"}}'), "the engine died"),
        (lambda: heard(200, chunk("They"), "[DONE]"), "without usage"),
        (lambda: heard(503, '{"message": "starting"}'), "HTTP 503.*starting"),
    ],
    ids=["cut", "error", "no usage", "refused"],
)
def test_a_stream_that_is_not_whole_is_a_failure(ask: Callable[[], object], reason: str) -> None:
    with pytest.raises(NoAnswer, match=reason):
        ask()
