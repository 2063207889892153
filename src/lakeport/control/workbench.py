"""The control plane of a server started for tests.

Endpoints that a test makes, the faults that they meet, and what they were asked.

Endpoints made here are in memory alone. Reads of any endpoint meet their faults here; invocations
do in `serving/faulty.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from lakeport.auth.callers import USERS, AccessList, Caller, Level
from lakeport.control import permissions, validation
from lakeport.control.chat_entities import FixedTarget, Known, fixed_entity
from lakeport.control.endpoints import Endpoints
from lakeport.control.ports import SecretsPort
from lakeport.control.reconciler import Reconciler
from lakeport.errors import (
    AlreadyExists,
    Conflict,
    InvalidParameter,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from lakeport.models.base import ModelRegistry
from lakeport.runtimes.base import Kind, Runtime
from lakeport.serving.calls import Calls, Recorded
from lakeport.serving.faults import MAX_FAULTS, Fault, Faults, Standing, problem
from lakeport.serving.faulty import Cut, meet
from lakeport.stores.base import Store
from lakeport.stores.records import EndpointRecord, EntityRecord
from lakeport.telemetry.metrics import Metrics
from lakeport.wire import endpoints as wire
from lakeport.wire.chat import Task
from lakeport.wire.workbench import EndpointInput, FaultKind, FaultOn, Place

#: Seconds for an endpoint that needs no model to be loaded.
PATIENCE = 15.0


class Parts(TypedDict):
    """What `Endpoints` is made of."""

    reconciler: Reconciler
    store: Store
    runtime: Runtime
    registry: ModelRegistry | None
    metrics: Metrics
    now_ms: Callable[[], int]
    max_entities: int
    max_endpoints: int
    known: Known
    vault: SecretsPort


class Workbench(Endpoints):
    """`Endpoints` of a server started for tests."""

    def __init__(
        self,
        *,
        faults: Faults,
        calls: Calls,
        place: Place,
        timeout: float,
        **parts: Unpack[Parts],
    ) -> None:
        """`timeout`: seconds of a TIMEOUT fault that does not say."""
        super().__init__(**parts)
        self._faults = faults
        self._calls = calls
        self._place = place
        self._timeout = timeout

    def place(self, caller: Caller) -> Place:
        """Where the workspace lies. Admins only: these are paths of the server's machine."""
        _require_admin(caller, "see where the workspace lies")
        return self._place

    # --- endpoints ----------------------------------------------------------------------------

    async def put(self, caller: Caller, asked: EndpointInput) -> wire.EndpointDetailed:
        """Make an endpoint for a test, or replace one that was made here. One that joins or is
        scripted answers when this returns; a model may still be loading.

        Raises PermissionDenied for others than admins, AlreadyExists, InvalidParameter.
        """
        _require_admin(caller, "make endpoints for tests")
        validation.fixed_name(asked.name)
        entity = self._entity(asked)
        name = asked.name
        old = self._reconciler.record(name)
        if old is not None:
            if not old.temporary:
                raise AlreadyExists(
                    f"Serving endpoint with name {name} already exists, and was not made by this "
                    "route. Choose another name, or delete it."
                )
            await self._reconciler.delete(name)
            self._metrics.forget(name)
        if self._reconciler.record(name) is not None:
            raise Conflict(f"The serving endpoint '{name}' was made by another meanwhile.")
        self._require_room()
        access = AccessList(users={caller.name: Level.CAN_MANAGE}, groups={USERS: Level.CAN_QUERY})
        record = replace(self._of_one(entity, caller.name, access), temporary=True)
        self._reconciler.pin(record)
        if entity.kind is not Kind.MODEL:
            record = await self._settled(record)
        return super()._shown(record, caller)

    async def _settled(self, made: EndpointRecord) -> EndpointRecord:
        """The endpoint once it serves; one that cannot is taken away again."""
        try:
            async with asyncio.timeout(PATIENCE):
                record = await self._reconciler.settled(made.name)
        except TimeoutError:
            raise Unavailable(f"The serving endpoint '{made.name}' is still starting.") from None
        if record is None or record.id != made.id:
            raise Conflict(f"The serving endpoint '{made.name}' was replaced meanwhile.")
        if record.active is None:
            await self._reconciler.delete(made.name)
            kind = made.pending.entities[0].kind if made.pending else Kind.MODEL
            field = "joined.address" if kind is Kind.JOINED else "scripted"
            raise InvalidParameter(f"{field}: {'; '.join(record.failures.values())}")
        return record

    def _entity(self, asked: EndpointInput) -> EntityRecord:
        """The served entity of an endpoint that is asked for. Raises InvalidParameter."""
        given = [n for n in ("joined", "scripted", "model") if getattr(asked, n) is not None]
        if len(given) != 1:
            raise InvalidParameter(
                f"joined: expected exactly one of joined, scripted and model, got "
                f"{' and '.join(given) or 'none'}."
            )
        if asked.task is not None and asked.scripted is None:
            raise InvalidParameter("task: expected with scripted only; see also joined.task.")
        name = asked.name
        if asked.scripted is not None:
            target = FixedTarget(name, Task(asked.task or Task.CHAT), Kind.SCRIPTED)
            scripted = fixed_entity(target, self._known)
            return replace(scripted, external={"script": asked.scripted})
        plain = EntityRecord(
            name=name, entity_name=name, entity_version="1", resolved_version="1", model_key="path"
        )
        if asked.joined is not None:
            return replace(plain, kind=Kind.JOINED, external=asked.joined.model_dump())
        folder = Path(asked.model.path if asked.model else "")
        if not folder.is_absolute() or not (folder / "MLmodel").is_file():
            raise InvalidParameter(
                "model.path: expected the absolute path of a folder on the server's machine with "
                "an MLmodel file, as `mlflow.<flavor>.save_model` makes it."
            )
        return replace(plain, path=str(folder))

    async def retire(self, caller: Caller, name: str) -> None:
        """Delete an endpoint that was made here. Raises InvalidParameter for any other."""
        record = self._managed(caller, name, "delete it")
        if not record.temporary:
            raise InvalidParameter(
                f"The serving endpoint '{name}' was not made by this route; delete it as any other."
            )
        await self.delete(caller, name)

    async def delete(self, caller: Caller, name: str) -> None:
        await super().delete(caller, name)
        self._faults.clear(name)

    # --- faults -------------------------------------------------------------------------------

    def add_fault(self, caller: Caller, fault: Fault) -> Standing:
        """Let calls of an endpoint meet a fault. Raises InvalidParameter, LimitExceeded."""
        self._managed(caller, fault.endpoint, "give it faults")
        wrong = problem(fault)
        if wrong is not None:
            raise InvalidParameter(wrong)
        if len(self._faults) >= MAX_FAULTS:
            raise LimitExceeded(
                f"There are {MAX_FAULTS} faults, used up ones included, as many as there may be. "
                "Clear some."
            )
        return self._faults.add(fault)

    def faults(self, caller: Caller) -> Sequence[Standing]:
        """Those of the endpoints that `caller` may manage."""
        return [
            each for each in self._faults.listed() if self._manages(caller, each.fault.endpoint)
        ]

    def remove_fault(self, caller: Caller, id: str) -> None:
        """Raises NotFound."""
        if id not in {each.id for each in self.faults(caller)}:
            raise NotFound(f"There is no fault with id {id[:80]!r}.")
        self._faults.remove(id)

    def clear_faults(self, caller: Caller, endpoint: str | None) -> None:
        """Those of one endpoint, or of all that `caller` may manage."""
        for name in self._chosen(caller, endpoint, {s.fault.endpoint for s in self.faults(caller)}):
            self._faults.clear(name)

    # --- calls --------------------------------------------------------------------------------

    def calls(self, caller: Caller, endpoint: str | None) -> Sequence[Recorded]:
        """What one endpoint was asked, or all that `caller` may manage, oldest first."""
        found = self._calls.of(endpoint)
        names = self._chosen(caller, endpoint, {call.endpoint for call in found})
        return [call for call in found if call.endpoint in names]

    def forget_calls(self, caller: Caller, endpoint: str | None) -> None:
        names = self._chosen(caller, endpoint, {c.endpoint for c in self._calls.of(endpoint)})
        self._calls.forget(lambda call: call.endpoint not in names)

    def _manages(self, caller: Caller, name: str) -> bool:
        """Admins manage what is gone, or never was, too."""
        record = self._reconciler.record(name)
        if record is None:
            return caller.admin
        return record.access.allows(caller, Level.CAN_MANAGE)

    def _chosen(self, caller: Caller, endpoint: str | None, names: set[str]) -> set[str]:
        """The endpoint that is asked for, or those of `names` that `caller` may manage. Raises
        NotFound, PermissionDenied."""
        if endpoint is None:
            return {name for name in names if self._manages(caller, name)}
        if not self._manages(caller, endpoint):
            self._managed(caller, endpoint, "see to its faults and calls")
        return {endpoint}

    # --- what is shown ------------------------------------------------------------------------

    async def get(self, caller: Caller, name: str) -> wire.EndpointDetailed:
        await self._meet(caller, name)
        return await super().get(caller, name)

    async def openapi(self, caller: Caller, name: str, server_url: str) -> dict[str, Any]:
        await self._meet(caller, name)
        return await super().openapi(caller, name, server_url)

    async def list(self, caller: Caller) -> wire.EndpointList:
        listed = await super().list(caller)
        for shown in listed.endpoints or ():
            shown.state = self._state(shown.name, shown.state)
        return listed

    def _shown(self, record: EndpointRecord, caller: Caller) -> wire.EndpointDetailed:
        shown = super()._shown(record, caller)
        shown.state = self._state(record.name, shown.state)
        return shown

    def _state(self, name: str, own: wire.EndpointState) -> wire.EndpointState:
        fault = self._faults.state(name, shown=True)
        if fault is None:
            return own
        return wire.EndpointState(
            ready=wire.Ready(fault.ready) if fault.ready else own.ready,
            config_update=fault.config_update or own.config_update,
        )

    async def _meet(self, caller: Caller, name: str) -> None:
        """A read of an endpoint meets its fault. Raises ApiError, Cut."""
        permissions.require(self._find(name), caller, Level.CAN_VIEW, "see it")
        met = self._faults.meet(name, FaultOn.GET)
        if met is None:
            return
        if met.fault.kind is FaultKind.CUT:
            raise Cut
        await meet(met.fault, timeout=self._timeout)


def _require_admin(caller: Caller, action: str) -> None:
    if not caller.admin:
        raise PermissionDenied(f"Only admins of the workspace may {action}.")
