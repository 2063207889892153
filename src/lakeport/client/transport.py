"""What drives flows over HTTP: one driver that blocks, and one for event loops.

httpcore, the engine of httpx2, is used as it is: one request is one request. No redirect is
followed, no cookie kept, nothing is sent again that a flow does not send again.
"""

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpcore2

from lakeport.client import exchange
from lakeport.client.config import Auth, Config, signed
from lakeport.client.errors import LakeportError
from lakeport.client.exchange import Target
from lakeport.client.flow import Flow, Request, Response, Sleep, Step, Work
from lakeport.client.network import Watch
from lakeport.client.pools import Pools, open_async_pool, open_pool, process, running_loop

T = TypeVar("T")

#: Seconds that the rest of a stream gets after its last event, so that its connection may be used
#: again.
_DRAIN = 0.5
#: What httpcore raises of a connection.
_BROKEN = (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError)


class Transport:
    """Runs flows in the calling thread. For many threads."""

    def __init__(
        self, config: Config, *, timeout: float, connect_timeout: float, connections: int
    ) -> None:
        """Raises ConfigError when the certificates or the proxy cannot be used."""
        self._target = Target(config.host)
        self._auth = config.auth
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._pools = Pools(open_pool, connections, process)
        self._pools.to(config.host)

    def with_auth(self, auth: Auth) -> "Transport":
        """The same connections for somebody else."""
        other = object.__new__(Transport)
        other.__dict__.update(self.__dict__)
        other._auth = auth
        return other

    def close(self) -> None:
        for pool in self._pools.take():
            pool.close()

    def run(self, flow: Flow[T]) -> T:
        """What the flow returns. Raises what it raises."""
        try:
            step = next(flow)
            while True:
                try:
                    result = self._do(step)
                except LakeportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            flow.close()

    def _do(self, step: Step) -> Any:
        if isinstance(step, Request):
            return self._send(step)
        if isinstance(step, Sleep):
            return time.sleep(step.seconds)
        return step.function()

    def _send(self, request: Request) -> Response:
        target = self._target if request.origin is None else Target(request.origin)
        pool = self._pools.to(target.origin)
        signs = self._auth.headers() if request.origin is None else {}
        seconds = self._timeout if request.timeout is None else request.timeout
        watch = Watch(seconds, self._connect_timeout)
        message = target.message(request, signs, watch)
        try:
            answer = pool.handle_request(message)
        except Exception as error:
            raise exchange.failure(error, request, watch, target.origin) from error
        opened = Opened(answer, watch, request, seconds, target.origin)
        if request.stream and answer.status == 200:
            return Response(answer.status, opened.headers, b"", stream=opened)
        return Response(answer.status, opened.headers, opened.rest())


class Opened:
    """An answer whose body is still to be read."""

    def __init__(
        self,
        answer: httpcore2.Response,
        watch: Watch,
        request: Request,
        seconds: float,
        origin: str,
    ) -> None:
        self.headers = exchange.headers_of(answer)
        self._answer = answer
        self._pieces: Iterator[bytes] = answer.iter_stream()
        self._watch = watch
        self._request = request
        self._seconds = seconds
        self._origin = origin
        self._inflate = exchange.inflater(self.headers)

    def restart(self) -> None:
        """The time for the next event begins."""
        self._watch.restart(self._seconds)

    def read(self) -> bytes | None:
        """Some bytes; None at the end. Raises TimedOut, ConnectionFailed, BadAnswer."""
        try:
            piece = next(self._pieces, None)
            return None if piece is None else self._inflate(piece)
        except Exception as error:
            self.close()
            raise exchange.failure(error, self._request, self._watch, self._origin) from error

    def rest(self) -> bytes:
        """All that is left."""
        pieces = []
        try:
            while (piece := self.read()) is not None:
                pieces.append(piece)
        finally:
            self.close()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def drain(self) -> None:
        """Give the connection back if the answer ends at once; else hang up."""
        self._watch.restart(_DRAIN)
        with suppress(*_BROKEN):
            next(self._pieces, None)
        self.close()

    def close(self) -> None:
        """Hang up, unless all was read."""
        self._answer.close()


class AsyncTransport:
    """Runs flows on the running event loop: asyncio's, or trio's."""

    def __init__(
        self, config: Config, *, timeout: float, connect_timeout: float, connections: int
    ) -> None:
        """Raises ConfigError when the certificates or the proxy cannot be used."""
        self._target = Target(config.host)
        self._auth = config.auth
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._pools = Pools(open_async_pool, connections, running_loop)
        self._pools.to(config.host)

    def with_auth(self, auth: Auth) -> "AsyncTransport":
        """The same connections for somebody else."""
        other = object.__new__(AsyncTransport)
        other.__dict__.update(self.__dict__)
        other._auth = auth
        return other

    async def close(self) -> None:
        for pool in self._pools.take():
            await pool.aclose()

    async def run(self, flow: Flow[T]) -> T:
        """What the flow returns. Raises what it raises."""
        try:
            step = next(flow)
            while True:
                try:
                    result = await self._do(step)
                except LakeportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            flow.close()

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Request):
            return await self._send(step)
        if isinstance(step, Work):
            return await anyio.to_thread.run_sync(step.function)
        return await anyio.sleep(step.seconds)

    async def _signs(self) -> Any:
        if self._auth.ask is None:
            return self._auth.fixed
        if self._auth.waits:
            return signed(await self._auth.ask())
        return await anyio.to_thread.run_sync(self._auth.headers)  # it may sign in over HTTP

    async def _send(self, request: Request) -> Response:
        target = self._target if request.origin is None else Target(request.origin)
        pool = self._pools.to(target.origin)
        signs = await self._signs() if request.origin is None else {}
        seconds = self._timeout if request.timeout is None else request.timeout
        watch = Watch(seconds, self._connect_timeout)
        message = target.message(request, signs, watch)
        try:
            answer = await pool.handle_async_request(message)
        except Exception as error:
            raise exchange.failure(error, request, watch, target.origin) from error
        opened = AsyncOpened(answer, watch, request, seconds, target.origin)
        if request.stream and answer.status == 200:
            return Response(answer.status, opened.headers, b"", stream=opened)
        return Response(answer.status, opened.headers, await opened.rest())


class AsyncOpened:
    """An answer whose body is still to be read."""

    def __init__(
        self,
        answer: httpcore2.Response,
        watch: Watch,
        request: Request,
        seconds: float,
        origin: str,
    ) -> None:
        self.headers = exchange.headers_of(answer)
        self._answer = answer
        self._pieces: AsyncGenerator[bytes] = answer.aiter_stream()
        self._watch = watch
        self._request = request
        self._seconds = seconds
        self._origin = origin
        self._inflate = exchange.inflater(self.headers)

    def restart(self) -> None:
        """The time for the next event begins."""
        self._watch.restart(self._seconds)

    async def read(self) -> bytes | None:
        """Some bytes; None at the end. Raises TimedOut, ConnectionFailed, BadAnswer."""
        try:
            piece = await anext(self._pieces, None)
            return None if piece is None else self._inflate(piece)
        except Exception as error:
            await self.close()
            raise exchange.failure(error, self._request, self._watch, self._origin) from error

    async def rest(self) -> bytes:
        """All that is left."""
        pieces = []
        try:
            while (piece := await self.read()) is not None:
                pieces.append(piece)
        finally:
            await self.close()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def drain(self) -> None:
        """Give the connection back if the answer ends at once; else hang up."""
        self._watch.restart(_DRAIN)
        with suppress(*_BROKEN):
            await anext(self._pieces, None)
        await self.close()

    async def close(self) -> None:
        """Hang up, unless all was read."""
        with anyio.CancelScope(shield=True):
            with suppress(RuntimeError):  # another task reads: closing ends that too
                await self._pieces.aclose()
            await self._answer.aclose()
