"""Whom the router asks through: the app's own client, or one for each caller."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import HTTPException, Request

from lakeport.client.async_client import AsyncClient
from lakeport.client.errors import ConfigError
from lakeport.client.retry import Retry

T = TypeVar("T")

#: Callers whose clients are kept, with pass-through: each has the details it may see.
_CALLERS = 256
#: Connections of a client that the router makes, at least.
_CONNECTIONS = 100
#: nginx's word for a caller who left; nobody reads it but the access log.
_GONE = 499


class Clients:
    """What the routes share: the client, its life, and how many requests run."""

    def __init__(
        self,
        given: AsyncClient | None,
        pass_token: bool,
        concurrency: int,
        timeout: float,
        retry: Retry,
    ) -> None:
        self._given = given
        self._pass_token = pass_token
        self._concurrency = concurrency
        #: Of every query.
        self.options: dict[str, Any] = {"timeout": timeout, "retry": retry}
        self._made: AsyncClient | None = None
        self._callers: OrderedDict[str, AsyncClient] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots = asyncio.Semaphore(concurrency)
        self._making = asyncio.Lock()

    @asynccontextmanager
    async def lifespan(self, _app: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._callers.clear()
            made, self._made = self._made, None
            if made is not None:
                await made.close()

    @property
    def slots(self) -> asyncio.Semaphore:
        self._at_home()
        return self._slots

    def _at_home(self) -> None:
        """Connections, semaphores and locks belong to a loop. An app below another is told of no
        start and no end, and a test client without `with` has a loop for each request."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        moved, self._loop = self._loop is not None, loop
        self._slots = asyncio.Semaphore(self._concurrency)
        self._making = asyncio.Lock()
        self._callers.clear()
        self._made = self._given.asynchronous() if self._given and moved else None

    async def client(self, request: Request) -> AsyncClient:
        """The client to ask for this request. Raises HTTPException 401, ConfigError."""
        self._at_home()
        token = _token_of(request) if self._pass_token else None
        client = self._made or self._given or await self._make()
        if token is None:
            return client
        request.state.asks_as_caller = True
        known = self._callers.pop(token, None) or client.with_token(token)
        self._callers[token] = known
        while len(self._callers) > _CALLERS:
            self._callers.popitem(last=False)
        return known

    async def _make(self) -> AsyncClient:
        """In a thread: it reads files, and may sign in over HTTP."""
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(self._new)
            return self._made

    def _new(self) -> AsyncClient:
        # Where callers bring their tokens the app needs none, only the host.
        alone = self._pass_token and os.environ.get("DATABRICKS_HOST")
        return AsyncClient(
            token=_none_of_its_own if alone else None,
            max_connections=max(_CONNECTIONS, self._concurrency),
            **self.options,
        )


def _none_of_its_own() -> str:
    raise ConfigError("The app asks with its callers' tokens only.")


def _token_of(request: Request) -> str:
    if forwarded := request.headers.get("x-forwarded-access-token"):
        return forwarded
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    raise HTTPException(
        401,
        "Expected a token in X-Forwarded-Access-Token or Authorization: Bearer.",
        {"WWW-Authenticate": "Bearer"},
    )


async def while_wanted(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. It is ended when the caller hangs up, so that nothing runs on, and holds
    its place, for nobody. To be used once the request's body is read."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(_GONE, "The caller is gone.")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
