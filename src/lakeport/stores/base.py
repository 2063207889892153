"""The store's port: what the rest of Lakeport may ask of a database.

Each method is one transaction: it has happened, durably, when it returns, or it has not at all.
A caller that is cancelled meanwhile cannot know which of the two. Any method may raise StoreError.
Adapters are held to one suite, `tests/suites/store.py`.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

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

#: About this many events are kept.
EVENTS_KEPT = 10_000


class StoreError(Exception):
    """The database could not do it: full disk, lost connection. Nothing was changed."""


class StaleRecord(StoreError):
    """Somebody else saved this record meanwhile."""


class Store(Protocol):
    async def open(self) -> None:
        """Create or migrate the schema and connect. Raises StoreError."""

    async def close(self) -> None: ...

    # Endpoints
    async def endpoints(self) -> Sequence[EndpointRecord]:
        """All endpoints, ordered by name."""

    async def insert_endpoint(self, record: EndpointRecord) -> EndpointRecord:
        """Store a new endpoint and return it with its revision.

        Raises AlreadyExists (lakeport.errors) when the name is taken.
        """

    async def save_endpoint(self, record: EndpointRecord, *events: EventRecord) -> EndpointRecord:
        """Replace an endpoint, with the events that tell of it; returns it with its new revision.

        Raises StaleRecord unless `record.revision` is the stored one; NotFound when it is gone.
        Configs that were ever active or pending stay readable by `config`.
        """

    async def delete_endpoint(self, id: str, *events: EventRecord) -> None:
        """Remove an endpoint and its configs, and store the events that tell of it.

        One that is gone already is no error, and nothing is told of it twice.
        """

    async def config(self, endpoint_id: str, version: int) -> ConfigRecord | None:
        """A config that is, or ever was, active or pending; None when there is none."""

    # Callers and tokens
    async def callers(self) -> Sequence[CallerRecord]: ...

    async def save_caller(self, record: CallerRecord) -> None:
        """Insert, or replace the one with the same name."""

    async def tokens(self) -> Sequence[TokenRecord]: ...

    async def insert_token(self, record: TokenRecord) -> None: ...

    async def delete_token(self, id: str) -> bool:
        """False when there was none."""

    # Secrets
    async def secret_scopes(self) -> Sequence[SecretScopeRecord]: ...

    async def insert_secret_scope(self, record: SecretScopeRecord, acl: SecretAclRecord) -> None:
        """A new scope with its first permission. Raises AlreadyExists."""

    async def delete_secret_scope(self, name: str) -> bool:
        """With its secrets and permissions; False when there was none."""

    async def secrets(self) -> Sequence[SecretRecord]: ...

    async def save_secret(self, record: SecretRecord) -> None:
        """Insert, or replace the one with the same scope and key. Raises StoreError without the
        scope."""

    async def delete_secret(self, scope: str, key: str) -> bool:
        """False when there was none."""

    async def secret_acls(self) -> Sequence[SecretAclRecord]: ...

    async def save_secret_acl(self, record: SecretAclRecord) -> None:
        """Insert, or replace the one with the same scope and principal. Raises StoreError without
        the scope."""

    async def delete_secret_acl(self, scope: str, principal: str) -> bool:
        """False when there was none."""

    # Events
    async def add_event(self, event: EventRecord) -> None: ...

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
        """Events with an id above `after` and below `before`, of `since` (milliseconds since the
        epoch) or later, of one of the kinds (empty: of all); oldest first. The first `limit` of
        them, or with `newest` the last.

        The newest EVENTS_KEPT of all endpoints are kept; those of deleted endpoints too.
        """

    # Marks: small named facts, e.g. the workspace id
    async def mark(self, name: str) -> str | None: ...

    async def set_mark(self, name: str, value: str) -> None: ...
