"""The front of a server started for tests: records each call, and lets it meet its fault.

It stands before `Front`, which knows nothing of it, and only with the setting `faults`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from lakeport.auth.callers import Caller
from lakeport.errors import ApiError, DeadlineExceeded, InvalidState, Unavailable
from lakeport.serving.asking import Task
from lakeport.serving.calls import Calls, Recorded
from lakeport.serving.deployment import TIMED_OUT
from lakeport.serving.faults import WAKE, Fault, Faults, error
from lakeport.serving.invoke import Front
from lakeport.serving.ports import (
    Asked,
    CutReply,
    Done,
    EventStream,
    Invocation,
    Reply,
    StreamReply,
)
from lakeport.wire.workbench import FaultKind, FaultOn


class Cut(Exception):
    """The connection is to break, with no answer at all."""


#: An answer that broke off where nothing marks it.
BROKEN_JSON = b'{"predictions": [0.1, '


class FaultyFront:
    """An `InvokePort` before a front."""

    def __init__(
        self,
        front: Front,
        faults: Faults,
        calls: Calls,
        *,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout`: seconds of a TIMEOUT fault that does not say."""
        self._front = front
        self._faults = faults
        self._calls = calls
        self._timeout = timeout
        self._clock = clock

    def queryable(self, caller: Caller) -> list[str]:
        return self._front.queryable(caller)

    def begin(self, caller: Caller, invocation: Invocation, done: Done) -> Asked:
        return Task(self.invoke(caller, invocation), done)

    async def invoke(
        self, caller: Caller, invocation: Invocation
    ) -> Reply | StreamReply | CutReply:
        """As `Front.invoke`, unless a fault has it otherwise. Raises ApiError."""
        began = self._clock()
        call = self._calls.begin(caller.name, invocation)

        def ended(status: int | None) -> None:
            call.status = status
            call.seconds = self._clock() - began

        try:
            reply = await self._answered(caller, invocation, call)
        except ApiError as refusal:
            call.served_entity = refusal.served_entity
            ended(refusal.status)
            raise
        except asyncio.CancelledError:
            ended(499)
            raise
        except Exception:
            ended(500)
            raise
        answer = reply.reply if isinstance(reply, CutReply) else reply
        if answer is not None:
            call.served_entity = answer.served_entity
        if isinstance(answer, StreamReply):
            call.stream = True
            call.status = 200
            answer.events = _Ending(answer.events, ended)
        else:
            ended(None if answer is None else answer.status)
        return reply

    async def _answered(
        self, caller: Caller, invocation: Invocation, call: Recorded
    ) -> Reply | StreamReply | CutReply:
        route = self._front.seen(caller, invocation.endpoint)
        if route is None:  # refused; nothing of ours to be met
            return await self._front.invoke(caller, invocation)
        state = self._faults.state(invocation.endpoint, shown=False)
        if state is not None and state.ready == "NOT_READY":
            raise _not_ready(state)
        met = self._faults.meet(invocation.endpoint, FaultOn.INVOCATIONS)
        if met is None:
            return await self._front.invoke(caller, invocation)
        call.fault = met.id
        fault = met.fault
        match fault.kind:
            case FaultKind.BAD_JSON:
                entity = route.shares[0].entity if route.shares else ""
                return Reply(200, BROKEN_JSON, "application/json", entity)
            case FaultKind.CUT:
                if fault.after is None:
                    return CutReply(None)
                return _cut(await self._front.invoke(caller, invocation), fault.after)
        await meet(fault, timeout=self._timeout)
        return await self._front.invoke(caller, invocation)


async def meet(fault: Fault, *, timeout: float) -> None:
    """What a STATUS, SLOW, WAKE or TIMEOUT fault does to a call before its answer. Raises ApiError.

    `timeout`: seconds of a TIMEOUT fault that does not say.
    """
    match fault.kind:
        case FaultKind.STATUS:
            raise error(fault)
        case FaultKind.SLOW:
            await asyncio.sleep(fault.seconds or 0)
        case FaultKind.WAKE:
            await asyncio.sleep(WAKE if fault.seconds is None else fault.seconds)
        case FaultKind.TIMEOUT:
            seconds = timeout if fault.seconds is None else fault.seconds
            await asyncio.sleep(seconds)
            raise DeadlineExceeded(TIMED_OUT.format(limit=seconds))


def _cut(reply: Reply | StreamReply, after: int) -> CutReply:
    if isinstance(reply, StreamReply):
        reply = replace(reply, events=_First(reply.events, after))
    return CutReply(reply, after)


def _not_ready(state: Fault) -> ApiError:
    name = state.endpoint
    if state.config_update == "UPDATE_FAILED":
        return InvalidState(
            f"The serving endpoint '{name}' cannot serve: its config failed to deploy."
        )
    return Unavailable(
        f"The serving endpoint '{name}' is not ready yet: its config is being deployed. Try again "
        "shortly.",
        retry_after=1,
    )


class _Events:
    """Events that pass through. Classes and not generators: see `serving/events.py`."""

    def __init__(self, events: EventStream) -> None:
        self._events = events

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._events)

    def push(self, take: Callable[[bytes | None], bool]) -> bool:
        return False

    def close(self) -> None:
        self._events.close()


class _Ending(_Events):
    """Tells when they have ended."""

    def __init__(self, events: EventStream, ended: Callable[[int | None], None]) -> None:
        super().__init__(events)
        self._ended = ended

    async def __anext__(self) -> bytes:
        try:
            return await super().__anext__()
        except StopAsyncIteration:  # before the caller has read the end, who may ask at once
            self._end()
            raise

    def close(self) -> None:
        self._end()
        super().close()

    def _end(self) -> None:
        ended, self._ended = self._ended, lambda status: None
        ended(200)


class _First(_Events):
    """The first few of them."""

    def __init__(self, events: EventStream, count: int) -> None:
        super().__init__(events)
        self._left = count

    async def __anext__(self) -> bytes:
        if self._left == 0:
            raise StopAsyncIteration
        self._left -= 1
        return await super().__anext__()
