"""Small fakes of the ports behind the HTTP API, which keep their contracts."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from lakeport.api.app import build_app
from lakeport.auth.callers import ADMINS, USERS, Caller
from lakeport.auth.secrets import Secrets
from lakeport.control.log_pages import Line, LogPages, Page
from lakeport.errors import (
    ENDPOINT_GONE,
    AlreadyExists,
    EndpointNotFound,
    NotFound,
    Unauthenticated,
)
from lakeport.serving.asking import Task
from lakeport.serving.ports import Asked, Done, Invocation, Reply, StreamReply
from lakeport.settings import Settings
from lakeport.stores.memory import MemoryStore
from lakeport.stores.records import EventRecord, TokenRecord
from lakeport.telemetry.series import Row
from lakeport.wire import endpoints as wire
from lakeport.wire import monitoring
from lakeport.wire import permissions as acl

ADMIN = Caller("1", "admin", frozenset({ADMINS, USERS}))
ANN = Caller("2", "ann", frozenset({USERS}))
TOKENS = {b"Bearer admin-token": ADMIN, b"Bearer ann-token": ANN}
LATE_TOKEN = b"Bearer made-by-another-process"
WORKSPACE = "4711"


class FakeTokens:
    """Knows two callers, and one more only after a look at the store."""

    def __init__(self) -> None:
        self.records: list[TokenRecord] = []
        self.known = dict(TOKENS)

    def authenticate(self, header: bytes | None) -> Caller:
        caller = self.known.get(header or b"")
        if caller is None:
            raise Unauthenticated("No valid token.")
        return caller

    async def refresh_authenticate(self, header: bytes | None) -> Caller:
        return ANN if header == LATE_TOKEN else self.authenticate(header)

    async def create(
        self, caller: Caller, *, comment: str, lifetime_seconds: int | None
    ) -> tuple[str, TokenRecord]:
        expires = None if lifetime_seconds is None else 1000 * lifetime_seconds
        record = TokenRecord(str(len(self.records)), "d", caller.name, comment, 0, expires)
        self.records.append(record)
        return "dapi-new", record

    async def list(self, caller: Caller) -> Sequence[TokenRecord]:
        return [record for record in self.records if record.caller == caller.name]

    async def delete(self, caller: Caller, token_id: str) -> None:
        for record in await self.list(caller):
            if record.id == token_id:
                self.records.remove(record)
                return
        raise NotFound("Token does not exist")


def endpoint_named(name: str) -> wire.EndpointDetailed:
    return wire.EndpointDetailed(
        id="ab" * 16,
        name=name,
        creator="admin",
        creation_timestamp=1,
        last_updated_timestamp=1,
        description="",
        route_optimized=False,
        permission_level="CAN_MANAGE",
        state=wire.EndpointState(ready=wire.Ready.READY, config_update="NOT_UPDATING"),
        tags=[],
    )


class FakeEndpoints:
    """Endpoints by name, without anything behind them."""

    def __init__(self) -> None:
        self.found = {"iris": endpoint_named("iris")}
        self.asked: list[tuple[Any, ...]] = []

    async def optimization_info(self, model: str, version: str) -> wire.OptimizationInfo:
        return wire.OptimizationInfo(optimizable=model.startswith("system.ai."))

    def _get(self, name: str) -> wire.EndpointDetailed:
        if name == "broken":
            raise RuntimeError("a secret of the inside")
        if name not in self.found:
            raise NotFound(f"Serving endpoint {name} does not exist")
        return self.found[name]

    async def create(self, caller: Caller, request: wire.CreateEndpoint) -> wire.EndpointDetailed:
        if request.name in self.found:
            raise AlreadyExists(f"Serving endpoint with name {request.name} already exists")
        self.found[request.name] = endpoint_named(request.name)
        return self.found[request.name]

    async def get(self, caller: Caller, name: str) -> wire.EndpointDetailed:
        return self._get(name)

    async def list(self, caller: Caller) -> wire.EndpointList:
        return wire.EndpointList(
            endpoints=[
                wire.EndpointSummary(
                    **endpoint.model_dump(include=set(wire.EndpointSummary.model_fields))
                )
                for endpoint in self.found.values()
            ]
        )

    async def update_config(
        self, caller: Caller, name: str, request: wire.CoreConfigInput
    ) -> wire.EndpointDetailed:
        self.asked.append(("update_config", name, request))
        return self._get(name)

    async def patch_tags(
        self, caller: Caller, name: str, request: wire.PatchTags
    ) -> wire.EndpointTags:
        self._get(name)
        return wire.EndpointTags(
            tags=[wire.EndpointTag(key=tag.key, value=tag.value) for tag in request.add_tags or ()]
        )

    async def update_notifications(
        self, caller: Caller, name: str, request: wire.PatchNotifications
    ) -> wire.EndpointDetailed:
        return self._get(name).model_copy(
            update={"email_notifications": request.email_notifications}
        )

    async def delete(self, caller: Caller, name: str) -> None:
        self._get(name)
        del self.found[name]

    async def stop(self, caller: Caller, name: str) -> wire.EndpointDetailed:
        return self._get(name)

    async def start(self, caller: Caller, name: str) -> wire.EndpointDetailed:
        return self._get(name)

    async def logs(self, caller: Caller, name: str, entity: str, config_version: int | None) -> str:
        self._get(name)
        return f"{entity} of {config_version}"

    async def build_logs(
        self, caller: Caller, name: str, entity: str, config_version: int | None
    ) -> str:
        self._get(name)
        return "built"

    async def metrics(self, caller: Caller, name: str) -> str:
        self._get(name)
        return "# metrics\n"

    async def live(self, caller: Caller) -> monitoring.Live:
        return monitoring.Live(at=1, endpoints=[])

    async def series(
        self, caller: Caller, name: str, entity: str | None, range: Literal["15m", "24h"]
    ) -> monitoring.Series:
        self._get(name)
        self.asked.append(("series", name, entity, range))
        columns: dict[str, list[float | None]] = {column: [] for column in Row._fields}
        return monitoring.Series.model_validate(
            {"endpoint": name, "served_entity": entity or "", "range": range, "step": 1, "time": []}
            | columns
        )

    async def openapi(self, caller: Caller, name: str, server_url: str) -> dict[str, Any]:
        self._get(name)
        return {"openapi": "3.1.0", "servers": [{"url": server_url}]}

    async def permission_levels(self, caller: Caller, id: str) -> acl.PermissionLevels:
        self._known(id)
        return acl.PermissionLevels(permission_levels=[])

    async def permissions(self, caller: Caller, id: str) -> acl.ObjectPermissions:
        self._known(id)
        return acl.ObjectPermissions(
            object_id=f"/serving-endpoints/{id}",
            object_type="serving-endpoint",
            access_control_list=[],
        )

    async def set_permissions(
        self, caller: Caller, id: str, request: acl.PermissionsRequest
    ) -> acl.ObjectPermissions:
        return await self.permissions(caller, id)

    async def update_permissions(
        self, caller: Caller, id: str, request: acl.PermissionsRequest
    ) -> acl.ObjectPermissions:
        return await self.permissions(caller, id)

    def _known(self, id: str) -> None:
        if id not in {endpoint.id for endpoint in self.found.values()}:
            raise NotFound(f"Serving endpoint with id {id} does not exist")

    async def events(
        self,
        caller: Caller,
        name: str | None,
        *,
        after: int,
        limit: int,
        since: int = 0,
        kinds: Collection[str] = (),
        newest: bool = False,
    ) -> Sequence[EventRecord]:
        self.asked.append(("events", name, after, limit, since, sorted(kinds), newest))
        return [EventRecord(at=1, endpoint="iris", kind="created", message="by admin", id=1)]


class FakePages:
    """Log pages of one line."""

    def page(
        self,
        caller: Caller,
        name: str,
        entity: str,
        *,
        after: str | None,
        limit: int,
        build: bool = False,
    ) -> Page:
        if name != "iris":
            raise NotFound(f"Serving endpoint with name {name} does not exist")
        return Page(
            [Line(1, "r1", 2, f"{entity} {limit} {build}")], after or "1", lost=False, more=False
        )


class _Events:
    """A stream's events, and whether it was closed."""

    def __init__(self, events: AsyncIterator[bytes], closed: asyncio.Event) -> None:
        self._events = events
        self._closed = closed

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._events)

    def push(self, take: Callable[[bytes | None], bool]) -> bool:
        return False

    def close(self) -> None:
        self._closed.set()


class FakeInvoke:
    """Answers by the endpoint's name; records what it was asked, and whether it was cancelled."""

    def __init__(self) -> None:
        self.invocations: list[Invocation] = []
        #: Those that came without a coroutine.
        self.begun = 0
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.closed = asyncio.Event()
        self.stream: Callable[[], AsyncIterator[bytes]] = self._two_words
        self.reply = Reply(200, b"{}", "application/json", "given-1")

    def begin(self, caller: Caller, invocation: Invocation, done: Done) -> Asked:
        self.begun += 1
        return Task(self.invoke(caller, invocation), done)

    async def invoke(self, caller: Caller, invocation: Invocation) -> Reply | StreamReply:
        self.invocations.append(invocation)
        match invocation.endpoint:
            case "iris":
                return Reply(200, b'{"predictions":[1]}', "application/json", "iris-1")
            case "echo":
                return Reply(200, invocation.body, "application/octet-stream", "echo-1")
            case "given":
                return self.reply
            case "slow":
                await self._wait_for_ever()
            case "stream":
                return StreamReply(_Events(self.stream(), self.closed), "stream-1")
            case "broken":
                raise RuntimeError("a secret of the inside")
        raise EndpointNotFound(ENDPOINT_GONE)

    def queryable(self, caller: Caller) -> list[str]:
        return ["iris"]

    async def _wait_for_ever(self) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _two_words(self) -> AsyncIterator[bytes]:
        yield b'{"delta":"one"}'
        yield b'{"delta":\n"two"}'

    async def endless(self) -> AsyncIterator[bytes]:
        yield b"{}"
        self.waiting.set()
        await asyncio.Event().wait()


async def fake_mlflow(scope: Scope, receive: Receive, send: Send) -> None:
    """The registry's proxy: reads all, and says so."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"mlflow read %d" % size})


class World:
    """The whole HTTP API on fakes."""

    def __init__(self, *, single: str | None = None, mlflow: bool = True, **settings: Any) -> None:
        self.tokens = FakeTokens()
        self.endpoints = FakeEndpoints()
        self.invoke = FakeInvoke()
        self._folder = tempfile.TemporaryDirectory()
        key_file = Path(self._folder.name) / "secrets.key"
        self.secrets = Secrets(MemoryStore(), key_file, now_ms=lambda: 1_700_000_000_000)
        self.healthy = True
        self.built = build_app(
            endpoints=self.endpoints,
            invoke=self.invoke,
            tokens=self.tokens,
            secrets=self.secrets,
            health=lambda: self.healthy,
            mlflow=fake_mlflow if mlflow else None,
            settings=Settings.model_construct(**Settings().model_dump() | settings),
            workspace_id=WORKSPACE,
            single_endpoint=lambda: single,
            metrics=lambda: b"lakeport_up 1\n",
            logs=cast(LogPages, FakePages()),
        )
        self.app: ASGIApp = self.built
        #: By which a test's server lets requests in: "lane", "bridge" or "uvicorn".
        self.door = "lane"

    def fresh(self) -> "World":
        """The same app as if nothing had happened: it takes a while to build."""
        for fake in (self.tokens, self.endpoints, self.invoke):
            fake.__init__()  # type: ignore[misc]
        self.healthy = True
        self.door = "lane"
        self.app = self.built
        return self


def client(world: World) -> httpx.AsyncClient:
    """Ann, asking."""
    transport = httpx.ASGITransport(world.app)
    headers = {"authorization": "Bearer ann-token"}
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)
