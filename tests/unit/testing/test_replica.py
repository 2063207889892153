"""Functions behind a socket, as the server's own link finds them."""

import asyncio
import contextvars
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import orjson
import pandas as pd
import pytest
from mlflow.models import infer_signature
from mlflow.types import ParamSchema, ParamSpec

from lakeport.runtimes.base import Answer, Call, Link, ReplicaLost, Stream, StreamFailed
from lakeport.runtimes.local.link import UnixConnector
from lakeport.testing.replica import Loop, Replica, Run
from lakeport.worker import protocol
from tests.sending import Sent

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
var = contextvars.ContextVar("var", default="nothing")


class Served:
    """One function, asked through a link."""

    def __init__(self, replica: Replica, link: Link, address: str, runs: list[Run]) -> None:
        self.replica = replica
        self.link = link
        self.address = address
        self.runs = runs

    def send(
        self, body: bytes, content_type: str | None = "application/json", **more: Any
    ) -> "asyncio.Future[Answer | Stream]":
        """The deadline has passed already: a replica of the tests has none."""
        past = time.monotonic() - 1
        return Sent(self.link, Call(body, content_type, None, past, **more))

    async def ask(self, document: Any, **more: Any) -> tuple[int, Any]:
        """Status, and the body or the error's code and message."""
        answer = await asyncio.wait_for(self.send(orjson.dumps(document), **more), 20)
        assert isinstance(answer, Answer)
        return answer.status, answer.error or orjson.loads(answer.body)

    async def stream(self, document: Any, **more: Any) -> Stream:
        answer = await asyncio.wait_for(self.send(orjson.dumps(document), **more), 20)
        assert not isinstance(answer, Answer), answer
        return answer


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def functions() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
async def serve(
    loop: Loop, functions: Loop, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Callable[..., Any]]:
    opened: list[Served] = []

    async def open_one(function: Callable[..., Any], *, signature: Any = None) -> Served:
        runs: list[Run] = []
        replica = Replica(
            function,
            name="mine",
            loop=loop,
            functions=functions,
            signature=signature,
            ran=runs.append,
        )
        path = tmp_path_factory.mktemp("s", numbered=True) / "s"
        address = await asyncio.to_thread(replica.open, path)
        served = Served(replica, await UnixConnector().connect(address), address, runs)
        opened.append(served)
        return served

    yield open_one
    for served in opened:
        served.link.close()
        await asyncio.to_thread(served.replica.close)


# --- what a function gets -----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records"])
async def test_frames_come_as_frames(serve: Callable[..., Any], form: str) -> None:
    seen: list[pd.DataFrame] = []

    def doubled(frame: pd.DataFrame) -> Any:
        seen.append(frame)
        return frame["a"] * 2

    served = await serve(doubled)
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    body = frame.to_dict("split" if form == "dataframe_split" else "records")

    assert await served.ask({form: body}) == (200, {"predictions": [{"a": 2}, {"a": 4}]})
    pd.testing.assert_frame_equal(seen[0], frame)


@pytest.mark.parametrize("value", [[1, 2], {"a": [1]}, "text", 7, None, [[1.5]], True])
@pytest.mark.parametrize("form", ["inputs", "instances"])
async def test_values_come_as_they_are(serve: Callable[..., Any], form: str, value: Any) -> None:
    served = await serve(lambda given: given)

    assert await served.ask({form: value}) == (200, {"predictions": value})


@pytest.mark.parametrize("body", [HELLO, {"prompt": "x", "n": 1}, {"input": ["a"]}])
async def test_a_bare_body_comes_whole_and_its_answer_goes_bare(
    serve: Callable[..., Any], body: dict[str, Any]
) -> None:
    served = await serve(lambda given: {"got": given})

    assert await served.ask(body) == (200, {"got": body})


async def test_csv_and_parquet_come_as_frames(serve: Callable[..., Any], tmp_path: Path) -> None:
    served = await serve(lambda frame: int(frame["a"].sum()))
    pd.DataFrame({"a": [1, 2]}).to_parquet(tmp_path / "f")

    csv = await served.send(b"a\n1\n2\n", "text/csv")
    parquet = await served.send((tmp_path / "f").read_bytes(), "application/vnd.apache.parquet")

    assert csv.body == parquet.body == b'{"predictions":3}'


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda given, params: params, {"p": 1}),
        (lambda given, params=None: params, {"p": 1}),
        (lambda given, *, params: params, {"p": 1}),
        (lambda given: given, 7),
        (lambda given, other=3: other, 3),
    ],
)
async def test_params_come_where_they_are_taken(
    serve: Callable[..., Any], function: Callable[..., Any], got: Any
) -> None:
    served = await serve(function)

    assert await served.ask({"inputs": 7, "params": {"p": 1}}) == (200, {"predictions": got})


async def test_a_signature_is_enforced_as_by_mlflow(serve: Callable[..., Any]) -> None:
    signature = infer_signature(pd.DataFrame({"a": [1.0]}))
    signature.params = ParamSchema([ParamSpec("p", "long", 3)])
    served = await serve(lambda frame, params: [str(frame["a"].dtype), params], signature=signature)

    assert await served.ask({"dataframe_records": [{"a": 1, "extra": 2}]}) == (
        200,
        {"predictions": ["float64", {"p": 3}]},
    )
    status, (code, message) = await served.ask({"dataframe_records": [{"b": 1}]})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "issing inputs ['a']" in message


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"inputs": 1, "instances": 2}', "application/json", 400),
        (b"x", "text/plain", 415),
        (b"x", None, 415),
    ],
)
async def test_what_is_no_request_never_reaches_the_function(
    serve: Callable[..., Any], body: bytes, content_type: str | None, status: int
) -> None:
    function = Mock(return_value=1)
    served = await serve(function)

    answer = await served.send(body, content_type)

    assert answer.status == status
    function.assert_not_called()
    assert served.runs[-1].error is None


@pytest.mark.parametrize("function", [lambda: 1, lambda a, b: 1, lambda *, a: 1])
def test_a_function_that_takes_something_else_is_refused(
    loop: Loop, function: Callable[..., Any]
) -> None:
    with pytest.raises(TypeError, match="must take the request as its one argument"):
        Replica(function, name="mine", loop=loop, functions=loop)


def test_a_signature_of_another_kind_is_refused(loop: Loop) -> None:
    with pytest.raises(TypeError, match=r"expected mlflow\.models\.ModelSignature.*not dict"):
        Replica(lambda x: x, name="mine", loop=loop, functions=loop, signature={"a": "long"})


# --- how it runs --------------------------------------------------------------------------------


async def test_closures_mocks_and_partials(serve: Callable[..., Any]) -> None:
    mock, seen = Mock(return_value=[1]), []

    def closure(given: Any, number: int) -> int:
        seen.append(given)
        return number

    assert await (await serve(mock)).ask({"inputs": 3}) == (200, {"predictions": [1]})
    assert await (await serve(functools.partial(closure, number=5))).ask({"inputs": 4}) == (
        200,
        {"predictions": 5},
    )
    mock.assert_called_once_with(3)
    assert seen == [4]


async def test_async_functions_are_awaited_on_one_loop(serve: Callable[..., Any]) -> None:
    loops: set[asyncio.AbstractEventLoop] = set()

    async def function(given: int) -> int:
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return given + 1

    class Asked:
        async def __call__(self, given: int) -> int:
            return await function(given)

    for served in (await serve(function), await serve(Asked())):
        assert await served.ask({"inputs": 1}) == (200, {"predictions": 2})
    mock = AsyncMock(return_value=3)
    assert await (await serve(mock)).ask({"inputs": 1}) == (200, {"predictions": 3})
    assert len(loops) == 1
    assert loops.isdisjoint({asyncio.get_running_loop()})


async def test_context_variables_of_the_test_are_there(serve: Callable[..., Any]) -> None:
    var.set("mine")
    served = await serve(lambda _: var.get())

    assert await served.ask({"inputs": 1}) == (200, {"predictions": "mine"})


async def test_calls_run_side_by_side_and_have_no_deadline(serve: Callable[..., Any]) -> None:
    """`Served.send` gives a deadline that has passed already."""
    meeting = threading.Barrier(8)
    served = await serve(lambda _: meeting.wait(20) >= 0)

    answers = await asyncio.gather(*(served.ask({"inputs": i}) for i in range(8)))

    assert answers == [(200, {"predictions": True})] * 8


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (KeyError("secret"), 400, "BAD_REQUEST"),
        (AssertionError("secret"), 400, "BAD_REQUEST"),
        (SystemExit(3), 400, "BAD_REQUEST"),
        (MemoryError(), 500, "INTERNAL_ERROR"),
    ],
)
async def test_what_it_raises_is_told_to_the_test_alone(
    serve: Callable[..., Any], raised: BaseException, status: int, code: str
) -> None:
    served = await serve(Mock(side_effect=raised))

    got, (error_code, message) = await served.ask({"inputs": 1})

    assert (got, error_code) == (status, code)
    assert "secret" not in message
    assert served.runs[-1].error is raised


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_ends_a_thread_ends_no_loop(
    serve: Callable[..., Any], error: BaseException, stream: bool
) -> None:
    async def fails(_: Any) -> Any:
        raise error

    async def fails_later(_: Any) -> Any:
        yield 1
        raise error

    served = await serve(fails_later if stream else fails)

    if stream:
        with pytest.raises(StreamFailed):
            _ = [item async for item in await served.stream({"inputs": 1, "stream": True})]
    else:
        assert (await served.ask({"inputs": 1}))[0] == 400
    assert served.runs[-1].error is error
    assert error.__cause__ is None
    assert await (await serve(AsyncMock(return_value=2))).ask({"inputs": 1}) == (
        200,
        {"predictions": 2},
    )


async def test_a_coroutine_that_blocks_may_wait_for_another_endpoint(
    serve: Callable[..., Any],
) -> None:
    inner = await serve(lambda value: value + 1)
    here = asyncio.get_running_loop()

    async def outer(value: int) -> Any:
        asked = asyncio.run_coroutine_threadsafe(inner.ask({"inputs": value}), here)
        return asked.result(20)[1]["predictions"]

    assert await (await serve(outer)).ask({"inputs": 1}) == (200, {"predictions": 2})


@pytest.mark.parametrize("result", [object(), MagicMock()], ids=["object", "mock"])
async def test_what_json_cannot_say_is_a_400(serve: Callable[..., Any], result: object) -> None:
    served = await serve(lambda _: result)

    status, (code, message) = await served.ask({"inputs": 1})

    assert (status, code) == (400, "BAD_REQUEST")
    assert "cannot be written as JSON" in message
    assert "JSON serializable" in str(served.runs[-1].error)


# --- chat and streams ---------------------------------------------------------------------------


async def test_a_string_is_the_assistants_reply(serve: Callable[..., Any]) -> None:
    served = await serve(lambda body: body.pop("messages")[-1]["content"] + "!")

    status, answer = await served.ask(HELLO)

    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "hello!"}
    assert answer["usage"]["estimated"] is True


async def _agen(_: Any) -> AsyncIterator[str]:
    for number in range(200):
        await asyncio.sleep(0)
        yield f"{number} "


def _gen(_: Any) -> Iterator[str]:
    yield from (f"{number} " for number in range(200))


async def _returns_agen(given: Any) -> AsyncIterator[str]:
    return _agen(given)


@pytest.mark.parametrize("function", [_gen, _agen, _returns_agen])
async def test_generators_stream_beyond_the_window(
    serve: Callable[..., Any], function: Callable[..., Any]
) -> None:
    served = await serve(function)
    words = [f"{number} " for number in range(200)]
    assert len(words) > protocol.STREAM_WINDOW

    options = {"stream": True, "stream_options": {"include_usage": True}}
    events = [orjson.loads(event) async for event in await served.stream(HELLO | options)]
    whole = await served.ask(HELLO)

    said = [event["choices"][0]["delta"].get("content") for event in events[:-2]]
    assert said == words
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["completion_tokens"] > 0
    assert whole[1]["choices"][0]["message"]["content"] == "".join(words)


async def test_items_that_are_no_strings_are_events(serve: Callable[..., Any]) -> None:
    served = await serve(lambda _: iter([{"a": 1}, {"a": 2}]))

    stream = await served.stream({"inputs": 1, "stream": True})

    assert [orjson.loads(event) async for event in stream] == [{"a": 1}, {"a": 2}]
    assert await served.ask({"inputs": 1}) == (200, {"predictions": [{"a": 1}, {"a": 2}]})


async def test_an_openai_client_gets_whole_completions(serve: Callable[..., Any]) -> None:
    served = await serve(lambda _: {"choices": [{"index": 0, "message": {"content": "x"}}]})

    _, answer = await served.ask(HELLO | {"model": "mine"}, route="chat/completions")

    assert answer["model"] == "mine"
    assert answer["object"] == "chat.completion"


async def test_what_does_not_stream_says_so(serve: Callable[..., Any]) -> None:
    served = await serve(lambda _: {"a": 1})

    status, (_, message) = await served.ask(HELLO | {"stream": True})

    assert status == 400
    assert "does not stream" in message


async def test_a_failure_in_mid_stream_ends_it(serve: Callable[..., Any]) -> None:
    error = ValueError("no more")

    def function(_: Any) -> Iterator[str]:
        yield "one"
        raise error

    served = await serve(function)
    stream = await served.stream(HELLO | {"stream": True})

    with pytest.raises(StreamFailed):
        _ = [event async for event in stream]
    assert served.runs[-1].error is error


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_caller_that_leaves_ends_its_stream(
    serve: Callable[..., Any], asynchronous: bool
) -> None:
    ended = threading.Event()

    def plain(_: Any) -> Iterator[str]:
        try:
            while True:
                yield "more"
        finally:
            ended.set()

    async def awaited(_: Any) -> AsyncIterator[str]:
        try:
            while True:
                await asyncio.sleep(0)
                yield "more"
        finally:
            ended.set()

    served = await serve(awaited if asynchronous else plain)
    stream = await served.stream(HELLO | {"stream": True})

    await anext(aiter(stream))
    stream.close()

    assert await asyncio.to_thread(ended.wait, 20)


async def test_a_caller_that_leaves_cancels_a_coroutine(serve: Callable[..., Any]) -> None:
    began, cancelled = threading.Event(), threading.Event()

    async def function(_: Any) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    served = await serve(function)
    future = served.send(b'{"inputs": 1}')
    assert await asyncio.to_thread(began.wait, 20)
    future.cancel()

    assert await asyncio.to_thread(cancelled.wait, 20)


# --- the border ---------------------------------------------------------------------------------


async def test_a_wrong_secret_is_no_way_in(serve: Callable[..., Any]) -> None:
    served = await serve(lambda given: given)
    path, _, _ = served.address.partition("#")

    with pytest.raises(ReplicaLost):
        await UnixConnector().connect(f"{path}#{'0' * 32}")


async def test_a_replica_that_closes_loses_its_calls(serve: Callable[..., Any]) -> None:
    held = threading.Event()
    served = await serve(lambda _: held.wait(20))
    future = served.send(b'{"inputs": 1}')

    await asyncio.to_thread(served.replica.close)

    with pytest.raises(ReplicaLost):
        await asyncio.wait_for(future, 20)
    held.set()
    with pytest.raises(ReplicaLost):
        await UnixConnector().connect(served.address)


def test_a_loop_whose_coroutine_hangs_closes_all_the_same() -> None:
    loop = Loop()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(3600), loop.loop)

    loop.close()

    assert loop.loop.is_closed()
