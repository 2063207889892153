"""What the HTTP edge needs besides `control.ports` and `serving.ports`."""

from collections.abc import Sequence
from typing import Protocol

from lakeport.auth.callers import Caller, ScopePermission
from lakeport.stores.records import SecretRecord, SecretScopeRecord, TokenRecord


class TokensPort(Protocol):
    """`auth/tokens.py` is the implementation. Methods raise `lakeport.errors.ApiError`s, and
    `stores.base.StoreError` where they need the store."""

    def authenticate(self, header: bytes | None) -> Caller:
        """Who sent this `Authorization` header, from the snapshot in memory.

        Called on every request: no I/O. Raises Unauthenticated.
        """
        ...

    async def refresh_authenticate(self, header: bytes | None) -> Caller:
        """As `authenticate`, after a look at the store: a token made by `lakeport token` meanwhile
        is known from its first use. Bounds by itself how often it looks. Raises Unauthenticated,
        and `stores.base.StoreError` when the store could not be read."""
        ...

    async def create(
        self, caller: Caller, *, comment: str, lifetime_seconds: int | None
    ) -> tuple[str, TokenRecord]:
        """A new token of `caller`'s own: its value, shown this once, and its record."""
        ...

    async def list(self, caller: Caller) -> Sequence[TokenRecord]:
        """The caller's own tokens."""
        ...

    async def delete(self, caller: Caller, token_id: str) -> None:
        """Raises NotFound when the caller has no such token."""
        ...


class SecretsPort(Protocol):
    """`auth/secrets.py` is the implementation. Methods raise `lakeport.errors.ApiError`s, and
    `stores.base.StoreError` where they need the store."""

    async def create_scope(self, caller: Caller, name: str, *, for_all: bool) -> None: ...
    async def delete_scope(self, caller: Caller, name: str) -> None: ...
    async def scopes(self, caller: Caller) -> Sequence[SecretScopeRecord]: ...
    async def put(self, caller: Caller, scope: str, key: str, value: bytes) -> None: ...
    async def delete(self, caller: Caller, scope: str, key: str) -> None: ...
    async def get(self, caller: Caller, scope: str, key: str) -> tuple[str, bytes]:
        """The secret's name and its value in clear."""
        ...

    async def list(self, caller: Caller, scope: str) -> Sequence[SecretRecord]: ...
    async def put_acl(
        self, caller: Caller, scope: str, principal: str, permission: ScopePermission
    ) -> None: ...
    async def delete_acl(self, caller: Caller, scope: str, principal: str) -> None: ...
    async def acl(self, caller: Caller, scope: str, principal: str) -> ScopePermission: ...
    async def acls(self, caller: Caller, scope: str) -> Sequence[tuple[str, ScopePermission]]: ...
