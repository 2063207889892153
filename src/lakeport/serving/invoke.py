"""The ladder: every invocation takes these rungs, in this order, whatever door it came through."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from lakeport.auth.callers import Caller, Level
from lakeport.errors import (
    ENDPOINT_GONE,
    ApiError,
    BadGateway,
    BadRequest,
    DeadlineExceeded,
    EndpointNotFound,
    Internal,
    InvalidParameter,
    InvalidState,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnsupportedMedia,
)
from lakeport.gateway.bodies import read_document
from lakeport.gateway.chat import Exchange, begin
from lakeport.gateway.pipeline import admit
from lakeport.runtimes.base import Answer, Call, Connector, ReplicaLost
from lakeport.serving.deployment import Deployment, QueueLimits
from lakeport.serving.events import REPLICA_LOST, Events
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
from lakeport.telemetry.metrics import EntityMetrics, Metrics
from lakeport.wire.chat import ChatTarget

log = logging.getLogger(__name__)

#: What a worker or a link may refuse with; anything else that it says is our fault.
_REFUSALS: dict[str, type[ApiError]] = {
    "BAD_REQUEST": BadRequest,
    "INVALID_PARAMETER_VALUE": InvalidParameter,
    "REQUEST_TOO_LARGE": TooLarge,
    "UNSUPPORTED_MEDIA_TYPE": UnsupportedMedia,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "BAD_GATEWAY": BadGateway,
    "TEMPORARILY_UNAVAILABLE": Unavailable,
    "REQUEST_LIMIT_EXCEEDED": TooManyRequests,
}


#: Seconds of `unhurried` deployments: until the deadline, and for a replica.
_DAY = 86_400.0
_SHORT_WAIT = 1.0


class Front:
    """Answers invocations from what control publishes: routes and replicas, plain values."""

    def __init__(
        self,
        connector: Connector,
        limits: QueueLimits,
        metrics: Metrics,
        *,
        max_body: int = 16 * 1024 * 1024,
        on_hung: Callable[[str, str], None] = lambda deployment, replica: None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`max_body`: bytes of a packed body on the OpenAI wire, once inflated."""
        self._connector = connector
        self._limits = limits
        self._metrics = metrics
        self._max_body = max_body
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
        known = self._deployments.get(deployment) or self._made(deployment)
        known.set_replicas(addresses)

    def unhurried(self, deployment: str) -> None:
        """Say of a new deployment that its answers may take as long as people think, and that a
        replica which is gone is not worth a wait."""
        ready_wait = min(self._limits.ready_wait, _SHORT_WAIT)
        self._made(deployment, replace(self._limits, timeout=_DAY, ready_wait=ready_wait))

    def _made(self, deployment: str, limits: QueueLimits | None = None) -> Deployment:
        made = Deployment(
            deployment, self._connector, limits or self._limits, self._hung, self._clock
        )
        self._deployments[deployment] = made
        return made

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
        deployment = self._deployments.get(share.deployment) or self._made(share.deployment)
        deployment.lease()
        metrics = self._metrics.entity(route.endpoint, share.entity)
        leased = True
        status = 500
        compute = 0.0
        exchange: Exchange | None = None
        try:
            deadline = began + deployment.timeout
            if share.chat is not None:
                exchange = self._exchange(share.chat, invocation)
            result, slot = await deployment.call(
                Call(
                    invocation.body,
                    invocation.content_type,
                    invocation.content_encoding,
                    deadline,
                    route=invocation.operation,
                )
                if exchange is None
                else exchange.call(deadline)
            )
            if isinstance(result, Answer):
                compute = result.seconds
                if result.error is not None:
                    raise _refusal(result)
                body = result.body if exchange is None else exchange.answer(result)
                status = result.status
                return Reply(status, body, result.content_type, share.entity, result.retry_after)
            leased = False

            def ended(status: int) -> None:
                self._observe(metrics, exchange, status, began, 0.0)

            events = Events(result, deployment, slot, exchange, ended, patience=deployment.timeout)
            return StreamReply(events, share.entity)
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
                self._observe(metrics, exchange, status, began, compute)

    def _observe(
        self,
        metrics: EntityMetrics,
        exchange: Exchange | None,
        status: int,
        began: float,
        compute: float,
    ) -> None:
        metrics.observe(status, self._clock() - began, compute)
        if exchange is not None:
            metrics.prompt_tokens += exchange.prompt_tokens
            metrics.completion_tokens += exchange.completion_tokens

    def seen(self, caller: Caller, endpoint: str) -> EndpointRoute | None:
        """The endpoint's route, where `caller` may query it."""
        route = self._routes.get(endpoint)
        allowed = route is not None and route.access.allows(caller, Level.CAN_QUERY)
        return route if allowed else None

    def queryable(self, caller: Caller) -> list[str]:
        """The names of the endpoints that `caller` may query, in order."""
        return sorted(
            name
            for name, route in self._routes.items()
            if route.access.allows(caller, Level.CAN_QUERY)
        )

    def _exchange(self, target: ChatTarget, invocation: Invocation) -> Exchange:
        """The chat rung. Raises ApiError for what the target does not take."""
        document = invocation.document
        if document is None:
            document = read_document(
                invocation.body,
                invocation.content_type,
                invocation.content_encoding,
                self._max_body,
            )
        return begin(target, invocation.operation, document)

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


def _refusal(answer: Answer) -> ApiError:
    code, message = answer.error or ("INTERNAL_ERROR", "")
    error = _REFUSALS.get(code, Internal)(message)
    if answer.retry_after is not None:
        error.retry_after = answer.retry_after
    return error
