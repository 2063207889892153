"""A stream whose events go to the client as they come: to wake a task for each costs more than all
else that an event costs."""

import asyncio
from collections.abc import Callable

from starlette.types import Scope, Send

from lakeport.serving.ports import EventStream

#: Where a request's scope has, in `state`, a function that writes a piece of a body at once and
#: says whether the client keeps up.
WRITE = "lakeport.write"


async def push(
    scope: Scope, send: Send, events: EventStream, framed: Callable[[bytes], bytes]
) -> bytes | None:
    """Send all events, each as `framed` makes of it, between a response's start and its end.

    Returns the last one; None where nothing was sent, since only iterating will do.
    """
    write: Callable[[bytes], bool] | None = scope.get("state", {}).get(WRITE)
    if write is None:
        return None
    loop = asyncio.get_running_loop()
    last, ended = b"", False
    turn: asyncio.Future[None] = loop.create_future()

    def take(event: bytes | None) -> bool:
        nonlocal last, ended
        if event is None:
            ended = True
        else:
            last = event
            if write(framed(event)):
                return True
        if not turn.done():
            turn.set_result(None)
        return False

    while events.push(take):
        await turn
        if ended:
            return last
        # The client takes its time, and `send` returns once it can take more; or it has gone, which
        # cancels this task in the next turn of the loop.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await asyncio.sleep(0)
        turn = loop.create_future()
    return None
