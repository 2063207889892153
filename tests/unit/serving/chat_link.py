"""A link on the OpenAI wire that keeps the contract and does as it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable

from lakeport.auth.callers import USERS, AccessList, Caller, Level
from lakeport.runtimes.base import Answer, Call, Take, Taken
from lakeport.serving.deployment import QueueLimits
from lakeport.serving.invoke import Front
from lakeport.serving.ports import Invocation
from lakeport.serving.routes import Condition, EndpointRoute, Share
from lakeport.telemetry.metrics import Metrics
from lakeport.telemetry.traces import Tracer
from lakeport.wire.chat import ChatTarget

ANN = Caller("2", "ann", frozenset({USERS}))


class Words:
    """A stream of what is put into it: documents, an exception that it raises, None for its end."""

    def __init__(self, *said: bytes | Exception | None) -> None:
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.closed = False
        self.on_end: Callable[[], None] = lambda: None
        self.say(*said)

    def say(self, *said: bytes | Exception | None) -> None:
        for item in said:
            self._queue.put_nowait(item)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, Exception):
                self.close()
                raise item
            yield item
        self.close()

    def push(self, take: Take) -> bool:
        return False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.on_end()


class ChatLink:
    """Answers each call with what `respond` says; None: it never answers."""

    def __init__(self, respond: Callable[[Call], "Answer | Words | None"], credit: int) -> None:
        self.credit = credit
        self.outstanding = 0
        self.calls: list[Call] = []
        self.cancelled = asyncio.Event()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._respond = respond

    def send(self, call: Call, taken: Taken) -> "Sent":
        self.calls.append(call)
        self.outstanding += 1
        sent = Sent(self, taken)
        result = self._respond(call)
        if isinstance(result, Words):
            result.on_end = self._ended
        if result is not None:
            asyncio.get_running_loop().call_soon(sent.give, result)
        return sent

    def _ended(self) -> None:
        self.outstanding -= 1

    def close(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


class Sent:
    """A call that the link holds."""

    def __init__(self, link: ChatLink, taken: Taken) -> None:
        self._link = link
        self._taken: Taken | None = taken

    def give(self, result: "Answer | Words") -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            if not isinstance(result, Words):
                self._link._ended()
            taken(result)

    def cancel(self) -> bool:
        if self._taken is not None:
            self._taken = None
            self._link._ended()
            self._link.cancelled.set()
        return False


class ChatConnector:
    def __init__(self, respond: Callable[[Call], "Answer | Words | None"], credit: int) -> None:
        self.links: list[ChatLink] = []
        self.called = asyncio.Event()
        self._respond = respond
        self._credit = credit

    async def connect(self, address: str) -> ChatLink:
        self.links.append(ChatLink(self._answer, self._credit))
        return self.links[-1]

    def _answer(self, call: Call) -> "Answer | Words | None":
        self.called.set()
        return self._respond(call)


class Workplace:
    """A front with one endpoint, "chat", whose one replica answers as `respond` says."""

    def __init__(
        self,
        respond: Callable[[Call], "Answer | Words | None"],
        target: ChatTarget | None,
        *,
        credit: int = 8,
        tracer: Tracer | None = None,
    ) -> None:
        self._connector = ChatConnector(respond, credit)
        self.metrics = Metrics()
        limits = QueueLimits(requests=1000, bytes=1 << 20, ready_wait=5, timeout=30)
        self.front = Front(self._connector, limits, self.metrics, max_body=100_000, tracer=tracer)
        self._target = target
        self.front.publish({"chat": self.route(Level.CAN_QUERY)})
        self.front.set_replicas("d1", {"r1": "there"})

    def route(self, level: Level) -> EndpointRoute:
        """The endpoint's, with `level` for every user."""
        access = AccessList(groups={USERS: level})
        share = Share("entity", "d1", 100, self._target)
        return EndpointRoute("chat", Condition.SERVING, access, (share,))

    @property
    def link(self) -> ChatLink:
        return self._connector.links[0]

    async def called(self) -> None:
        """Returns once a call has reached the replica."""
        await self._connector.called.wait()


def ask(body: bytes, **fields: object) -> Invocation:
    values: dict[str, object] = {
        "endpoint": "chat",
        "entity": None,
        "body": body,
        "content_type": "application/json",
        "content_encoding": None,
        "request_id": "r",
    }
    return Invocation(**values | fields)  # type: ignore[arg-type]
