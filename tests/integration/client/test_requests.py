"""Both clients: what they send, and every answer that a server may give."""

import gzip
import threading
from typing import Any

import pytest

from lakeport import Client
from lakeport.client import errors
from lakeport.client.errors import (
    BadAnswer,
    ConnectionFailed,
    LakeportError,
)
from tests.integration.client.calls import ANSWER, TOKEN, Call, ask
from tests.integration.raw_server import (
    END,
    RawServer,
    piece,
    raw_server,
    reply,
)


def test_a_request_is_complete(server: RawServer, call: Call) -> None:
    server.answers(ANSWER)

    answer = ask(call)

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/serving-endpoints/iris/invocations")
    assert asked.json() == {"inputs": [1]}
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["host"] == server.url.removeprefix("http://")
    assert asked.headers["user-agent"].startswith("lakeport/")
    assert answer.predictions == [1]


def test_connections_are_used_again(server: RawServer) -> None:
    server.answers(ANSWER)

    with Client(server.url, TOKEN) as client:
        for _ in range(3):
            client.query("iris", body={"inputs": [1]})

    assert {asked.connection for asked in server.asked} == {0}


def test_threads_share_a_client(server: RawServer) -> None:
    server.answers(ANSWER)
    found: list[Any] = []

    with Client(server.url, TOKEN, max_connections=4) as client:

        def work() -> None:
            found.extend(client.query("iris", body={"inputs": [1]}) for _ in range(10))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(found) == 80
    assert len({asked.connection for asked in server.asked}) <= 4


def test_compressed_answers(server: RawServer, call: Call) -> None:
    body = gzip.compress(b'{"predictions": [1, 2]}')
    server.answers(reply(200, body, headers={"Content-Encoding": "gzip"}))

    assert ask(call).predictions == [1, 2]


def test_a_chunked_answer(server: RawServer, call: Call) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    server.answers([head, piece('{"predic'), 0.02, piece('tions": [1]}'), END])

    assert ask(call).predictions == [1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.Unauthenticated),
        (403, errors.PermissionDenied),
        (404, errors.NotFound),
        (408, errors.BadRequest),
        (409, errors.Conflict),
        (413, errors.BadRequest),
        (429, errors.RateLimited),
        (500, errors.ServerError),
        (502, errors.ServerError),
        (503, errors.NotReady),
        (504, errors.TimedOut),
        (301, errors.BadAnswer),
        (304, errors.BadAnswer),
    ],
)
def test_every_status_is_an_error(
    server: RawServer, call: Call, status: int, kind: type[LakeportError]
) -> None:
    server.answers(reply(status, {"error_code": "X", "message": "no"}))

    with pytest.raises(kind) as caught:
        ask(call)

    assert (caught.value.status, caught.value.endpoint) == (status, "iris")
    assert len(server.asked) == 1


def test_a_redirect_is_not_followed(server: RawServer, call: Call) -> None:
    with raw_server() as elsewhere:
        elsewhere.answers(ANSWER)
        server.answers(reply(307, headers={"Location": f"{elsewhere.url}/x"}))

        with pytest.raises(BadAnswer, match=elsewhere.url):
            ask(call)

        assert not elsewhere.asked


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b"\xff", b"[" * 10**6])
def test_an_answer_that_is_no_json(server: RawServer, call: Call, body: bytes) -> None:
    server.answers(reply(200, body))

    with pytest.raises(BadAnswer):
        ask(call)


def test_an_answer_whose_compression_is_broken(server: RawServer, call: Call) -> None:
    server.answers(reply(200, b"not gzip", headers={"Content-Encoding": "gzip"}))

    with pytest.raises(BadAnswer, match="compression"):
        ask(call)


def test_an_answer_that_is_no_http(server: RawServer, call: Call) -> None:
    server.answers([b"SSH-2.0-OpenSSH\r\n", "close"])

    with pytest.raises(ConnectionFailed) as caught:
        ask(call)

    assert caught.value.sent
