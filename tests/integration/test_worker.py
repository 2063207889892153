"""A worker as a process of its own, through the front's real link."""

import asyncio
import contextlib
import gzip
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from lakeport.runtimes.base import Answer, Call, Link, ReplicaLost, Stream, StreamFailed
from lakeport.runtimes.local.link import UnixConnector
from lakeport.worker import protocol
from tests.integration.worker_process import MAX_BODY, SECRET, WorkerProcess, worker
from tests.models.fixtures import SavedModel
from tests.sending import Sent

pytestmark = pytest.mark.asyncio(loop_scope="module")

IRIS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
FLOWER = {"dataframe_split": {"columns": IRIS, "data": [[5.1, 3.5, 1.4, 0.2]]}}


def call(body: Any, *, seconds: float = 60, **more: Any) -> Call:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    about: dict[str, Any] = {"content_type": "application/json", "content_encoding": None}
    return Call(sent, deadline=time.monotonic() + seconds, **about | more)


async def ask(link: Link, body: Any, **more: Any) -> Answer:
    answer = await Sent(link, call(body, **more))
    assert isinstance(answer, Answer)
    return answer


async def stream_of(link: Link, body: Any) -> Stream:
    stream = await Sent(link, call(body))
    assert not isinstance(stream, Answer)
    return stream


def do(*deeds: str) -> dict[str, Any]:
    return {"dataframe_records": [{"do": deed} for deed in deeds]}


def predictions(answer: Answer) -> Any:
    assert answer.status == 200, answer.error
    return json.loads(answer.body)["predictions"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def iris(saved_model: SavedModel) -> AsyncIterator[WorkerProcess]:
    async with worker(saved_model("iris")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hostile(saved_model: SavedModel) -> AsyncIterator[WorkerProcess]:
    async with worker(saved_model("hostile")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def streams(saved_model: SavedModel) -> AsyncIterator[WorkerProcess]:
    async with worker(saved_model("streams"), concurrency=2) as found:
        yield found


# --- start --------------------------------------------------------------------------------------


async def test_a_worker_says_what_it_is(iris: WorkerProcess, hostile: WorkerProcess) -> None:
    ready = {"state": "ready", "pid": iris.process.pid, "streams": False}

    assert iris.states == [{"state": "loading"}, ready | {"row_wise": True, "credit": 64}]
    assert hostile.last["row_wise"] is False
    assert hostile.last["credit"] == 8
    assert iris.socket.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("name", "order", "says"),
    [
        ("load_raises", {}, "RuntimeError: the weights are not what they were"),
        ("load_eats", {"memory_limit": 2**31}, "ran out of memory while it was loaded"),
        ("iris", {"socket": "/nowhere/w.sock"}, "FileNotFoundError"),
    ],
)
async def test_a_worker_that_cannot_start_says_why(
    saved_model: SavedModel, name: str, order: dict[str, Any], says: str
) -> None:
    async with worker(saved_model(name), **order) as found:
        assert found.last["state"] == "failed"
        assert says in found.last["message"]
        assert str(saved_model(name)) not in found.last["message"]
        assert await found.process.wait() == 1
        assert "Traceback" in found.said()


async def test_a_worker_whose_server_has_gone_does_not_start(saved_model: SavedModel) -> None:
    async with worker(saved_model("iris"), parent=1) as found:
        assert await found.process.wait() == 1
        assert found.states == []


async def test_a_worker_that_hangs_in_loading_ends_with_its_stdin(saved_model: SavedModel) -> None:
    async with worker(saved_model("load_hangs"), wait=False) as found:
        assert found.process.stdin is not None
        found.process.stdin.close()

        assert await found.process.wait() == 0


async def test_a_worker_ends_with_its_stdin(saved_model: SavedModel) -> None:
    async with worker(saved_model("chat")) as found:
        link = await found.connect()
        assert found.process.stdin is not None
        found.process.stdin.close()

        assert await found.process.wait() == 0
        await link.lost


async def test_models_see_nothing_of_ours(hostile: WorkerProcess) -> None:
    link = await hostile.connect()

    answer = await ask(link, do("imports", "input"))

    assert predictions(answer) == [[], ""]
    link.close()


# --- answers ------------------------------------------------------------------------------------


async def test_many_calls_at_once_each_get_their_answer(iris: WorkerProcess) -> None:
    link = await iris.connect()
    rows = [[0.1 * number, 3.0, 0.05 * number, 0.2] for number in range(200)]
    bodies = [{"dataframe_split": {"columns": IRIS, "data": rows[:n]}} for n in range(1, 200)]

    answers = await asyncio.gather(*(ask(link, body) for body in bodies))

    whole = predictions(answers[-1])
    assert len(set(whole)) > 1
    assert [predictions(answer) for answer in answers] == [whole[:n] for n in range(1, 200)]
    assert all(answer.seconds > 0 for answer in answers)
    assert link.outstanding == 0
    link.close()


async def test_a_bad_request_among_good_ones_fails_alone(iris: WorkerProcess) -> None:
    link = await iris.connect()
    poison = b'{"dataframe_split": {"columns": %s, "data": [[NaN, 1, 1, 1]]}}' % (
        json.dumps(IRIS).encode()
    )
    bodies: list[Any] = [FLOWER, poison, b"{", {"inputs": []}, FLOWER]

    answers = await asyncio.gather(*(ask(link, body) for body in bodies))

    assert [answer.status for answer in answers] == [200, 400, 400, 400, 200]
    assert answers[2].error is not None
    assert answers[2].error[0] == "BAD_REQUEST"
    link.close()


async def test_two_fronts_share_a_worker(iris: WorkerProcess) -> None:
    links = [await iris.connect(), await iris.connect()]

    answers = await asyncio.gather(*(ask(link, FLOWER) for link in links * 50))

    assert {answer.status for answer in answers} == {200}
    for link in links:
        link.close()


async def test_forms_encodings_and_notes(iris: WorkerProcess) -> None:
    link = await iris.connect()
    csv = ",".join(IRIS) + "\n5.1,3.5,1.4,0.2\n"

    about = {"client_request_id": "r-1", "usage_context": {"team": "a"}}
    noted = await ask(link, FLOWER | about)
    bad = await ask(link, {"inputs": 1, "instances": 1} | about)
    zipped = await ask(link, gzip.compress(json.dumps(FLOWER).encode()), content_encoding="gzip")
    text = await ask(link, csv.encode(), content_type="text/csv; charset=utf-8")
    bomb = await ask(link, gzip.compress(bytes(MAX_BODY + 1)), content_encoding="gzip")
    untyped = await ask(link, FLOWER, content_type=None)
    large = await ask(link, json.dumps(FLOWER).encode() + b" " * (MAX_BODY - 1000))

    assert [predictions(answer) for answer in (noted, zipped, text, large)] == [[0]] * 4
    for answer in (noted, bad):
        assert answer.client_request_id == "r-1"
        assert answer.usage_context == {"team": "a"}
    assert (bomb.status, bomb.error and bomb.error[0]) == (413, "REQUEST_TOO_LARGE")
    assert (untyped.status, untyped.error and untyped.error[0]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    link.close()


async def test_a_call_past_its_deadline_is_not_computed(
    iris: WorkerProcess, hostile: WorkerProcess
) -> None:
    for found, body in ((iris, FLOWER), (hostile, do("print"))):
        link = await found.connect()

        answer = await ask(link, body, seconds=-1)

        assert (answer.status, answer.error and answer.error[0]) == (504, "DEADLINE_EXCEEDED")
        link.close()
    assert "printed by the model" not in hostile.said()


async def test_stream_is_refused_by_a_model_that_does_not(iris: WorkerProcess) -> None:
    link = await iris.connect()

    answer = await ask(link, FLOWER | {"stream": True})

    assert answer.status == 400
    assert answer.error is not None
    assert "predict_stream" in answer.error[1]
    link.close()


# --- streams ------------------------------------------------------------------------------------


async def test_a_stream_longer_than_its_window_arrives_whole(streams: WorkerProcess) -> None:
    link = await streams.connect()
    stream = await stream_of(link, {"messages": [], "count": 500, "stream": True})

    numbers = [json.loads(event)["number"] async for event in stream]

    assert numbers == list(range(500))
    assert link.outstanding == 0
    link.close()


async def test_a_stream_that_is_not_read_stops_at_its_window(streams: WorkerProcess) -> None:
    link = await streams.connect()
    stream = await stream_of(link, {"messages": [], "count": 10**9, "stream": True})
    chunks = stream._chunks  # type: ignore[attr-defined]
    while len(chunks.ready) < protocol.STREAM_WINDOW:  # noqa: ASYNC110  there is no event for it
        await asyncio.sleep(0)

    # The other thread answers, and nothing but its answer comes.
    answer = await ask(link, {"messages": [], "count": 1})

    assert json.loads(answer.body) == {"count": 1, "stream": None}
    assert len(chunks.ready) == protocol.STREAM_WINDOW
    stream.close()
    stream.close()
    assert link.outstanding == 0
    link.close()


async def test_streams_that_end_early_free_their_threads(streams: WorkerProcess) -> None:
    link = await streams.connect()
    endless = {"messages": [], "count": 10**9, "stream": True}

    for _ in range(3):  # of two threads
        closed = await stream_of(link, endless)
        closed.close()
        dropped = await stream_of(link, endless)
        del dropped
        other = await streams.connect()
        assert not isinstance(await Sent(other, call(endless)), Answer)
        other.close()
        cancelled = Sent(link, call(endless))
        cancelled.cancel()

    answer = await ask(link, {"messages": [], "count": 1})
    assert answer.status == 200
    assert link.outstanding == 0
    link.close()


async def test_a_stream_that_goes_on_when_told_to_end_frees_its_thread(
    streams: WorkerProcess,
) -> None:
    link = await streams.connect()
    stubborn = {"messages": [], "count": 10**9, "stubborn": True, "stream": True}

    for _ in range(3):  # of two threads
        stream = await stream_of(link, stubborn)
        stream.close()

    answer = await ask(link, {"messages": [], "count": 1})
    assert answer.status == 200
    link.close()


async def test_a_model_that_raises_what_ends_generators_fails_its_own_stream(
    streams: WorkerProcess,
) -> None:
    link = await streams.connect()
    leaving = {"messages": [], "count": 3, "leave": True, "stream": True}

    for _ in range(3):  # of two threads
        answer = await ask(link, leaving | {"fail": 0})
        assert answer.status == 400
        stream = await stream_of(link, leaving | {"fail": 1})
        with pytest.raises(StreamFailed):
            [event async for event in stream]

    assert (await ask(link, {"messages": [], "count": 1})).status == 200
    link.close()


async def test_a_stream_that_fails_before_its_first_chunk_is_an_answer(
    streams: WorkerProcess,
) -> None:
    link = await streams.connect()

    answer = await ask(link, {"messages": [], "count": 3, "fail": 0, "stream": True})

    assert answer.status == 400
    assert answer.error is not None
    assert "unexpected error" in answer.error[1]
    link.close()


async def test_a_stream_that_fails_later_says_so(streams: WorkerProcess) -> None:
    link = await streams.connect()
    stream = await stream_of(link, {"messages": [], "count": 3, "fail": 2, "stream": True})

    events = [await anext(aiter(stream)) for _ in range(2)]
    with pytest.raises(StreamFailed) as caught:
        await anext(aiter(stream))

    assert [json.loads(event)["number"] for event in events] == [0, 1]
    assert caught.value.error_code == "BAD_REQUEST"
    assert "/secret/path" not in caught.value.message
    assert "/secret/path" in streams.said()
    link.close()


async def test_a_stream_without_chunks_is_a_stream(streams: WorkerProcess) -> None:
    link = await streams.connect()
    stream = await stream_of(link, {"messages": [], "count": 0, "stream": True})

    assert [event async for event in stream] == []
    link.close()


async def test_a_stream_knows_when_its_replica_is_lost(saved_model: SavedModel) -> None:
    async with worker(saved_model("streams")) as found:
        link = await found.connect()
        stream = await stream_of(link, {"messages": [], "count": 10**9, "stream": True})

        found.process.kill()

        with pytest.raises(ReplicaLost):
            async for _ in stream:
                pass


# --- models that misbehave ----------------------------------------------------------------------


async def test_a_model_that_raises_or_exits_in_python_only_fails_the_request(
    hostile: WorkerProcess,
) -> None:
    link = await hostile.connect()

    for deed in ("raise", "sys.exit", "object"):
        answer = await ask(link, do(deed))
        assert (answer.status, answer.error and answer.error[0]) == (400, "BAD_REQUEST"), deed
    alive = await ask(link, do("pid", "nan"))

    assert predictions(alive) == [hostile.process.pid, None]
    assert "told to raise" in hostile.said()
    link.close()


async def test_what_a_model_prints_is_in_the_log(hostile: WorkerProcess) -> None:
    link = await hostile.connect()

    await ask(link, do("print"))

    assert "printed by the model\n" in hostile.said()
    link.close()


@pytest.mark.parametrize(("deed", "code"), [("os._exit", 3), ("segfault", -signal.SIGSEGV)])
async def test_a_model_that_dies_loses_all_that_its_replica_held(
    saved_model: SavedModel, deed: str, code: int
) -> None:
    async with worker(saved_model("hostile")) as found:
        link = await found.connect()
        hanging = Sent(link, call(do("hang")))

        with pytest.raises(ReplicaLost):
            await ask(link, do(deed))

        with pytest.raises(ReplicaLost):
            await hanging
        await link.lost
        assert await found.process.wait() == code
        with pytest.raises(ReplicaLost):
            await ask(link, do("nothing"))
        with pytest.raises(ReplicaLost):
            await found.connect()


async def test_a_model_out_of_memory_is_answered_before_its_replica_ends(
    saved_model: SavedModel,
) -> None:
    async with worker(saved_model("hostile"), memory_limit=2**31) as found:
        link = await found.connect()
        answer = await ask(link, do("eat"))

        assert answer.status == 500
        assert answer.error == ("INTERNAL_ERROR", "The model ran out of memory")
        await link.lost
        assert await found.process.wait() == 70


async def test_a_model_that_hangs_holds_up_only_its_thread(saved_model: SavedModel) -> None:
    async with worker(saved_model("hostile"), concurrency=2) as found:
        link = await found.connect()
        hanging = Sent(link, call(do("hang")))

        answers = [await ask(link, do("nothing")) for _ in range(5)]

        assert {answer.status for answer in answers} == {200}
        assert not hanging.done()
        # Both threads hang: the next waits.
        also = Sent(link, call(do("hang")))
        waiting = Sent(link, call(do("nothing")))
        waiting.cancel()
        await asyncio.sleep(0.05)
        assert link.outstanding == 3
        link.close()
        for lost in (hanging, also):
            with pytest.raises(ReplicaLost):
                await lost


async def test_calls_cancelled_before_their_turn_free_their_places(
    saved_model: SavedModel, iris: WorkerProcess
) -> None:
    async with worker(saved_model("slow"), concurrency=1) as found:
        link = await found.connect()
        first = Sent(link, call({"dataframe_records": [{"seconds": 0.3}]}))
        Sent(link, call({"dataframe_records": [{"seconds": 600.0}]})).cancel()
        assert link.outstanding == link.credit == 2
        await first
        await _until_idle(link)

    link = await iris.connect()
    iris.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            Sent(link, call(FLOWER)).cancel()
        assert link.outstanding == 3
    finally:
        iris.process.send_signal(signal.SIGCONT)
    await _until_idle(link)


async def _until_idle(link: Link) -> None:
    async with asyncio.timeout(10):
        while link.outstanding:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- the end ------------------------------------------------------------------------------------


async def test_sigterm_lets_what_computes_finish(saved_model: SavedModel) -> None:
    async with worker(saved_model("slow"), concurrency=2) as found:
        link = await found.connect()
        slow = Sent(link, call({"dataframe_records": [{"seconds": 1.0}]}))
        await ask(link, {"dataframe_records": [{"seconds": 0.0}]})  # so the slow one computes

        found.process.send_signal(signal.SIGTERM)

        answer = await slow
        assert isinstance(answer, Answer)
        assert predictions(answer) == [1.0]
        assert await found.process.wait() == 0
        await link.lost


async def test_sigterm_ends_an_idle_worker_with_fronts(saved_model: SavedModel) -> None:
    async with worker(saved_model("iris")) as found:
        link = await found.connect()

        found.process.send_signal(signal.SIGTERM)

        assert await found.process.wait() == 0
        await link.lost


# --- who may talk, and how ----------------------------------------------------------------------


async def test_only_who_knows_the_secret_is_greeted(iris: WorkerProcess) -> None:
    with pytest.raises(ReplicaLost):
        await UnixConnector().connect(f"unix:{iris.socket}#{'0' * 32}")


@pytest.mark.parametrize("address", ["", "unix:", "unix:/x", "tcp:/x#y", "unix:#secret"])
async def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="unix:PATH#SECRET"):
        await UnixConnector().connect(address)


HELLO = protocol.frame(
    protocol.HELLO, 0, note=json.dumps({"protocol": 1, "secret": SECRET}).encode()
)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(range(64)),
        protocol.frame(protocol.CALL, 1, b"{}"),
        protocol.frame(protocol.HELLO, 0, note=b"{"),
        protocol.frame(protocol.HELLO, 0, note=b"[]"),
        protocol.frame(protocol.HELLO, 0, note=b'{"protocol": 2, "secret": "x"}'),
        protocol.head(protocol.HELLO, 0, body_size=1024 * 1024),
        HELLO + HELLO,
        HELLO + protocol.frame(protocol.ANSWER, 1),
        HELLO + protocol.head(protocol.CALL, 1, body_size=MAX_BODY + protocol.NOTE_ROOM + 1),
        HELLO + protocol.frame(protocol.CALL, 1, note=b"nonsense"),
        HELLO + protocol.frame(protocol.CALL, 1) * 2,
    ],
)
async def test_what_breaks_the_rules_ends_the_connection_and_nothing_else(
    hostile: WorkerProcess, sent: bytes
) -> None:
    link = await hostile.connect()
    reader, writer = await asyncio.open_unix_connection(str(hostile.socket))

    writer.write(sent)

    await reader.read()  # to its end
    assert (await ask(link, do("nothing"))).status == 200
    writer.close()
    link.close()


async def test_a_front_that_does_not_read_holds_up_no_other(iris: WorkerProcess) -> None:
    link = await iris.connect()
    rows = [[5.1, 3.5, 1.4, 0.2]] * 4000
    body = json.dumps({"dataframe_split": {"columns": IRIS, "data": rows}}).encode()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setblocking(False)
        deaf.connect(str(iris.socket))
        deaf.send(HELLO)
        # More calls, and more bytes of answers, than any buffer takes.
        calls = b"".join(protocol.frame(protocol.CALL, id, body, time=60_000) for id in range(200))
        sent = 0
        answers: list[Answer] = []
        while len(answers) < 20:
            with contextlib.suppress(BlockingIOError):
                sent += deaf.send(calls[sent : sent + 65536])
            answers.append(await ask(link, FLOWER))

        assert {answer.status for answer in answers} == {200}
        assert sent > 0
    assert (await ask(link, FLOWER)).status == 200
    link.close()
