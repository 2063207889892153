"""The front door of the HTTP API: who asks, and who answers.

request -> request id -> caller (401 before anything else) -> the data plane   raw ASGI
                                                              the registry     proxied ASGI
                                                              all else         FastAPI
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from lakeport.api.context import KEY, Answer, Context, RequestIds
from lakeport.api.control_plane import build_control_plane
from lakeport.api.errors import as_api_error
from lakeport.api.invocations import PREFIX, Invocations, parse_path
from lakeport.api.lane import InvocationLane
from lakeport.api.local import LOCAL_ADMIN, refuse_strangers
from lakeport.api.mlflow import is_mlflow_path
from lakeport.api.openai import OpenAI, parse_route
from lakeport.api.ports import SecretsPort, TokensPort
from lakeport.auth.callers import Caller
from lakeport.control.log_pages import LogPages
from lakeport.control.ports import EndpointsPort
from lakeport.control.workbench import Workbench
from lakeport.errors import InvalidParameter, Unauthenticated, Unavailable
from lakeport.serving.ports import InvokePort
from lakeport.settings import Settings

logger = logging.getLogger("lakeport.api")

#: All that is answered without a token. Nothing else is, not even with "not found".
OPEN_PATHS = ("/health",)
OPEN_PREFIXES = ("/.well-known/",)


def build_app(
    *,
    endpoints: EndpointsPort,
    invoke: InvokePort,
    tokens: TokensPort,
    secrets: SecretsPort,
    health: Callable[[], bool],
    mlflow: ASGIApp | None,
    settings: Settings,
    workspace_id: str,
    single_endpoint: Callable[[], str | None],
    metrics: Callable[[], bytes],
    logs: LogPages,
    bench: Workbench | None = None,
) -> "FrontDoor":
    """The whole HTTP API as one ASGI app, and its lane.

    `health`: whether Lakeport can serve. `mlflow`: the registry's proxy, or None. `metrics`: the
    server's, as Prometheus text. `single_endpoint`: the name of the only endpoint that a flag made,
    if there is exactly one: `/invocations`, `/ping` and `/version` are then its own. `logs`: those
    of models, in pages. `bench`: what a server started for tests offers; None: it has no such
    routes.
    """
    control_plane = build_control_plane(
        endpoints=endpoints,
        tokens=tokens,
        secrets=secrets,
        serving=health,
        workspace_id=workspace_id,
        single_endpoint=single_endpoint,
        metrics=metrics,
        logs=logs,
        bench=bench,
    )
    invocations = Invocations(invoke, max_body=settings.max_body)
    request_ids = RequestIds()
    lane = InvocationLane(
        invoke=invoke,
        tokens=tokens,
        max_body=settings.max_body,
        loopback_only=settings.auth == "off",
        organisation=_organisation(workspace_id),
        single_endpoint=single_endpoint,
        request_ids=request_ids,
    )
    return FrontDoor(
        tokens=tokens,
        invocations=invocations,
        openai=OpenAI(invocations, invoke, endpoints, max_body=settings.max_body),
        control_plane=control_plane,
        mlflow=mlflow,
        loopback_only=settings.auth == "off",
        workspace_id=workspace_id,
        single_endpoint=single_endpoint,
        outside_registry=settings.mlflow_tracking_uri is not None,
        request_ids=request_ids,
        lane=lane,
    )


class FrontDoor:
    """Finds out who asks and hands on by the path alone, never by Host or URL."""

    def __init__(
        self,
        *,
        tokens: TokensPort,
        invocations: Invocations,
        openai: OpenAI,
        control_plane: ASGIApp,
        mlflow: ASGIApp | None,
        loopback_only: bool,
        workspace_id: str,
        single_endpoint: Callable[[], str | None],
        outside_registry: bool,
        request_ids: RequestIds | None = None,
        lane: InvocationLane | None = None,
    ) -> None:
        self._tokens = tokens
        self._invocations = invocations
        self._openai = openai
        self._control_plane = control_plane
        self._mlflow = mlflow
        self._loopback_only = loopback_only
        self._organisation = _organisation(workspace_id)
        self._single_endpoint = single_endpoint
        self._outside_registry = outside_registry
        self._request_ids = request_ids or RequestIds()
        #: Answers invocations in front of this application: for `make_server`.
        self.lane = lane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = self._request_ids()
        answer = Answer(send, [(b"x-request-id", request_id.encode()), self._organisation])
        try:
            headers = dict(scope["headers"])
            if self._loopback_only:
                refuse_strangers(headers.get(b"host", b""), headers.get(b"origin"))
            caller = None
            if not is_open(scope["path"]):
                caller = await self._authenticate(headers.get(b"authorization"))
            context = scope[KEY] = Context(request_id=request_id, caller=caller)
            await self._hand_on(scope, receive, answer.send, context=context, headers=headers)
        except asyncio.CancelledError:
            # Only the end of the server cancels a request, when its grace is over.
            await answer.fail(Unavailable("Lakeport is stopping."), request_id)
        except Exception as error:  # the last resort: a client is owed an answer
            known = as_api_error(error)
            if known.status == 500:
                logger.exception("request %s failed", request_id)
            await answer.fail(known, request_id)

    async def _authenticate(self, header: bytes | None) -> Caller:
        if self._loopback_only:
            return LOCAL_ADMIN
        try:
            return self._tokens.authenticate(header)
        except Unauthenticated:
            return await self._tokens.refresh_authenticate(header)

    async def _hand_on(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        context: Context,
        headers: Mapping[bytes, bytes],
    ) -> None:
        path: str = scope["path"]
        caller = context.caller
        if caller is not None:
            invoked = self._invoked(scope, path)
            if invoked is not None:
                endpoint, entity = invoked
                await self._invocations.answer(
                    scope,
                    receive,
                    send,
                    endpoint=endpoint,
                    entity=entity,
                    caller=caller,
                    headers=headers,
                    request_id=context.request_id,
                )
                return
            if path.startswith(PREFIX) and (route := parse_route(scope["raw_path"])) is not None:
                await self._openai.answer(
                    scope,
                    receive,
                    send,
                    route=route,
                    caller=caller,
                    headers=headers,
                    request_id=context.request_id,
                )
                return
            if self._mlflow is not None and self._is_mlflows(path):
                await self._mlflow(scope, receive, send)
                return
        if b"%00" in scope["query_string"]:
            raise InvalidParameter("The query has a NUL character.")
        await self._control_plane(scope, receive, send)

    def _invoked(self, scope: Scope, path: str) -> tuple[str, str | None] | None:
        """Which endpoint and served entity an invocation is for; None: it is no invocation."""
        if path.startswith(PREFIX):
            # Not the decoded path: in it a name could hold a slash.
            return parse_path(scope["raw_path"])
        if path == "/invocations" and (name := self._single_endpoint()) is not None:
            return name, None
        return None

    def _is_mlflows(self, path: str) -> bool:
        if path == "/version":
            # MLflow's scoring server and its registry both answer it with their own version. The
            # embedded registry's is the one installed here, so nobody waits for it to start.
            return self._outside_registry or self._single_endpoint() is None
        return is_mlflow_path(path)


def _organisation(workspace_id: str) -> tuple[bytes, bytes]:
    return b"x-databricks-org-id", workspace_id.encode()


def is_open(path: str) -> bool:
    """Whether `path` is answered without a token."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)
