"""A store without a database, for simulations: the same contract, and gone with the process."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from lakeport.errors import AlreadyExists, NotFound
from lakeport.stores.base import EVENTS_KEPT, StaleRecord, StoreError
from lakeport.stores.records import (
    CallerRecord,
    ConfigRecord,
    EndpointRecord,
    EventRecord,
    SecretAclRecord,
    SecretRecord,
    SecretScopeRecord,
    TokenRecord,
)


class MemoryStore:
    """A `stores.base.Store` in dicts. Nothing here awaits, so each method is one transaction.

    To simulate a crash, drop what was built on it and build anew on the same MemoryStore.
    """

    def __init__(self) -> None:
        self._endpoints: dict[str, EndpointRecord] = {}
        self._configs: dict[tuple[str, int], ConfigRecord] = {}
        self._callers: dict[str, CallerRecord] = {}
        self._tokens: dict[str, TokenRecord] = {}
        self._scopes: dict[str, SecretScopeRecord] = {}
        self._secrets: dict[tuple[str, str], SecretRecord] = {}
        self._acls: dict[tuple[str, str], SecretAclRecord] = {}
        self._events: list[EventRecord] = []
        self._last_event = 0
        self._marks: dict[str, str] = {}

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    # Endpoints

    async def endpoints(self) -> Sequence[EndpointRecord]:
        return sorted(map(self._composed, self._endpoints.values()), key=lambda found: found.name)

    async def insert_endpoint(self, record: EndpointRecord) -> EndpointRecord:
        if record.id in self._endpoints or self._taken(record):
            raise AlreadyExists(f"Serving endpoint with name {record.name} already exists")
        return self._put(replace(record, revision=1))

    async def save_endpoint(self, record: EndpointRecord, *events: EventRecord) -> EndpointRecord:
        stored = self._endpoints.get(record.id)
        if stored is None:
            raise NotFound(f"Serving endpoint {record.name} does not exist")
        if stored.revision != record.revision:
            raise StaleRecord(f"Serving endpoint {record.name} was changed meanwhile.")
        if self._taken(record):
            raise StoreError(f"The name {record.name} is taken.")
        self._add_events(events)
        return self._put(replace(record, revision=record.revision + 1))

    async def delete_endpoint(self, id: str, *events: EventRecord) -> None:
        if self._endpoints.pop(id, None) is not None:
            self._configs = {key: kept for key, kept in self._configs.items() if key[0] != id}
            self._add_events(events)

    async def config(self, endpoint_id: str, version: int) -> ConfigRecord | None:
        return self._configs.get((endpoint_id, version))

    # Callers and tokens

    async def callers(self) -> Sequence[CallerRecord]:
        return sorted(self._callers.values(), key=lambda found: found.name)

    async def save_caller(self, record: CallerRecord) -> None:
        if any(c.id == record.id and c.name != record.name for c in self._callers.values()):
            raise StoreError(f"The id {record.id} is taken.")
        self._callers[record.name] = record

    async def tokens(self) -> Sequence[TokenRecord]:
        return sorted(self._tokens.values(), key=lambda found: (found.created_at, found.id))

    async def insert_token(self, record: TokenRecord) -> None:
        if any(record.id == t.id or record.digest == t.digest for t in self._tokens.values()):
            raise StoreError(f"The token {record.id} is there already.")
        self._tokens[record.id] = record

    async def delete_token(self, id: str) -> bool:
        return self._tokens.pop(id, None) is not None

    # Secrets

    async def secret_scopes(self) -> Sequence[SecretScopeRecord]:
        return sorted(self._scopes.values(), key=lambda found: found.name)

    async def insert_secret_scope(self, record: SecretScopeRecord, acl: SecretAclRecord) -> None:
        if record.name in self._scopes:
            raise AlreadyExists(f"Scope {record.name} already exists")
        self._scopes[record.name] = record
        self._acls[acl.scope, acl.principal] = acl

    async def delete_secret_scope(self, name: str) -> bool:
        if self._scopes.pop(name, None) is None:
            return False
        self._secrets = {key: kept for key, kept in self._secrets.items() if key[0] != name}
        self._acls = {key: kept for key, kept in self._acls.items() if key[0] != name}
        return True

    async def secrets(self) -> Sequence[SecretRecord]:
        return [self._secrets[key] for key in sorted(self._secrets)]

    async def save_secret(self, record: SecretRecord) -> None:
        self._require_scope(record.scope)
        self._secrets[record.scope, record.key] = record

    async def delete_secret(self, scope: str, key: str) -> bool:
        return self._secrets.pop((scope, key), None) is not None

    async def secret_acls(self) -> Sequence[SecretAclRecord]:
        return [self._acls[key] for key in sorted(self._acls)]

    async def save_secret_acl(self, record: SecretAclRecord) -> None:
        self._require_scope(record.scope)
        self._acls[record.scope, record.principal] = record

    async def delete_secret_acl(self, scope: str, principal: str) -> bool:
        return self._acls.pop((scope, principal), None) is not None

    def _require_scope(self, name: str) -> None:
        if name not in self._scopes:
            raise StoreError(f"There is no scope {name}.")

    # Events

    async def add_event(self, event: EventRecord) -> None:
        self._add_events([event])

    async def events(
        self,
        endpoint: str | None = None,
        *,
        after: int = 0,
        before: int | None = None,
        since: int = 0,
        kinds: Collection[str] = (),
        newest: bool = False,
        limit: int = 100,
    ) -> Sequence[EventRecord]:
        found = [
            e
            for e in self._events
            if e.id > after
            and (before is None or e.id < before)
            and e.at >= since
            and endpoint in (None, e.endpoint)
            and (not kinds or e.kind in kinds)
        ]
        return found[max(len(found) - limit, 0) :] if newest else found[:limit]

    # Marks

    async def mark(self, name: str) -> str | None:
        return self._marks.get(name)

    async def set_mark(self, name: str, value: str) -> None:
        self._marks[name] = value

    def _taken(self, record: EndpointRecord) -> bool:
        others = (e for e in self._endpoints.values() if e.id != record.id)
        return any(e.name == record.name for e in others)

    def _put(self, record: EndpointRecord) -> EndpointRecord:
        for config in (record.active, record.pending):
            if config is not None:
                self._configs[record.id, config.version] = config
        self._endpoints[record.id] = record
        return record

    def _composed(self, record: EndpointRecord) -> EndpointRecord:
        """As a database gives it back: a config is stored once, under its version."""
        active, pending = record.active, record.pending
        return replace(
            record,
            active=active and self._configs[record.id, active.version],
            pending=pending and self._configs[record.id, pending.version],
        )

    def _add_events(self, told: Sequence[EventRecord]) -> None:
        for event in told:
            self._last_event += 1
            self._events.append(replace(event, id=self._last_event))
        del self._events[:-EVENTS_KEPT]
