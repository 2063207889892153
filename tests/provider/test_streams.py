"""Streams through a link: whole and in order, honest when they fail, and gone when nobody reads."""

import asyncio
import gc
import json
import tracemalloc
from collections.abc import Callable

import pytest

from lakeport.providers.openai import OpenAILink
from lakeport.runtimes.base import ReplicaLost, StreamFailed
from tests.provider.client import (
    KEY,
    answer_of,
    call,
    linked,
    problem,
    stream_of,
    taken,
    words,
)
from tests.provider.provider import Asked, Out, chunk, closes_without_a_word, running
from tests.sending import Sent


async def failing(link: OpenAILink) -> tuple[int, StreamFailed]:
    """How many events came before the stream failed, and how it did."""
    stream = await stream_of(link, call(stream=True))
    count = 0

    async def take() -> None:
        nonlocal count
        async for _ in stream:
            count += 1

    with pytest.raises(StreamFailed) as caught:
        await take()
    assert link.outstanding == 0
    assert KEY not in caught.value.message
    return count, caught.value


async def test_a_stream_comes_whole_and_in_order() -> None:
    async with running() as provider, linked(provider.url) as link:
        stream = await stream_of(link, call({"max_tokens": 500}, stream=True))
        assert link.outstanding == 1
        events = await taken(stream)
        assert words(events) == "".join(f"w{n} " for n in range(500))
        assert events[-1]["choices"][0]["finish_reason"] == "stop"
        assert link.outstanding == 0
        asked = provider.asked[0]
        assert asked.path == "/v1/chat/completions"
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert asked.headers["accept-encoding"] == "identity"
        assert await anext(aiter(stream), None) is None


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_a_stream_that_comes_byte_by_byte(end: str) -> None:
    text = "".join(
        f"data: {json.dumps(chunk(word), ensure_ascii=False)}{end}{end}"
        for word in ("Grüße ", "日本")
    )
    last = json.dumps(chunk(finish="stop"))
    text = f"\ufeff: hello{end}event: message{end}id: 3{end}{text}data:{last}{end}{end}"
    data = f"{text}data: [DONE]{end}{end}".encode()

    async def by_bytes(asked: Asked, out: Out) -> None:
        await out.begin()
        for position in range(len(data)):
            await out.piece(data[position : position + 1])
            if position % 7 == 0:
                await asyncio.sleep(0)
        await out.end(done=False)

    async with running(by_bytes) as provider, linked(provider.url) as link:
        events = await taken(await stream_of(link, call(stream=True)))
    assert words(events) == "Grüße 日本"


async def test_an_event_of_several_lines_is_one_line_for_us() -> None:
    async def spread(asked: Asked, out: Out) -> None:
        await out.begin()
        lines = json.dumps(chunk("two words", finish="stop"), indent=1).split("\n")
        await out.piece("".join(f"data: {line}\n" for line in lines).encode() + b"\n")
        await out.end()

    async with running(spread) as provider, linked(provider.url) as link:
        [event] = [event async for event in await stream_of(link, call(stream=True))]
    assert b"\n" not in event
    assert json.loads(event) == chunk("two words", finish="stop")


# --- ends -----------------------------------------------------------------------------------------


async def test_an_end_without_done_after_the_finish_reason_is_whole() -> None:
    async def no_done(asked: Asked, out: Out) -> None:
        await out.begin(chunked=False)
        await out.event(chunk("Hi"))
        await out.event(chunk(finish="length"))

    async with running(no_done) as provider, linked(provider.url) as link:
        assert words(await taken(await stream_of(link, call(stream=True)))) == "Hi"
        assert link.outstanding == 0


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_end_without_done_and_finish_reason_is_a_cut(chunked: bool) -> None:
    async def cut_short(asked: Asked, out: Out) -> None:
        await out.begin(chunked=chunked)
        await out.event(chunk("Hi", index=0))
        await out.event(chunk("Ho", index=1))
        await out.event(chunk(finish="stop", index=1))
        await out.end(done=False)

    async with running(cut_short) as provider, linked(provider.url) as link:
        count, failure = await failing(link)
    assert count == 3
    assert failure.error_code == "BAD_GATEWAY"
    assert "broke off" in failure.message


async def test_a_reset_in_mid_stream_fails_it() -> None:
    async def reset(asked: Asked, out: Out) -> None:
        await out.begin()
        await out.event(chunk("Hi"))
        await asyncio.sleep(0.05)
        out.reset()

    async with running(reset) as provider, linked(provider.url) as link:
        count, failure = await failing(link)
        assert (count, failure.error_code) == (1, "BAD_GATEWAY")
        assert len(provider.asked) == 1, "an answer that had begun is not asked for again"


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": f"overloaded, key {KEY} at http://10.0.0.7:80/x", "code": 500}},
        {"error": "overloaded"},
        {"object": "error", "message": "overloaded", "code": 400},
        {"error": {"error_code": "INTERNAL_ERROR", "message": "overloaded"}},
    ],
)
async def test_an_error_event_fails_a_stream(error: object) -> None:
    async def broken(asked: Asked, out: Out) -> None:
        await out.begin()
        await out.event(chunk("Hi"))
        await out.event(error)
        await out.end()

    async with running(broken) as provider, linked(provider.url) as link:
        count, failure = await failing(link)
    assert count == 1
    assert "failed in mid-stream: overloaded" in failure.message
    assert "10.0.0.7" not in failure.message


@pytest.mark.parametrize("event", [b"{not json", b"[1, 2]", b'"text"'])
async def test_an_event_that_is_no_object_fails_a_stream(event: bytes) -> None:
    async def garbled(asked: Asked, out: Out) -> None:
        await out.begin()
        await out.event(chunk("Hi"))
        await out.event(event)
        await out.end()

    async with running(garbled) as provider, linked(provider.url) as link:
        count, failure = await failing(link)
    assert (count, failure.error_code) == (1, "BAD_GATEWAY")
    assert "not JSON" in failure.message


async def test_an_event_without_an_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakeport.providers.stream.MAX_EVENT", 2**20)

    async def endless(asked: Asked, out: Out) -> None:
        await out.begin()
        await out.event(chunk("Hi"))
        await out.piece(b"data: ")
        while True:
            await out.piece(b"x" * 10_000)

    async with running(endless) as provider, linked(provider.url) as link:
        _, failure = await failing(link)
        await provider.until_open(0)
    assert "more than 1 MiB" in failure.message


# --- before the first event -----------------------------------------------------------------------


async def _first_error(asked: Asked, out: Out) -> None:
    await out.begin()
    await out.event({"error": {"message": "too many", "type": "rate_limit", "code": 429}})
    await out.end()


async def test_an_error_as_first_event_is_an_honest_status() -> None:
    async with running(_first_error) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call(stream=True))
    assert (answer.status, answer.error) == (429, None)
    assert json.loads(answer.body)["error"] == {
        "message": "too many",
        "type": "rate_limit",
        "code": 429,
    }


async def _error_without_status(asked: Asked, out: Out) -> None:
    await out.begin()
    await out.event({"error": {"message": "no"}})


async def _only_done(asked: Asked, out: Out) -> None:
    await out.begin()
    await out.end()


async def _nothing(asked: Asked, out: Out) -> None:
    await out.begin()
    await out.end(done=False)


async def _cut_at_once(asked: Asked, out: Out) -> None:
    await out.begin()
    out.reset()


async def _not_json_first(asked: Asked, out: Out) -> None:
    await out.begin()
    await out.event(b"<html>")


async def _whole_instead(asked: Asked, out: Out) -> None:
    await out.whole({"object": "chat.completion", "choices": []})


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (_error_without_status, "failed: no"),
        (_only_done, "before it had begun"),
        (_nothing, "before it had begun"),
        (_cut_at_once, "broke off"),
        (_not_json_first, "not JSON"),
        (_whole_instead, "whole answer although a stream was asked for"),
    ],
)
async def test_a_failure_before_the_first_event_has_a_status(
    behaviour: Callable[[Asked, Out], object], said: str
) -> None:
    async with running(behaviour) as provider, linked(provider.url) as link:  # type: ignore[arg-type]
        answer = await answer_of(link, call(stream=True))
        assert answer.status == 502
        assert said in problem(answer)
        assert link.outstanding == 0
        answer = await answer_of(link, call(stream=True))  # over what connection ever
        assert said in problem(answer)


# --- time limits ----------------------------------------------------------------------------------


async def _silent_after_one(asked: Asked, out: Out) -> None:
    await out.begin()
    await out.event(chunk("Hi"))
    await asyncio.sleep(60)


async def test_silence_in_mid_stream_ends_it() -> None:
    async with (
        running(_silent_after_one) as provider,
        linked(provider.url, idle_timeout=0.2) as link,
    ):
        count, failure = await failing(link)
        await provider.until_open(0)
    assert (count, failure.error_code) == (1, "DEADLINE_EXCEEDED")
    assert "sent nothing for 0.2 seconds" in failure.message


async def test_the_deadline_ends_a_stream_that_drips() -> None:
    async def drip(asked: Asked, out: Out) -> None:
        await out.begin()
        while True:
            await out.event(chunk("x"))
            await asyncio.sleep(0.02)

    async with running(drip) as provider, linked(provider.url) as link:
        stream = await stream_of(link, call(stream=True, seconds=1.5))
        with pytest.raises(StreamFailed, match="time limit") as caught:
            await taken(stream)
        await provider.until_open(0)
    assert caught.value.error_code == "DEADLINE_EXCEEDED"


async def test_a_caller_who_is_slow_is_not_taken_for_a_silent_server() -> None:
    async with running() as provider, linked(provider.url, idle_timeout=0.5) as link:
        stream = await stream_of(link, call({"max_tokens": 2}, stream=True))
        events = []
        async for event in stream:
            events.append(json.loads(event))
            await asyncio.sleep(0.7)
    assert words(events) == "w0 w1 "


# --- whoever hangs up -----------------------------------------------------------------------------


async def test_closing_a_stream_closes_the_connection() -> None:
    async with running(_silent_after_one) as provider, linked(provider.url) as link:
        stream = await stream_of(link, call(stream=True))
        assert provider.open == 1
        stream.close()
        stream.close()
        assert link.outstanding == 0
        await provider.until_open(0)
        assert await taken(stream) == []


async def test_closing_a_stream_ends_who_waits_for_it() -> None:
    async with running(_silent_after_one) as provider, linked(provider.url) as link:
        stream = await stream_of(link, call(stream=True))
        taking = asyncio.create_task(taken(stream))
        await asyncio.sleep(0.02)
        stream.close()
        assert len(await taking) == 1
        await provider.until_open(0)


async def test_a_stream_that_is_dropped_closes_itself() -> None:
    async with running(_silent_after_one) as provider, linked(provider.url) as link:
        stream = await stream_of(link, call(stream=True))
        del stream
        gc.collect()
        await provider.until_open(0)
        assert link.outstanding == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_cancelling_a_call_closes_the_connection(stream: bool) -> None:
    async def silent(asked: Asked, out: Out) -> None:
        await asyncio.sleep(60)

    async with running(silent) as provider, linked(provider.url) as link:
        future = Sent(link, call(stream=stream))
        await provider.until_asked()
        assert link.outstanding == 1
        future.cancel()
        assert link.outstanding == 0
        await provider.until_open(0)
        with pytest.raises(asyncio.CancelledError):
            await future


async def test_a_call_cancelled_at_any_moment_leaves_nothing_behind() -> None:
    async with running() as provider, linked(provider.url) as link:
        for turns in range(60):
            future = Sent(link, call(stream=turns % 2 == 0))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not future.cancel():
                result = future.result()
                if hasattr(result, "close"):
                    result.close()
            assert link.outstanding == 0
        answer = await answer_of(link, call())
        assert answer.status == 200


async def test_closing_a_link_fails_what_it_holds() -> None:
    async with running(_silent_after_one) as provider, linked(provider.url) as link:
        stream = await stream_of(link, call(stream=True))
        pending = Sent(link, call())
        link.close()
        assert link.lost.done()
        with pytest.raises(ReplicaLost):
            await pending
        with pytest.raises(ReplicaLost):
            await taken(stream)
        with pytest.raises(ReplicaLost):
            await Sent(link, call())
        assert link.outstanding == 0
        await provider.until_open(0)


# --- many -----------------------------------------------------------------------------------------


async def test_200_streams_one_after_another_at_a_server_thatcloses_without_a_word() -> None:
    async with running(closes_without_a_word) as provider, linked(provider.url) as link:
        for _ in range(200):
            events = await taken(await stream_of(link, call(stream=True)))
            assert words(events) == "Hi"
        assert len({asked.connection for asked in provider.asked}) == len(provider.asked)


async def test_200_streams_at_once_are_whole_and_in_order() -> None:
    async with running() as provider, linked(provider.url) as link:

        async def one() -> str:
            return words(await taken(await stream_of(link, call({"max_tokens": 100}, stream=True))))

        got = await asyncio.gather(*(one() for _ in range(200)))
        assert link.outstanding == 0
    assert set(got) == {"".join(f"w{n} " for n in range(100))}


async def test_a_connection_is_used_again_after_a_stream_that_is_whole() -> None:
    async def late_end(asked: Asked, out: Out) -> None:
        await out.begin()
        await out.event(chunk(finish="stop"))
        await out.piece(b"data: [DONE]\n\n")
        await asyncio.sleep(0.05)  # the body's end comes apart
        await out.raw(b"0\r\n\r\n")

    async with running(late_end) as provider, linked(provider.url) as link:
        for _ in range(5):
            await taken(await stream_of(link, call(stream=True)))
            await asyncio.gather(*link._draining)
        assert provider.connections == 1


async def test_a_slow_reader_bounds_what_is_read_ahead() -> None:
    sent = 0

    async def flood(asked: Asked, out: Out) -> None:
        nonlocal sent
        await out.begin()
        while True:
            await out.event(chunk("x" * 10_000))
            sent += 10_000

    async with running(flood) as provider, linked(provider.url, idle_timeout=60) as link:
        tracemalloc.start()
        try:
            stream = await stream_of(link, call(stream=True, seconds=60))
            before = -1
            while sent != before:  # until the server cannot send more
                before = sent
                await asyncio.sleep(0.2)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 2_000_000
        stream.close()
        await provider.until_open(0)
    assert sent < 20_000_000, "sockets hold a few megabytes at most"
