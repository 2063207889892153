"""Watches the aliases that endpoints follow, and rolls out what they come to mean."""

import asyncio
import logging

from lakeport.control.endpoints import Endpoints
from lakeport.control.reconciler import Reconciler
from lakeport.errors import ApiError
from lakeport.models.base import ModelNotFound, ModelRegistry, RegistryUnavailable
from lakeport.stores.records import ConfigUpdate, EndpointRecord

log = logging.getLogger(__name__)


class AliasWatcher:
    """Looks every `period` seconds, and at once when poked."""

    def __init__(
        self, endpoints: Endpoints, reconciler: Reconciler, registry: ModelRegistry, period: float
    ) -> None:
        self._endpoints = endpoints
        self._reconciler = reconciler
        self._registry = registry
        self._period = period
        self._poked = asyncio.Event()
        #: What was said of each endpoint last, so that a lasting trouble is logged once.
        self._troubles: dict[str, str] = {}

    def poke(self) -> None:
        """An alias may have moved: look soon."""
        self._poked.set()

    async def run(self) -> None:
        """Watch until cancelled.

        The first look may start the registry: an alias can have moved just before the server
        was stopped. Later ones never do: a registry that does not run moves no alias.
        """
        first = True
        while True:
            if first or self._registry.running:
                for name in self._reconciler.names():
                    record = self._reconciler.record(name)
                    if record is not None and follows(record):
                        await self._look(record)
            first = False
            self._poked.clear()
            try:
                async with asyncio.timeout(self._period):
                    await self._poked.wait()
            except TimeoutError:
                pass

    async def _look(self, record: EndpointRecord) -> None:
        try:
            await self._endpoints.follow(record)
        except (ModelNotFound, RegistryUnavailable, ApiError) as problem:
            trouble = str(problem)
            if self._troubles.get(record.name) != trouble:
                log.warning("%s: its alias could not be followed: %s", record.name, trouble)
            self._troubles[record.name] = trouble
        else:
            self._troubles.pop(record.name, None)


def follows(record: EndpointRecord) -> bool:
    """Whether an endpoint's config names an alias that may be followed now."""
    config = record.active or record.pending
    return (
        config is not None
        and not record.stopped
        and record.update is not ConfigUpdate.IN_PROGRESS
        and any(entity.entity_version.startswith("@") for entity in config.entities)
    )
