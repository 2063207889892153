"""Secrets: scopes of encrypted values, who may read them, and the vault that gives them out.

`Secrets` holds everything in memory as it is stored, encrypted; a value is decrypted when it is
used and kept nowhere. Only the server writes, so memory is never behind the store. The names of
scopes and keys keep their case and are found whatever the case, as on Databricks.
"""

import asyncio
import base64
import binascii
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakeport.auth.callers import ADMINS, USERS, Caller, ScopePermission
from lakeport.auth.scopes import Scope
from lakeport.auth.sealing import CannotOpen, Sealer
from lakeport.errors import (
    Internal,
    InvalidParameter,
    LimitExceeded,
    NotFound,
    ScopeExists,
)
from lakeport.providers.base import KeyUnavailable
from lakeport.stores.base import Store
from lakeport.stores.records import EndpointRecord, SecretAclRecord, SecretRecord, SecretScopeRecord
from lakeport.wire.secrets import NAME, parse_reference

#: As on Databricks.
MAX_SCOPES = 1000
MAX_SECRETS = 1000
MAX_VALUE = 128 * 1024
#: Of one scope.
MAX_ACLS = 1000
#: Bytes of all values: they are in memory.
MAX_TOTAL = 256 * 1024 * 1024
MAX_PRINCIPAL = 255

_SEALED = "sealed:"
_SEALED_CONTEXT = "lakeport/sealed/1"


class Secrets:
    """All secrets of the workspace, and the `providers.base.Vault`. `start` comes first.

    `key_file` is made when the first value is encrypted. While stored secrets need another key
    than the one in the file, nothing new is encrypted: the right file may yet be put back.
    """

    def __init__(self, store: Store, key_file: Path, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._sealer = Sealer(key_file)
        self._now_ms = now_ms
        #: By name in lower case.
        self._scopes: dict[str, Scope] = {}
        #: How many secrets each key encrypted.
        self._key_ids: Counter[str] = Counter()
        self._total = 0
        #: One change at a time, stored first.
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Read everything. Raises StoreError."""
        self._sealer.load()
        for scope in await self._store.secret_scopes():
            self._scopes[scope.name.lower()] = Scope(scope)
        for acl in await self._store.secret_acls():
            self._scopes[acl.scope.lower()].permissions[acl.principal] = acl.permission
        for secret in await self._store.secrets():
            self._keep(self._scopes[secret.scope.lower()], secret)
        for endpoint in await self._store.endpoints():
            # Their keys need the key file too; until the next start they count, gone or not.
            self._key_ids.update(_sealed_with(endpoint))

    # --- the vault --------------------------------------------------------------------------

    async def reveal(self, reference: str) -> str:
        """See `providers.base.Vault`."""
        if reference.startswith(_SEALED):
            clear = self._unsealed(reference)
            what = "the key"
        else:
            parsed = parse_reference(reference)
            if parsed is None:
                raise KeyUnavailable("expected a reference of the form {{secrets/scope/key}}")
            what = f"the secret {reference}"
            record = self._secret(*parsed)
            if record is None:
                raise KeyUnavailable(f"{what} does not exist")
            clear = self._opened(record, what)
        try:
            return clear.decode()
        except UnicodeDecodeError:
            raise KeyUnavailable(f"{what} is not text in UTF-8") from None

    def seal(self, value: str) -> str:
        """See `providers.base.Vault`."""
        self._require_key()
        sealed = self._sealer.seal(value.encode(), _SEALED_CONTEXT)
        text = base64.urlsafe_b64encode(sealed).decode("ascii")
        return f"{_SEALED}{self._sealer.key_id}:{text}"

    def check(self, caller: Caller, reference: str, at: str) -> None:
        """Whether `caller` may have "{{secrets/SCOPE/KEY}}" used in the field `at`.

        Raises InvalidParameter, NotFound or PermissionDenied, naming the field and the secret.
        """
        parsed = parse_reference(reference)
        if parsed is None:
            raise InvalidParameter(f"{at}: expected a reference {{{{secrets/scope/key}}}}.")
        name, key = parsed
        scope = self._scopes.get(name.lower())
        if scope is None:
            raise NotFound(f"{at}: the scope '{name}' of secrets does not exist.")
        scope.require(caller, ScopePermission.READ, at=f"{at}: ")
        if key.lower() not in scope.secrets:
            raise NotFound(f"{at}: the scope '{name}' has no secret '{key}'.")

    # --- scopes -----------------------------------------------------------------------------

    async def create_scope(self, caller: Caller, name: str, *, for_all: bool) -> None:
        """A new scope, managed by `caller`, or by everybody.

        Raises InvalidParameter, ScopeExists, LimitExceeded, StoreError.
        """
        _require_name(name, "scope")
        async with self._changing:
            if name.lower() in self._scopes:
                raise ScopeExists(f"Scope {name} already exists")
            if len(self._scopes) >= MAX_SCOPES:
                raise LimitExceeded(
                    f"The workspace has {MAX_SCOPES} scopes of secrets, which is the most."
                )
            record = SecretScopeRecord(name, self._now_ms(), caller.name)
            principal = USERS if for_all else caller.name
            acl = SecretAclRecord(name, principal, ScopePermission.MANAGE)
            await self._store.insert_secret_scope(record, acl)
            self._scopes[name.lower()] = Scope(record, {principal: acl.permission})

    async def delete_scope(self, caller: Caller, name: str) -> None:
        """With all that is in it. Raises NotFound, PermissionDenied, StoreError."""
        async with self._changing:
            scope = self._find(caller, name, ScopePermission.MANAGE)
            await self._store.delete_secret_scope(scope.name)
            del self._scopes[name.lower()]
            for record in scope.secrets.values():
                self._forget(record)

    async def scopes(self, caller: Caller) -> Sequence[SecretScopeRecord]:
        """All of them, by name: names of scopes are no secret (Databricks' documentation)."""
        return [self._scopes[name].record for name in sorted(self._scopes)]

    # --- secrets ----------------------------------------------------------------------------

    async def put(self, caller: Caller, scope: str, key: str, value: bytes) -> None:
        """Store a secret, in the place of one that is there.

        Raises InvalidParameter, LimitExceeded, NotFound, PermissionDenied, StoreError; Internal
        when the key file is lost or not the right one.
        """
        _require_name(key, "key")
        if len(value) > MAX_VALUE:
            raise InvalidParameter(
                f"The value has {len(value)} bytes; expected at most {MAX_VALUE}."
            )
        async with self._changing:
            place = self._find(caller, scope, ScopePermission.WRITE)
            old = place.secrets.get(key.lower())
            if old is None and len(place.secrets) >= MAX_SECRETS:
                raise LimitExceeded(
                    f"The scope {place.name} has {MAX_SECRETS} secrets, which is the most."
                )
            others = self._total - (len(old.ciphertext) if old else 0)
            if others + len(value) > MAX_TOTAL:
                raise LimitExceeded(
                    f"The workspace's secrets have {MAX_TOTAL} bytes together, which is the most."
                )
            self._require_key()
            name, key = place.name, old.key if old else key
            record = SecretRecord(
                scope=name,
                key=key,
                key_id=self._sealer.key_id or "",
                ciphertext=self._sealer.seal(value, _context(name, key)),
                updated_at=self._now_ms(),
            )
            await self._store.save_secret(record)
            if old is not None:
                self._forget(old)
            self._keep(place, record)

    async def delete(self, caller: Caller, scope: str, key: str) -> None:
        """Raises NotFound, PermissionDenied, StoreError."""
        async with self._changing:
            place = self._find(caller, scope, ScopePermission.WRITE)
            record = place.secret(key)
            await self._store.delete_secret(record.scope, record.key)
            del place.secrets[key.lower()]
            self._forget(record)

    async def get(self, caller: Caller, scope: str, key: str) -> tuple[str, bytes]:
        """A secret's name and its value in clear.

        Raises NotFound, PermissionDenied; Internal when it cannot be decrypted.
        """
        record = self._find(caller, scope, ScopePermission.READ).secret(key)
        try:
            return record.key, self._opened(record, "The secret")
        except KeyUnavailable as problem:
            raise Internal(f"{problem}.") from problem

    async def list(self, caller: Caller, scope: str) -> Sequence[SecretRecord]:
        """By key. Raises NotFound, PermissionDenied."""
        place = self._find(caller, scope, ScopePermission.READ)
        return [place.secrets[key] for key in sorted(place.secrets)]

    # --- permissions ------------------------------------------------------------------------

    async def put_acl(
        self, caller: Caller, scope: str, principal: str, permission: ScopePermission
    ) -> None:
        """Raises InvalidParameter, LimitExceeded, NotFound, PermissionDenied, StoreError."""
        if not 0 < len(principal) <= MAX_PRINCIPAL or not principal.isprintable():
            raise InvalidParameter(
                f"principal: expected the name of a user or group, of 1 to {MAX_PRINCIPAL} "
                "printable characters."
            )
        if principal == ADMINS and permission is not ScopePermission.MANAGE:
            raise InvalidParameter(f"permission: the group '{ADMINS}' holds MANAGE on every scope.")
        async with self._changing:
            place = self._find(caller, scope, ScopePermission.MANAGE)
            if principal not in place.permissions and len(place.permissions) >= MAX_ACLS:
                raise LimitExceeded(
                    f"The scope {place.name} has {MAX_ACLS} permissions, which is the most."
                )
            record = SecretAclRecord(place.name, principal, permission)
            await self._store.save_secret_acl(record)
            place.permissions[principal] = permission

    async def delete_acl(self, caller: Caller, scope: str, principal: str) -> None:
        """Raises NotFound, PermissionDenied, StoreError."""
        async with self._changing:
            place = self._find(caller, scope, ScopePermission.MANAGE)
            place.granted(principal)
            await self._store.delete_secret_acl(place.name, principal)
            del place.permissions[principal]

    async def acl(self, caller: Caller, scope: str, principal: str) -> ScopePermission:
        """What was granted to a principal. Raises NotFound, PermissionDenied."""
        return self._find(caller, scope, ScopePermission.MANAGE).granted(principal)

    async def acls(self, caller: Caller, scope: str) -> Sequence[tuple[str, ScopePermission]]:
        """What was granted, by principal. Raises NotFound, PermissionDenied."""
        return sorted(self._find(caller, scope, ScopePermission.MANAGE).permissions.items())

    # --- inside -----------------------------------------------------------------------------

    def _find(self, caller: Caller, name: str, needed: ScopePermission) -> Scope:
        scope = self._scopes.get(name.lower())
        if scope is None:
            raise NotFound(f"Scope {name[:128]} does not exist")
        scope.require(caller, needed)
        return scope

    def _secret(self, scope: str, key: str) -> SecretRecord | None:
        place = self._scopes.get(scope.lower())
        return place.secrets.get(key.lower()) if place else None

    def _keep(self, place: Scope, record: SecretRecord) -> None:
        place.secrets[record.key.lower()] = record
        self._key_ids[record.key_id] += 1
        self._total += len(record.ciphertext)

    def _forget(self, record: SecretRecord) -> None:
        self._key_ids -= Counter([record.key_id])  # drops what is down to zero
        self._total -= len(record.ciphertext)

    def _opened(self, record: SecretRecord, what: str) -> bytes:
        context = _context(record.scope, record.key)
        try:
            return self._sealer.open(record.ciphertext, context, record.key_id)
        except CannotOpen as problem:
            raise KeyUnavailable(f"{what} cannot be decrypted: {problem}") from problem

    def _unsealed(self, text: str) -> bytes:
        key_id, _, body = text.removeprefix(_SEALED).partition(":")
        try:
            sealed = base64.b64decode(body, altchars=b"-_", validate=True)
            return self._sealer.open(sealed, _SEALED_CONTEXT, key_id)
        except (binascii.Error, CannotOpen) as problem:
            raise KeyUnavailable(f"the key cannot be decrypted: {problem}") from problem

    def _require_key(self) -> None:
        """A key to encrypt with, made now where nothing needs an older one. Raises Internal."""
        sealer = self._sealer
        if sealer.key_id is None or self._key_ids.keys() - {sealer.key_id}:
            sealer.load()
        if sealer.key_id is None and not self._key_ids and sealer.missing:
            sealer.make()
        if sealer.key_id is None or self._key_ids.keys() - {sealer.key_id}:
            raise Internal(
                "Nothing can be encrypted: the key file (secrets.key) of the stored secrets is "
                "lost, or is not the one in the server's home. The server's operator must put it "
                "back, or, where it is gone for good, delete those secrets, and the endpoints with "
                "keys in plain text, and start the server again."
            )


def _sealed_with(endpoint: EndpointRecord) -> Iterator[str]:
    """The ids of the keys that an endpoint's configs were sealed with."""
    configs = [config for config in (endpoint.active, endpoint.pending) if config is not None]
    left: list[Any] = [entity.external for config in configs for entity in config.entities]
    while left:
        match left.pop():
            case Mapping() as members:
                left += members.values()
            case str() as text if text.startswith(_SEALED):
                yield text.removeprefix(_SEALED).partition(":")[0]


def _context(scope: str, key: str) -> str:
    return f"lakeport/secret/1/{scope}/{key}"


def _require_name(name: str, field: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidParameter(
            f"{field}: {name[:80]!r} is not a valid name; expected 1 to 128 letters, digits, '-', "
            "'_', '@' and '.'."
        )
