"""What the reconciler holds of one endpoint, and the ways in which it speaks of it to others."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from lakeport.control.replicas import ReplicaSet
from lakeport.control.rollout import Observed, deployment_id
from lakeport.control.validation import PER_REPLICA
from lakeport.runtimes.base import DeploymentSpec
from lakeport.serving.ports import Load
from lakeport.serving.routes import RouteTable
from lakeport.stores.records import EndpointRecord, EntityRecord


class FrontPort(Protocol):
    """What the reconciler tells a front, all of it plain values (`serving/invoke.py`)."""

    def publish(self, routes: RouteTable) -> None: ...
    def set_replicas(
        self, deployment: str, addresses: Mapping[str, str], *, coming: bool = False
    ) -> None: ...
    def refuse_waiting(self, deployment: str, message: str) -> None: ...
    def held(self, deployment: str, replica: str) -> int: ...
    def load(self, deployment: str) -> Load | None: ...
    def unhurried(self, deployment: str) -> None: ...
    async def drain(self, deployment: str, timeout: float) -> None: ...


class Kept:
    """One endpoint under care."""

    def __init__(self, record: EndpointRecord) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.sets: dict[str, ReplicaSet] = {}
        #: What the last look saw of them.
        self.observed: Mapping[str, Observed] = {}
        self.changed = asyncio.Event()
        self.deleted = False
        #: Done at the next move, for who waits for it.
        self.moved: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """The record has moved, or is gone."""
        if self.moved is not None and not self.moved.done():
            self.moved.set_result(None)
        self.moved = None


def spec_of(record: EndpointRecord, entity: EntityRecord) -> DeploymentSpec:
    """What a runtime is told of a served entity."""
    return DeploymentSpec(
        id=deployment_id(record.id, entity),
        endpoint=record.name,
        entity=entity.name,
        model_name=entity.entity_name,
        model_version=entity.resolved_version,
        model_key=entity.model_key,
        path=entity.path,
        workload_type=entity.workload_type,
        concurrency=PER_REPLICA,
        environment=entity.environment,
        kind=entity.kind,
        external=entity.external,
        task=entity.chat.task if entity.chat else None,
    )
