"""The ladder: every invocation takes these rungs, in this order, whatever door it came through."""

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping

from lakeport.auth.callers import Caller
from lakeport.errors import (
    ENDPOINT_GONE,
    ApiError,
    BadRequest,
    DeadlineExceeded,
    EndpointNotFound,
    Internal,
    InvalidParameter,
    InvalidState,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from lakeport.gateway.pipeline import admit
from lakeport.runtimes.base import (
    Answer,
    Call,
    Connector,
    ReplicaLost,
    Stream,
    StreamFailed,
)
from lakeport.serving.deployment import Deployment, QueueLimits, Slot
from lakeport.serving.ports import Invocation, Reply, StreamReply
from lakeport.serving.routes import (
    EMPTY_TABLE,
    Condition,
    EndpointRoute,
    RouteTable,
    Share,
    named,
    pick,
)
from lakeport.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

REPLICA_LOST = (
    "The replica that held this request ended before it answered. It is being started again; the "
    "served entity's logs say why it ended."
)

#: What a worker may refuse with; anything else that it says is our fault.
_REFUSALS: dict[str, type[ApiError]] = {
    "BAD_REQUEST": BadRequest,
    "INVALID_PARAMETER_VALUE": InvalidParameter,
    "REQUEST_TOO_LARGE": TooLarge,
    "UNSUPPORTED_MEDIA_TYPE": UnsupportedMedia,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}


class Front:
    """Answers invocations from what control publishes: routes and replicas, plain values."""

    def __init__(
        self,
        connector: Connector,
        limits: QueueLimits,
        metrics: Metrics,
        *,
        on_hung: Callable[[str, str], None] = lambda deployment, replica: None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connector = connector
        self._limits = limits
        self._metrics = metrics
        self._draw = draw
        self._clock = clock
        self.on_hung = on_hung
        self._routes: RouteTable = EMPTY_TABLE
        self._published: asyncio.Future[None] | None = None
        self._starting_waiters = 0
        self._deployments: dict[str, Deployment] = {}

    # --- what control says ------------------------------------------------------------------

    def publish(self, routes: RouteTable) -> None:
        """Replace the route table, in one assignment."""
        self._routes = routes
        if self._published is not None and not self._published.done():
            self._published.set_result(None)
        self._published = None

    def set_replicas(self, deployment: str, addresses: Mapping[str, str]) -> None:
        """Say which replicas, by id, a deployment has and where they are."""
        known = self._deployments.get(deployment)
        if known is None:
            known = self._deployments[deployment] = Deployment(
                deployment, self._connector, self._limits, self._hung, self._clock
            )
        known.set_replicas(addresses)

    async def drain(self, deployment: str, timeout: float) -> None:
        """Wait until no request holds the deployment, at most `timeout` seconds, and forget it.

        Call it once no published route leads there.
        """
        known = self._deployments.get(deployment)
        if known is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await known.drained()
        except TimeoutError:
            log.warning(
                "%s: %d requests cut after %g s of draining", deployment, known.leases, timeout
            )
        finally:
            self._deployments.pop(deployment, None)
            known.close()

    def _hung(self, deployment: str, replica: str) -> None:
        self.on_hung(deployment, replica)

    # --- what callers ask -------------------------------------------------------------------

    async def invoke(self, caller: Caller, invocation: Invocation) -> Reply | StreamReply:
        """Answer one invocation. Raises ApiError; cancelling it cancels the work."""
        began = self._clock()
        route = self._routes.get(invocation.endpoint)
        if route is None:
            raise EndpointNotFound(ENDPOINT_GONE)
        admit(route.endpoint, route.access, caller)
        if route.condition is not Condition.SERVING:
            route = await self._wait_until_serving(route, caller)
        # Choosing and leasing happen in one step, without an await between: a rollout that
        # replaces the routes now waits for this lease.
        share = self._choose(route, invocation.entity)
        deployment = self._deployments.get(share.deployment)
        if deployment is None:
            self.set_replicas(share.deployment, {})
            deployment = self._deployments[share.deployment]
        deployment.lease()
        metrics = self._metrics.entity(route.endpoint, share.entity)
        leased = True
        status = 500
        compute = 0.0
        try:
            result, slot = await deployment.call(
                Call(
                    invocation.body,
                    invocation.content_type,
                    invocation.content_encoding,
                    began + self._limits.timeout,
                )
            )
            if isinstance(result, Answer):
                compute = result.seconds
                if result.error is not None:
                    raise _refusal(result)
                status = result.status
                return Reply(status, result.body, result.content_type, share.entity)
            leased = False
            return StreamReply(
                _Events(
                    result,
                    deployment,
                    slot,
                    lambda status: metrics.observe(status, self._clock() - began, 0.0),
                ),
                share.entity,
            )
        except ApiError as error:
            status = error.status
            error.served_entity = share.entity
            raise
        except ReplicaLost as problem:
            lost = Internal(REPLICA_LOST)
            lost.served_entity = share.entity
            raise lost from problem
        except asyncio.CancelledError:
            status = 499
            raise
        finally:
            if leased:
                deployment.release()
                metrics.observe(status, self._clock() - began, compute)

    def _choose(self, route: EndpointRoute, entity: str | None) -> Share:
        if entity is None:
            return pick(route.shares, self._draw())
        share = named(route.shares, entity)
        if share is None:
            known = ", ".join(share.entity for share in route.shares)
            raise EndpointNotFound(
                f"The serving endpoint '{route.endpoint}' has no served entity '{entity}'. "
                f"It has: {known}."
            )
        return share

    async def _wait_until_serving(self, route: EndpointRoute, caller: Caller) -> EndpointRoute:
        """Wait for a first config that is on its way; refuse everything else at once."""
        name = route.endpoint
        give_up = self._clock() + self._limits.ready_wait
        while route.condition is Condition.STARTING:
            left = give_up - self._clock()
            if left <= 0 or self._starting_waiters >= self._limits.requests:
                raise Unavailable(
                    f"The serving endpoint '{name}' is not ready yet: its config is being "
                    "deployed. Try again shortly.",
                    retry_after=1,
                )
            if self._published is None:
                self._published = asyncio.get_running_loop().create_future()
            self._starting_waiters += 1
            try:
                async with asyncio.timeout(left):
                    await asyncio.shield(self._published)
            except TimeoutError:
                continue
            finally:
                self._starting_waiters -= 1
            latest = self._routes.get(name)
            if latest is None:
                raise EndpointNotFound(ENDPOINT_GONE)
            route = latest
            admit(name, route.access, caller)
        match route.condition:
            case Condition.STOPPED:
                raise InvalidState(
                    f"The serving endpoint '{name}' is stopped. Start it before querying it."
                )
            case Condition.FAILED:
                raise InvalidState(
                    f"The serving endpoint '{name}' cannot serve: its config failed to deploy. "
                    f"{route.reason}"
                )
            case Condition.EMPTY:
                raise InvalidState(
                    f"The serving endpoint '{name}' has no served entities. Give it a config first."
                )
        return route


class _Events:
    """A stream's events; holds the lease until it is exhausted or closed.

    A class and not a generator: closing a generator that was never begun runs none of its code.
    """

    def __init__(
        self,
        stream: Stream,
        deployment: Deployment,
        slot: Slot,
        observe: Callable[[int], None],
    ) -> None:
        self._stream = stream
        self._events = aiter(stream)
        self._deployment = deployment
        self._slot = slot
        self._observe = observe
        self._open = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._open:
            raise StopAsyncIteration
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            self._end(200)
            raise
        except StreamFailed as failure:
            self._end(500)
            return _error_event(failure.error_code, failure.message)
        except ReplicaLost:
            self._end(500)
            return _error_event("INTERNAL_ERROR", REPLICA_LOST)

    async def aclose(self) -> None:
        """The caller takes no more: the work for it is cancelled. Idempotent."""
        self._end(499)

    def _end(self, status: int) -> None:
        if self._open:
            self._open = False
            self._stream.close()
            self._deployment.freed(self._slot)
            self._deployment.release()
            self._observe(status)


def _refusal(answer: Answer) -> ApiError:
    code, message = answer.error or ("INTERNAL_ERROR", "")
    return _REFUSALS.get(code, Internal)(message)


def _error_event(code: str, message: str) -> bytes:
    """The last event of a stream that failed. The openai SDK raises on an `error` object only."""
    error = {"error": {"message": message, "type": code.lower(), "code": code}}
    return json.dumps(error).encode()
