"""The ladder: every invocation takes these rungs, in this order, whatever door it came through."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from lakeport.auth.callers import Caller, Level
from lakeport.errors import (
    ENDPOINT_GONE,
    ApiError,
    EndpointNotFound,
    InvalidState,
    Unavailable,
)
from lakeport.gateway.bodies import read_document
from lakeport.gateway.chat import Exchange, begin
from lakeport.gateway.pipeline import admit
from lakeport.runtimes.base import Call, Connector
from lakeport.serving.asking import Task, outcome_of, unforeseen
from lakeport.serving.deployment import Deployment, QueueLimits
from lakeport.serving.ports import (
    Asked,
    Done,
    Invocation,
    Load,
    Reply,
    StreamReply,
)
from lakeport.serving.routes import (
    EMPTY_TABLE,
    Condition,
    EndpointRoute,
    RouteTable,
    Share,
    named,
    pick,
)
from lakeport.serving.way import NOTHING, InvocationFlight, Way
from lakeport.telemetry.metrics import Metrics
from lakeport.telemetry.traces import Tracer
from lakeport.wire.chat import ChatTarget

log = logging.getLogger(__name__)

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
        tracer: Tracer | None = None,
        on_hung: Callable[[str, str], None] = lambda deployment, replica: None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`max_body`: bytes of a packed body on the OpenAI wire, once inflated."""
        self._connector = connector
        self._limits = limits
        self._metrics = metrics
        self._max_body = max_body
        self._tracer = tracer
        self._draw = draw
        self._clock = clock
        self.on_hung = on_hung
        #: Gets a deployment's id when calls begin to wait there, at most once a turn of the loop.
        self.on_waiting: Callable[[str], None] = lambda deployment: None
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

    def set_replicas(
        self, deployment: str, addresses: Mapping[str, str], *, coming: bool = False
    ) -> None:
        """Say which replicas, by id, a deployment has and where they are. `coming`: more are being
        started because calls wait, so that these wait until their deadline."""
        known = self._deployments.get(deployment) or self._made(deployment)
        known.set_replicas(addresses, coming=coming)

    def load(self, deployment: str) -> Load | None:
        """How busy a deployment is; None where it has no requests and no replicas."""
        known = self._deployments.get(deployment)
        return None if known is None else known.load

    def held(self, deployment: str, replica: str) -> int:
        """Requests that a replica holds, also one that gets no further ones."""
        known = self._deployments.get(deployment)
        return 0 if known is None else known.held(replica)

    def refuse_waiting(self, deployment: str, message: str) -> None:
        """End every call that waits with a 503: what it waits for does not come."""
        known = self._deployments.get(deployment)
        if known is not None:
            known.refuse_waiting(message)

    def unhurried(self, deployment: str) -> None:
        """Say of a new deployment that its answers may take as long as people think, and that a
        replica which is gone is not worth a wait."""
        ready_wait = min(self._limits.ready_wait, _SHORT_WAIT)
        self._made(deployment, replace(self._limits, timeout=_DAY, ready_wait=ready_wait))

    def _made(self, deployment: str, limits: QueueLimits | None = None) -> Deployment:
        made = Deployment(
            deployment,
            self._connector,
            limits or self._limits,
            self._hung,
            on_waiting=self._waits,
            clock=self._clock,
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

    def _waits(self, deployment: str) -> None:
        self.on_waiting(deployment)

    # --- what callers ask -------------------------------------------------------------------

    def begin(self, caller: Caller, invocation: Invocation, done: Done) -> Asked:
        """Begin to answer one invocation: see `InvokePort.begin`."""
        began = self._clock()
        route = self._routes.get(invocation.endpoint)
        try:
            if route is None:
                raise EndpointNotFound(ENDPOINT_GONE)
            admit(route.endpoint, route.access, caller)
            if route.condition is not Condition.SERVING:
                return Task(self._begin_later(route, caller, invocation, began), done)
            return self._begin(route, invocation, began, done)
        except ApiError as error:
            done(error)
        except Exception as error:  # noqa: BLE001 - a caller is owed an answer
            done(unforeseen(error))
        return NOTHING

    async def invoke(self, caller: Caller, invocation: Invocation) -> Reply | StreamReply:
        """As `begin`, for coroutines. Raises ApiError; cancelling it cancels the work."""
        return await outcome_of(partial(self.begin, caller, invocation))

    async def _begin_later(
        self, route: EndpointRoute, caller: Caller, invocation: Invocation, began: float
    ) -> Reply | StreamReply:
        serving = await self._wait_until_serving(route, caller)
        return await outcome_of(partial(self._begin, serving, invocation, began))

    def _begin(
        self, route: EndpointRoute, invocation: Invocation, began: float, done: Done
    ) -> Asked:
        """The rungs below the permission, for what came at `began`. Raises ApiError before the
        lease is taken."""
        # Choosing and leasing happen in one step, without an await between: a rollout that
        # replaces the routes now waits for this lease.
        share = self._choose(route, invocation.entity)
        deployment = self._deployments.get(share.deployment) or self._made(share.deployment)
        metrics = self._metrics.entity(route.endpoint, share.entity)
        deployment.lease(self._clock())
        way = Way(self._clock, done, share, metrics, began)
        try:
            if self._tracer is not None:
                way.trace = self._tracer.begin(
                    invocation.traceparent, route.endpoint, invocation.request_id
                )
            deadline = began + deployment.timeout
            if share.chat is None:
                call = Call(
                    invocation.body,
                    invocation.content_type,
                    invocation.content_encoding,
                    deadline,
                    route=invocation.operation,
                )
            else:
                way.exchange = self._exchange(share.chat, invocation)
                call = way.exchange.call(deadline)
            if way.trace is not None:
                call.traceparent = way.trace.traceparent
            flight = InvocationFlight(deployment, call, way)
            deployment.begin(flight)
        except ApiError as error:
            way.refuse(deployment, error)
            return NOTHING
        except BaseException:
            way.leave(deployment, 500)
            raise
        return flight

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
