"""The open loop against servers that stall, refuse and hang up."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from benchmarks.open_loop import Result, Shot, Target, closed, flow, steady

Handler = Callable[[int], Awaitable[bytes | None]]


def answer(status: int, *, entity: str = "one", body: bytes = b"{}") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nServed-Model-Name: {entity}\r\nContent-Length: {len(body)}"
    return head.lower().replace("http/1.1", "HTTP/1.1").encode() + b"\r\n\r\n" + body


@contextmanager
def server(handler: Handler) -> Iterator[Target]:
    """`handler` gets the number of the request, and gives its answer; None hangs up."""
    ready = threading.Event()
    ports: list[int] = []
    loops: list[asyncio.AbstractEventLoop] = []
    stop = asyncio.Event()

    async def main() -> None:
        numbers = iter(range(1_000_000))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    assert await reader.readexactly(4) == b"body"
                    said = await handler(next(numbers))
                    if said is None:
                        break
                    writer.write(said)
            except asyncio.IncompleteReadError:
                pass
            writer.close()

        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.append(listening.sockets[0].getsockname()[1])
        loops.append(asyncio.get_running_loop())
        ready.set()
        await stop.wait()
        listening.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield Target("127.0.0.1", ports[0], "/any", "body")
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


def test_every_request_is_sent_and_counted_by_its_status_and_entity() -> None:
    async def handler(number: int) -> bytes:
        return answer(429) if number % 4 == 3 else answer(200, entity=f"e{number % 4}")

    with server(handler) as target:
        found = steady(target, rate=200, seconds=0.5)

    assert found.statuses == {200: 75, 429: 25}
    assert found.entities == {"e0": 25, "e1": 25, "e2": 25}
    assert [round((shot.due - found.shots[0].due) * 200) for shot in found.shots] == [*range(100)]


def test_a_stall_is_felt_by_all_that_were_due_meanwhile() -> None:
    """A load that waits for its answers would have seen one slow request."""
    free = asyncio.Event()

    async def handler(number: int) -> bytes:
        if number == 0:
            asyncio.get_running_loop().call_later(0.5, free.set)
        await free.wait()
        return answer(200)

    with server(handler) as target:
        found = steady(target, rate=100, seconds=1.0)

    first = found.shots[0].due
    early = [shot for shot in found.shots if shot.due < first + 0.2]
    assert len(early) == 20
    assert all(shot.latency > 0.25 for shot in early)
    assert found.statuses == {200: 100}


def test_connections_that_break_are_failures_and_the_load_goes_on() -> None:
    async def handler(number: int) -> bytes | None:
        return None if number % 2 else answer(200)

    with server(handler) as target:
        found = steady(target, rate=100, seconds=0.4)

    assert found.statuses == {200: 20, 0: 20}
    assert len(found.failed) == 20


def test_nobody_listens() -> None:
    async def handler(number: int) -> bytes:
        return answer(200)

    with server(handler) as target:
        pass
    found = steady(target, rate=50, seconds=0.2)

    assert found.statuses == {0: 10}
    assert found.per_second() == 0.0


def test_a_flow_ends_with_its_block() -> None:
    enough = threading.Event()

    async def handler(number: int) -> bytes:
        if number >= 20:
            enough.set()
        return answer(200, body=b"x" * 100_000)

    with server(handler) as target, flow(target, rate=100, limit=60) as found:
        assert enough.wait(30)

    assert 20 < len(found.result.shots) < 5000
    assert set(found.result.statuses) == {200}


def test_a_closed_loop_holds_as_many_requests_as_connections() -> None:
    held, most = 0, 0

    async def handler(number: int) -> bytes:
        nonlocal held, most
        held += 1
        most = max(most, held)
        await asyncio.sleep(0.02)
        held -= 1
        return answer(200)

    with server(handler) as target:
        found = closed(target, connections=3, seconds=0.4)

    assert most == 3
    assert set(found.statuses) == {200}
    assert len(found.shots) >= 3


def test_a_load_that_was_late_itself_says_so() -> None:
    on_time = [Shot(n, n + 0.001, n + 0.01, 200, "") for n in range(99)]
    late = Shot(99.0, 99.5, 99.51, 200, "")

    assert Result([*on_time, late]).kept_up
    assert not Result([*on_time[1:], late, late]).kept_up
    summary = Result([late]).summary()
    assert (summary["p50"], summary["lag_max"], summary["kept_up"]) == (510.0, 500.0, False)
