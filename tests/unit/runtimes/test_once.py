"""Work that several want is done once."""

import asyncio

import pytest

from lakeport.runtimes.local.once import Once, Say


async def test_all_who_ask_share_one_run_and_hear_all_of_it() -> None:
    once: Once[int] = Once()
    begun, go = asyncio.Event(), asyncio.Event()
    runs = 0
    heard: tuple[list[str], list[str]] = ([], [])

    async def work(say: Say) -> int:
        nonlocal runs
        runs += 1
        say("begun")
        begun.set()
        await go.wait()
        say("done")
        return 42

    first = asyncio.ensure_future(once.run("k", work, heard[0].append))
    await begun.wait()
    second = asyncio.ensure_future(once.run("k", work, heard[1].append))
    await asyncio.sleep(0)
    go.set()

    assert [await first, await second] == [42, 42]
    assert runs == 1
    assert heard == (["begun", "done"], ["begun", "done"])


async def test_a_failure_is_everybodys_and_the_next_try_is_fresh() -> None:
    once: Once[int] = Once()
    runs = 0

    async def work(_: Say) -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("no")
        return runs

    async def ask() -> int:
        return await once.run("k", work, print)

    failed = await asyncio.gather(ask(), ask(), return_exceptions=True)

    assert [type(error) for error in failed] == [ValueError, ValueError]
    assert await ask() == 2


async def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    once: Once[int] = Once()
    go = asyncio.Event()

    async def work(_: Say) -> int:
        await go.wait()
        return 1

    leaver = asyncio.ensure_future(once.run("k", work, print))
    stayer = asyncio.ensure_future(once.run("k", work, print))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.wait([leaver])
    go.set()

    assert await stayer == 1


async def test_work_that_nobody_wants_is_cancelled_before_it_can_begin_anew() -> None:
    once: Once[str] = Once()
    order: list[str] = []
    begun = asyncio.Event()

    async def slow_to_end(_: Say) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            order.append("ended")
        return ""

    async def next_one(_: Say) -> str:
        order.append("begun")
        return "next"

    first = asyncio.ensure_future(once.run("k", slow_to_end, print))
    await begun.wait()
    first.cancel()
    await asyncio.sleep(0)

    assert await once.run("k", next_one, print) == "next"
    assert order == ["ended", "begun"]


async def test_close_ends_all_work() -> None:
    once: Once[int] = Once()

    async def work(_: Say) -> int:
        await asyncio.Event().wait()
        return 1

    waiting = asyncio.ensure_future(once.run("k", work, print))
    await asyncio.sleep(0)

    await once.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting
