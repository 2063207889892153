"""Both clients where connections break and time runs out: what is sent again, and what never."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lakeport import Client, Retry
from lakeport.client.errors import (
    ConnectionFailed,
    RateLimited,
    TimedOut,
)
from tests.integration.client.calls import ANSWER, ONCE, QUICK, TOKEN, Call, ask
from tests.integration.raw_server import (
    Act,
    Asked,
    RawServer,
    reply,
)


@pytest.mark.parametrize("status", [429, 503])
def test_what_was_not_run_is_sent_again(server: RawServer, call: Call, status: int) -> None:
    server.answers(reply(status), reply(status), ANSWER)

    assert ask(call, retry=QUICK).attempts == 3


def test_retry_after_is_honoured(server: RawServer, call: Call) -> None:
    server.answers(reply(429, headers={"Retry-After": "1"}), ANSWER)
    began = time.monotonic()

    ask(call, retry=QUICK)

    assert time.monotonic() - began >= 1


def test_a_wait_beyond_the_deadline_is_not_waited(server: RawServer, call: Call) -> None:
    server.answers(reply(429, headers={"Retry-After": "1000"}))

    with pytest.raises(RateLimited) as caught:
        ask(call, retry=QUICK)

    assert caught.value.retry_after == 1000


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("before", [[], [b"HTTP/1.1 200 OK\r\ncontent-le"]])
def test_a_connection_that_breaks_is_not_tried_again_unless_asked_for(
    server: RawServer, call: Call, end: str, before: list[bytes]
) -> None:
    breaks: list[Act] = [*before, end]
    server.answers(breaks, ANSWER)
    with pytest.raises(ConnectionFailed) as caught:
        ask(call, retry=QUICK)
    assert caught.value.sent
    assert len(server.asked) == 1

    server.answers(breaks, ANSWER)
    assert ask(call, retry=Retry(base=0.01, unsafe=True)).attempts == 2


def test_an_answer_that_breaks_off(server: RawServer, call: Call) -> None:
    server.answers([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "close"])

    with pytest.raises(ConnectionFailed) as caught:
        ask(call, retry=QUICK)

    assert caught.value.sent
    assert len(server.asked) == 1


def test_reading_is_safe_to_repeat(server: RawServer, call: Call) -> None:
    server.answers(["reset"], reply(502), reply(200, {"name": "iris"}))

    assert call("get", "iris", options={"retry": QUICK}).name == "iris"
    assert len(server.asked) == 3


def test_a_refused_connection_is_tried_again(server: RawServer, call: Call) -> None:
    server.close()

    with pytest.raises(ConnectionFailed) as caught:
        ask(call, retry=Retry(attempts=3, base=0.01))

    assert (caught.value.sent, caught.value.attempts) == (False, 3)


def test_a_name_that_is_no_host(call: Call) -> None:
    with (
        Client("http://no-such-host.invalid", TOKEN, retry=ONCE) as client,
        pytest.raises(ConnectionFailed, match=r"no-such-host\.invalid") as caught,
    ):
        client.list()

    assert not caught.value.sent


def test_a_connection_closed_while_idle_is_no_failure(server: RawServer) -> None:
    """Whether it is closed is looked at before a request is written to it."""
    server.answers([ANSWER, 0.05, "close"], ANSWER)

    with Client(server.url, TOKEN, retry=ONCE) as client:
        client.query("iris", body={"inputs": [1]})
        time.sleep(0.2)
        client.query("iris", body={"inputs": [1]})

    assert [asked.connection for asked in server.asked] == [0, 1]


def test_a_request_that_was_not_taken_whole_was_not_run(server: RawServer, call: Call) -> None:
    """The server hangs up while the body is on its way: it can never have run it."""
    body = {"inputs": ["x" * 30_000_000]}
    server.body_is_read = False
    server.answers([0.05, "reset"])

    with pytest.raises(ConnectionFailed) as caught:
        call("query", "iris", body=body)

    assert not caught.value.sent


@pytest.mark.parametrize(
    "acts",
    [
        [30.0, ANSWER],
        [b"HTTP/1.1 200 OK\r\n", 30.0],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", 30.0],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n", *[b"{", 0.05] * 600],
        [b"HTTP/1.1 200 OK\r\nx-long: ", *[b"x", 0.05] * 600],
    ],
    ids=["silence", "half a head", "half a body", "a dripping body", "a dripping head"],
)
def test_the_whole_answer_has_one_deadline(server: RawServer, call: Call, acts: Any) -> None:
    server.answers(acts)
    began = time.monotonic()

    with pytest.raises(TimedOut) as caught:
        ask(call, timeout=0.4, retry=QUICK)

    assert time.monotonic() - began < 20  # each would take thirty
    assert caught.value.sent
    assert len(server.asked) == 1  # and nothing was sent again while it ran


def test_no_end_of_time(server: RawServer, call: Call) -> None:
    server.answers(ANSWER)

    assert ask(call, timeout=float("inf")).predictions == [1]


def test_a_call_may_have_its_own_time(server: RawServer, call: Call) -> None:
    server.answers([30.0, ANSWER])

    with pytest.raises(TimedOut):
        call("query", "iris", body={"inputs": [1]}, timeout=0.2)


def test_waiting_for_a_connection_has_the_same_deadline(server: RawServer) -> None:
    go_on = threading.Event()

    def answer(_: Asked) -> Iterator[bytes]:
        go_on.wait(20)
        yield ANSWER

    server.answer = answer
    with Client(server.url, TOKEN, max_connections=1, retry=ONCE) as client:
        busy = threading.Thread(target=client.query, args=("iris",), kwargs={"body": {"inputs": 1}})
        busy.start()
        assert server.arrived.wait(5)
        with pytest.raises(TimedOut, match="max_connections") as caught:
            client.query("iris", body={"inputs": [1]}, timeout=0.1)
        go_on.set()
        busy.join()

    assert not caught.value.sent
