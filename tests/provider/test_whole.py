"""Whole answers through a link, and every way in which a server fails to give one."""

import asyncio
import json
import logging
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from lakeport.wire.chat import Operation
from tests.provider.client import (
    KEY,
    FakeVault,
    answer_of,
    call,
    linked,
    outside,
    problem,
)
from tests.provider.provider import Asked, Behaviour, Out, completion, running


def whole(body: Any, status: int = 200, **headers: str) -> Behaviour:
    async def behaviour(asked: Asked, out: Out) -> None:
        kind = headers.pop("kind", "application/json")
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        await out.whole(body, status, given, kind)

    return behaviour


async def test_an_answer_arrives_as_it_was_sent() -> None:
    body = json.dumps(completion("Grüße"), indent=3).encode()
    async with running(whole(body)) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call({"top_k": 7}))
        assert (answer.status, answer.body, answer.error) == (200, body, None)
        asked = provider.asked[0]
        assert asked.document["top_k"] == 7
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["user-agent"] == "lakeport"
        assert "cookie" not in asked.headers


async def test_calls_share_connections_and_no_cookies() -> None:
    async with (
        running(whole(completion(), Set_Cookie="session=1; Path=/")) as provider,
        linked(provider.url) as link,
    ):
        for _ in range(3):
            await answer_of(link, call())
        assert provider.connections == 1
        assert all("cookie" not in asked.headers for asked in provider.asked)


@pytest.mark.parametrize("operation", list(Operation))
async def test_each_operation_has_its_path(operation: Operation) -> None:
    async with running(whole({"object": "list"})) as provider, linked(provider.url) as link:
        await answer_of(link, call(operation=operation))
        assert provider.asked[0].path == f"/v1/{operation}"


async def test_a_large_answer_comes_whole() -> None:
    text = "x" * 10_000_000
    async with running(whole(completion(text))) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call())
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("announced", [True, False])
async def test_an_answer_beyond_the_bound_is_refused(
    announced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakeport.providers.openai.MAX_ANSWER", 2**20)

    async def endless(asked: Asked, out: Out) -> None:
        length = f"Content-Length: {2**30}" if announced else "Connection: close"
        await out.raw(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        while True:
            await out.raw(b" " * 65536)

    async with running(endless) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call())
        assert answer.status == 502
        assert "more than 1 MiB" in problem(answer)
        await provider.until_open(0)


# --- what is no answer ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (whole(b'{"choices": ['), "not JSON"),
        (whole(b"<html>hello</html>", kind="text/html"), "not JSON"),
        (whole(b"[]"), "not JSON"),
        (whole(b""), "not JSON"),
        (whole(b"", 204), "not JSON"),
        (whole({}, 302, Location="http://169.254.169.254/latest/meta-data/"), "redirect (302)"),
        (whole({}, 308, Location="/v1/elsewhere"), "redirect (308)"),
        (whole({}, 700), "status 700"),
        (whole({"error": {"message": "out of it"}}), "failed: out of it"),
    ],
)
async def test_what_is_no_answer_is_a_bad_gateway(behaviour: Behaviour, said: str) -> None:
    async with running(behaviour) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call())
        assert answer.status == 502
        assert said in problem(answer)
        assert "169.254" not in problem(answer)
        assert len(provider.asked) == 1


async def _reset(asked: Asked, out: Out) -> None:
    out.reset()


async def _reset_in_the_middle(asked: Asked, out: Out) -> None:
    await out.raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"choices"')
    await asyncio.sleep(0.02)
    out.reset()


async def _closed_in_the_middle(asked: Asked, out: Out) -> None:
    await out.raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"choices"')
    out.keep = False


async def _not_http(asked: Asked, out: Out) -> None:
    await out.raw(b"220 smtp.example.org ESMTP\r\n\r\n")


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (_reset, "broke off"),
        (_reset_in_the_middle, "broke off"),
        (_closed_in_the_middle, "broke off"),
        (_not_http, "not HTTP"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_connection_that_breaks_is_a_bad_gateway(
    behaviour: Behaviour, said: str, stream: bool
) -> None:
    async with running(behaviour) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call(stream=stream))
        assert answer.status == 502
        assert said in problem(answer)
        assert len(provider.asked) == 1, "what a fresh connection broke is not asked for again"
        assert link.outstanding == 0


async def test_nobody_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        async with linked(url) as link:
            answer = await answer_of(link, call())
    assert answer.status == 502
    assert "cannot be connected to" in problem(answer)


async def test_a_name_that_nobody_has() -> None:
    async with linked("https://nobody.invalid/v1") as link:
        answer = await answer_of(link, call())
    assert answer.status == 502
    assert "does not resolve" in problem(answer)


# --- connections that died in the pool ------------------------------------------------------------


def only_once(*, farewell: bytes = b"", reset: bool = False) -> Behaviour:
    """Answers the first request of each connection; a second one gets `farewell` and the end."""
    seen: set[int] = set()

    async def behaviour(asked: Asked, out: Out) -> None:
        if asked.connection not in seen:
            seen.add(asked.connection)
            await out.whole(completion())
            return
        await out.raw(farewell)
        out.keep = False
        if reset:
            out.reset()

    return behaviour


@pytest.mark.parametrize("reset", [True, False])
async def test_a_call_over_a_dead_connection_goes_once_more(reset: bool) -> None:
    async with running(only_once(reset=reset)) as provider, linked(provider.url) as link:
        for _ in range(20):
            assert (await answer_of(link, call())).status == 200
        dead = len(provider.asked) - 20
        assert dead > 0, "connections were used again"


async def test_it_goes_once_more_only_once() -> None:
    async with running() as provider, linked(provider.url) as link:
        assert (await answer_of(link, call())).status == 200
        provider.behaviour = _reset
        answer = await answer_of(link, call())
        assert "broke off" in problem(answer)
        assert len(provider.asked) == 3


async def test_an_answer_that_had_begun_is_not_asked_for_again() -> None:
    behaviour = only_once(farewell=b"HTTP/1.1 200 OK\r\nContent-Le")
    async with running(behaviour) as provider, linked(provider.url) as link:
        assert (await answer_of(link, call())).status == 200
        answer = await answer_of(link, call())
        assert "broke off" in problem(answer)
        assert len(provider.asked) == 2


# --- time limits ----------------------------------------------------------------------------------


async def _silent(asked: Asked, out: Out) -> None:
    await asyncio.sleep(60)


async def _drips(asked: Asked, out: Out) -> None:
    await out.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await out.raw(b" ")
        await asyncio.sleep(0.02)


async def _stops(asked: Asked, out: Out) -> None:
    await out.raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"ch')
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("behaviour", "seconds", "idle", "said"),
    [
        (_silent, 0.6, 5, "within the time limit"),
        (_drips, 0.6, 5, "within the time limit"),
        (_stops, 10, 0.2, "sent nothing for 0.2 seconds"),
    ],
)
async def test_time_limits(behaviour: Behaviour, seconds: float, idle: float, said: str) -> None:
    async with running(behaviour) as provider, linked(provider.url, idle_timeout=idle) as link:
        answer = await answer_of(link, call(seconds=seconds))
        assert answer.status == 504
        assert said in problem(answer)
        await provider.until_open(0)


async def test_the_first_byte_may_take_longer_than_the_idle_timeout() -> None:
    async def thinks(asked: Asked, out: Out) -> None:
        await asyncio.sleep(0.3)
        await out.whole(completion())

    async with running(thinks) as provider, linked(provider.url, idle_timeout=0.1) as link:
        assert (await answer_of(link, call())).status == 200


async def test_a_server_that_does_not_let_itself_be_connected_to() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = []
        for _ in range(8):  # fill the queue of connections that nobody accepts
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        way_out = outside("127.0.0.1", connect=0.3)
        async with linked(f"http://127.0.0.1:{port}/v1", way_out=way_out) as link:
            answer = await answer_of(link, call())
        for filler in fillers:
            filler.close()
    assert answer.status == 504
    assert "could not be connected to within 0.3 seconds" in problem(answer)


# --- refusals -------------------------------------------------------------------------------------


async def test_a_refusal_keeps_its_status_and_dialect() -> None:
    error = {"message": "bad `n`", "type": "invalid_request_error", "param": "n", "code": None}
    async with running(whole({"error": error}, 400)) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call(stream=True))
    assert (answer.status, answer.error, answer.retry_after) == (400, None, None)
    assert json.loads(answer.body) == {"error": error}


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ({"error": "model not loaded"}, "application/json", "model not loaded"),
        ({"detail": "no route"}, "application/json", "no route"),
        ({"object": "error", "message": "too long", "code": 400}, "application/json", "too long"),
        ({"error_code": "BAD_REQUEST", "message": "no"}, "application/json", "no"),
        (b"<html>nginx</html>", "text/html", "The model's server answered with status 503."),
        (b"x" * 100_000, "text/plain", "The model's server answered with status 503."),
        ([], "application/json", "The model's server answered with status 503."),
    ],
)
async def test_refusals_in_other_dialects(body: Any, kind: str, message: str) -> None:
    async with running(whole(body, 503, kind=kind)) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call())
    assert answer.status == 503
    error = json.loads(answer.body)["error"]
    assert error["message"] == message
    assert error["type"]


@pytest.mark.parametrize("status", [401, 403, 407])
async def test_a_refused_key_is_not_our_callers(status: int) -> None:
    said = {"error": {"message": f"Incorrect API key provided: {KEY[:6]}***; see https://x.y/z"}}
    async with running(whole(said, status)) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call())
    assert answer.status == 502
    message = problem(answer)
    assert f"refused the key that this endpoint has for it ({status})" in message
    assert "x.y" not in message


def _in(seconds: int) -> str:
    """An HTTP date so many seconds from now: made when the test runs, not when it is collected."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry_After": "7"}, 7, 7),
        ({"Retry_After": "0.2"}, 1, 1),
        ({"Retry_After": "-3"}, 1, 1),
        ({"Retry_After": "1e99"}, 86400, 86400),
        ({"Retry_After": 3000}, 2000, 3000),
        ({"Retry_After": -30}, 1, 1),
        ({"retry_after_ms": "2500", "Retry_After": "9"}, 3, 3),
    ],
)
async def test_how_long_to_wait(headers: dict[str, str | int], least: int, most: int) -> None:
    dated = {name: v if isinstance(v, str) else _in(v) for name, v in headers.items()}
    said = {"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate"}}
    async with running(whole(said, 429, **dated)) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call())
    assert (answer.status, answer.error) == (429, None)
    assert answer.retry_after is not None
    assert least <= answer.retry_after <= most


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "soon"}, {"Retry_After": "nan"}])
async def test_no_word_on_how_long_to_wait(headers: dict[str, str]) -> None:
    async with (
        running(whole({"error": "x"}, 429, **headers)) as provider,
        linked(provider.url) as link,
    ):
        answer = await answer_of(link, call())
    assert answer.retry_after is None


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
@pytest.mark.parametrize("stream", [True, False])
async def test_no_answer_tells_the_key_or_an_address(
    status: int, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def telling(asked: Asked, out: Out) -> None:
        header = asked.headers["authorization"]
        host = asked.headers["host"]
        text = (
            f"{header} / {KEY} is wrong, says http://{host}/v1 ({host}) 192.168.7.9:80 /etc/keys/a"
        )
        await out.whole({"error": {"message": text, "param": {"deep": [text, {text: 1}]}}}, status)

    caplog.set_level(logging.DEBUG)
    async with running(telling) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call(stream=stream))
        port = str(provider.port)
    told = repr(answer) + caplog.text
    for secret in (KEY, "192.168.7.9", "/etc/keys", f"127.0.0.1:{port}"):
        assert secret not in told


@pytest.mark.parametrize("value", [None, "", "  ", "a\nb", "schlüssel"])
async def test_a_key_that_cannot_be_had(
    value: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    vault = FakeVault({} if value is None else {"{{secrets/llm/key}}": value})
    async with running() as provider, linked(provider.url, vault=vault) as link:
        answer = await answer_of(link, call())
        assert provider.asked == []
    assert answer.status == 502
    assert "The key that this endpoint has for the model's server cannot be had" in problem(answer)
    assert not value or not value.strip() or value not in caplog.text


async def test_a_key_is_taken_anew_for_each_call() -> None:
    vault = FakeVault()
    async with running() as provider, linked(provider.url, vault=vault) as link:
        await answer_of(link, call())
        vault.secrets["{{secrets/llm/key}}"] = "another-one\n"
        await answer_of(link, call())
        sent = [asked.headers["authorization"] for asked in provider.asked]
    assert sent == [f"Bearer {KEY}", "Bearer another-one"]
