import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message

from lakeport.api.invocations import is_error, parse_path
from lakeport.errors import EndpointNotFound, Unavailable
from lakeport.serving.ports import Reply
from tests.unit.api.fakes import World, client


@pytest.fixture(scope="module")
def built() -> World:
    return World(max_body=1000)


@pytest.fixture
def world(built: World) -> World:
    return built.fresh()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/serving-endpoints/iris/invocations", ("iris", None)),
        (b"/serving-endpoints/a%20b/invocations", ("a b", None)),
        (b"/serving-endpoints/a%2fb/invocations", ("a/b", None)),
        (b"/serving-endpoints/iris/served-models/iris-1/invocations", ("iris", "iris-1")),
        (b"/serving-endpoints/iris/invocations/", None),
        (b"/serving-endpoints/iris/x/iris-1/invocations", None),
        (b"/serving-endpoints/invocations", None),
        (b"/x/iris/invocations", None),
    ],
)
def test_a_path_is_split_before_its_names_are_decoded(
    path: bytes, expected: tuple[str, str | None] | None
) -> None:
    assert parse_path(path) == expected


@pytest.mark.parametrize("name", [b"", b"%00", b"%ff", b"%ed%a0%80", b"a%0ab", b"a" * 256])
def test_a_name_that_no_endpoint_can_have_is_not_found(name: bytes) -> None:
    with pytest.raises(EndpointNotFound):
        parse_path(b"/serving-endpoints/" + name + b"/invocations")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b'{"error": {"message": "x"}}', True),
        (b'{"databricks_output": {"error": "x"}}', True),
        (b'{"delta": "an \\"error\\""}', False),
        (b'{"error": null}', False),
        (b'["error"]', False),
        (b'"error', False),
        (b"", False),
    ],
)
def test_an_event_that_tells_of_a_failure_is_known(event: bytes, expected: bool) -> None:
    assert is_error(event) is expected


async def test_the_answer_names_the_served_entity_and_the_request(world: World) -> None:
    async with client(world) as http:
        reply = await http.post("/serving-endpoints/iris/invocations", content=b"{}")

    assert (reply.status_code, reply.json()) == (200, {"predictions": [1]})
    assert reply.headers["served-model-name"] == "iris-1"
    assert reply.headers["x-request-id"] == world.invoke.invocations[0].request_id
    assert reply.headers["x-databricks-org-id"] == "4711"


async def test_the_body_goes_through_untouched(world: World) -> None:
    body = b"\x1f\x8b\x00"
    headers = {"content-type": "Text/CSV", "content-encoding": "gzip"}

    async with client(world) as http:
        reply = await http.post(
            "/serving-endpoints/echo/served-models/e1/invocations", content=body, headers=headers
        )

    (asked,) = world.invoke.invocations
    assert reply.content == body
    assert (asked.entity, asked.content_type, asked.content_encoding) == ("e1", "text/csv", "gzip")


async def test_a_long_content_type_is_cut(world: World) -> None:
    headers = {"content-type": "application/json;" + "x" * 60_000}
    async with client(world) as http:
        await http.post("/serving-endpoints/iris/invocations", content=b"{}", headers=headers)

    told = world.invoke.invocations[0].content_type
    assert told is not None
    assert told.startswith("application/json;x")
    assert len(told) == 1024


async def test_a_missing_content_type_is_told_as_missing(world: World) -> None:
    async with client(world) as http:
        await http.post("/serving-endpoints/echo/invocations", content=b"")

    assert world.invoke.invocations[0].content_type is None


async def test_a_body_over_the_bound_is_refused_unread(world: World) -> None:
    async with client(world) as http:
        reply = await http.post("/serving-endpoints/echo/invocations", content=b"x" * 1001)

    assert (reply.status_code, reply.json()["error_code"]) == (413, "REQUEST_TOO_LARGE")
    assert not world.invoke.invocations


async def test_a_body_of_unknown_length_is_counted(world: World) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    async with client(world) as http:
        reply = await http.post("/serving-endpoints/echo/invocations", content=pieces())

    assert reply.status_code == 413


async def test_an_endpoint_is_invoked_with_post_only(world: World) -> None:
    async with client(world) as http:
        reply = await http.get("/serving-endpoints/iris/invocations")

    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


async def test_an_error_of_the_inside_keeps_its_reason_to_itself(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(world) as http:
        reply = await http.post("/serving-endpoints/broken/invocations", content=b"{}")

    assert (reply.status_code, reply.json()["error_code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in reply.text
    assert reply.json()["details"][0]["request_id"] == reply.headers["x-request-id"]
    assert reply.headers["x-request-id"] in caplog.text
    assert "a secret of the inside" in caplog.text


async def test_a_stream_is_sent_as_events_and_ends_with_done(world: World) -> None:
    async with client(world) as http:
        reply = await http.post("/serving-endpoints/stream/invocations", content=b"{}")

    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["served-model-name"] == "stream-1"
    assert reply.text == (
        'data: {"delta":"one"}\n\ndata: {"delta":\ndata: "two"}\n\ndata: [DONE]\n\n'
    )
    assert world.invoke.closed.is_set()


async def test_nothing_in_an_event_can_be_taken_for_the_end_of_a_line(world: World) -> None:
    async def odd_ends() -> AsyncIterator[bytes]:
        yield '{"text": "a\u0085b\u2028c\u2029d é 😀 \xa8"}'.encode()
        yield b'{"a":\r\n1,\r"b":2}'

    world.invoke.stream = odd_ends
    async with client(world) as http:
        reply = await http.post("/serving-endpoints/stream/invocations", content=b"{}")

    assert reply.text == (
        'data: {"text": "a\\u0085b\\u2028c\\u2029d é 😀 \xa8"}\n\n'
        'data: {"a":\ndata: 1,\ndata: "b":2}\n\ndata: [DONE]\n\n'
    )
    assert all(line.startswith("data: ") for line in reply.text.splitlines() if line)


@pytest.mark.parametrize(
    ("status", "told", "expected"),
    [(429, 7, "7"), (429, None, "1"), (503, 0, "1"), (200, None, None), (500, None, None)],
)
async def test_a_reply_says_how_long_to_wait(
    world: World, status: int, told: int | None, expected: str | None
) -> None:
    world.invoke.reply = Reply(status, b"{}", "application/json", "e", told)
    async with client(world) as http:
        reply = await http.post("/serving-endpoints/given/invocations", content=b"{}")

    assert (reply.status_code, reply.headers.get("retry-after")) == (status, expected)


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unavailable("gone"), "TEMPORARILY_UNAVAILABLE"), (RuntimeError("secret"), "INTERNAL_ERROR")],
)
async def test_a_stream_that_fails_says_so_and_is_not_done(
    world: World, error: Exception, code: str
) -> None:
    async def fails() -> AsyncIterator[bytes]:
        yield b"{}"
        raise error

    world.invoke.stream = fails
    async with client(world) as http:
        reply = await http.post("/serving-endpoints/stream/invocations", content=b"{}")

    last = json.loads(reply.text.strip().splitlines()[-1].removeprefix("data: "))
    assert last["error"].keys() == {"message", "type", "code"}
    assert last["error"]["code"] == code
    assert "[DONE]" not in reply.text
    assert "secret" not in reply.text


async def test_a_model_that_reports_its_failure_last_is_not_done(world: World) -> None:
    async def fails() -> AsyncIterator[bytes]:
        yield b'{"error": "by the model"}'

    world.invoke.stream = fails
    async with client(world) as http:
        reply = await http.post("/serving-endpoints/stream/invocations", content=b"{}")

    assert "[DONE]" not in reply.text


class Hanging:
    """A client that sends its request, then hangs up when told to."""

    def __init__(self) -> None:
        self.hang_up = asyncio.Event()
        self.sent: list[Message] = []
        self._asked = False

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"{}", "more_body": False}
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)


async def invoke(world: World, path: str, caller: Hanging) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer ann-token"), (b"host", b"localhost")],
    }
    await world.app(scope, caller.receive, caller.send)


async def test_a_client_that_hangs_up_cancels_what_was_started_for_it(world: World) -> None:
    caller = Hanging()
    running = asyncio.create_task(invoke(world, "/serving-endpoints/slow/invocations", caller))
    await world.invoke.waiting.wait()

    caller.hang_up.set()
    await running

    assert world.invoke.cancelled.is_set()
    assert not caller.sent


async def test_a_client_that_hangs_up_in_mid_stream_ends_the_stream(world: World) -> None:
    world.invoke.stream = world.invoke.endless
    caller = Hanging()
    running = asyncio.create_task(invoke(world, "/serving-endpoints/stream/invocations", caller))
    await world.invoke.waiting.wait()

    caller.hang_up.set()
    await running

    assert world.invoke.closed.is_set()


async def test_the_end_of_the_server_is_told_to_those_who_wait(world: World) -> None:
    caller = Hanging()
    running = asyncio.create_task(invoke(world, "/serving-endpoints/slow/invocations", caller))
    await world.invoke.waiting.wait()

    running.cancel()
    await running

    assert world.invoke.cancelled.is_set()
    assert caller.sent[0]["status"] == 503


async def test_the_end_of_the_server_ends_a_stream_with_an_error(world: World) -> None:
    world.invoke.stream = world.invoke.endless
    caller = Hanging()
    running = asyncio.create_task(invoke(world, "/serving-endpoints/stream/invocations", caller))
    await world.invoke.waiting.wait()

    running.cancel()
    await running

    assert world.invoke.closed.is_set()
    *_, event, end = caller.sent
    assert json.loads(event["body"].removeprefix(b"data: "))["error"]["code"] == (
        "TEMPORARILY_UNAVAILABLE"
    )
    assert (end["body"], end.get("more_body", False)) == (b"", False)
