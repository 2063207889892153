"""The retry rule, as a flow."""

import pytest

from lakeport.client import calls
from lakeport.client.errors import (
    BadAnswer,
    BadRequest,
    ConnectionFailed,
    InvalidInput,
    LakeportError,
    NotReady,
    RateLimited,
    ServerError,
    TimedOut,
)
from lakeport.client.flow import Request, Response
from lakeport.client.retry import Retry
from tests.unit.client.flows import World, reply

POST = Request("POST", "/x", b"{}", endpoint="iris")
GET = Request("GET", "/x")
LIMITED = reply({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Slow down."}, 429)


def refused() -> ConnectionFailed:
    return ConnectionFailed("refused", sent=False)


def test_a_request_that_was_not_run_is_sent_again_with_growing_waits() -> None:
    world = World([refused(), LIMITED, reply(None, 503), reply({"a": 1})])

    reply_ = world.run(calls.send(world.context(Retry()), POST))

    assert world.slept == [0.25, 0.5, 1.0]
    assert (reply_.attempts, reply_.seconds) == (4, 1.75)


@pytest.mark.parametrize(
    "first",
    [
        reply(None, 500),
        reply(None, 502),
        reply(None, 504),
        ConnectionFailed("reset", sent=True),
        TimedOut("late"),
    ],
    ids=["500", "502", "504", "reset", "timeout"],
)
def test_one_that_may_have_run_is_sent_again_only_when_asked_for(
    first: Response | LakeportError,
) -> None:
    careful = World([first])
    with pytest.raises((ServerError, ConnectionFailed, TimedOut)) as caught:
        careful.run(calls.send(careful.context(Retry()), POST))
    assert caught.value.attempts == 1

    for request, rule in [(POST, Retry(unsafe=True)), (GET, Retry())]:
        world = World([first, reply({})])
        assert world.run(calls.send(world.context(rule), request)).attempts == 2


def test_retry_after_is_waited_for() -> None:
    world = World([reply({"message": "no"}, 429, retry_after="7"), reply({})])

    world.run(calls.send(world.context(Retry()), POST))

    assert world.slept == [7.0]


def test_no_wait_begins_that_would_end_after_the_deadline() -> None:
    world = World([reply(None, 429, retry_after="100")])

    with pytest.raises(RateLimited) as caught:
        world.run(calls.send(world.context(Retry(deadline=60)), POST))

    assert world.slept == []
    assert caught.value.retry_after == 100


def test_the_time_of_requests_counts_for_the_deadline() -> None:
    world = World([reply(None, 503)] * 9, takes=20.0)

    with pytest.raises(NotReady):
        world.run(calls.send(world.context(Retry(attempts=9, deadline=50)), POST))

    assert len(world.requests) == 3


def test_the_last_attempt_tells_how_many_there_were() -> None:
    world = World([refused()] * 3)

    with pytest.raises(ConnectionFailed) as caught:
        world.run(calls.send(world.context(Retry(attempts=3)), POST))

    assert caught.value.attempts == 3


def test_a_refusal_names_endpoint_status_code_and_request() -> None:
    body = {"error_code": "INVALID_PARAMETER_VALUE", "message": "no such column"}
    world = World([reply(body, 400, x_request_id="r1")])

    with pytest.raises(BadRequest, match="no such column") as caught:
        world.run(calls.send(world.context(), POST))

    error = caught.value
    assert (error.endpoint, error.status, error.request_id) == ("iris", 400, "r1")
    assert error.error_code == "INVALID_PARAMETER_VALUE"


def test_a_redirect_is_an_error_that_names_where_it_points() -> None:
    there = "https://login.example.com/x?token=abc"
    world = World([reply(None, 302, location=there)])

    with pytest.raises(BadAnswer, match=r"https://login\.example\.com/x\b") as caught:
        world.run(calls.send(world.context(), GET))

    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (reply({"a": [1]}), {"a": [1]}),
        (reply(b""), None),
        (reply(b"# HELP x\nx 1\n", content_type="text/plain"), "# HELP x\nx 1\n"),
        (reply(b'{"a": 1}', content_type="text/plain"), {"a": 1}),
        (reply(b"{x", content_type="text/plain"), "{x"),
        (reply(b'{"a": NaN}'), pytest.approx({"a": float("nan")}, nan_ok=True)),
    ],
)
def test_a_raw_call_gives_json_or_text(answer: Response, value: object) -> None:
    world = World([answer])

    assert world.run(calls.request(world.context(), "get", "/api/2.0/x")) == value


def test_a_raw_call_sends_json_and_a_query() -> None:
    world = World([reply({})])

    flow = calls.request(
        world.context(), "POST", "/api/2.0/ä b/c%2Fd?x=1", {"a": 1}, query={"q": "ü"}, timeout=3
    )
    world.run(flow)

    (sent,) = world.requests
    assert (sent.path, sent.body, sent.timeout) == ("/api/2.0/%C3%A4%20b/c%2Fd?x=1", b'{"a":1}', 3)
    assert sent.query == {"q": "ü"}


@pytest.mark.parametrize(
    ("method", "path", "body", "timeout", "named"),
    [
        ("FETCH", "/x", None, None, "method"),
        ("GET", "https://elsewhere.example.com/x", None, None, "path"),
        ("GET", "//elsewhere.example.com/x", None, None, "path"),
        ("POST", "/x", {1, 2}, None, "body"),
        ("POST", "/x", {}, 0.0, "timeout"),
        ("POST", "/x", {}, float("nan"), "timeout"),
    ],
)
def test_a_raw_call_refuses_by_name(
    method: str, path: str, body: object, timeout: float | None, named: str
) -> None:
    world = World()

    with pytest.raises(InvalidInput, match=named):
        world.run(calls.request(world.context(), method, path, body, timeout=timeout))


def test_json_that_is_none_is_shown() -> None:
    world = World([reply(b"<html>Sign in</html>")])

    with pytest.raises(BadAnswer, match="Sign in"):
        world.run(calls.get_json(world.context(), "/x"))
