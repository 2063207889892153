"""Tokens: who a request comes from, decided without touching the database.

A token is `dapi` and 64 hex digits: 256 random bits, as Databricks' personal access tokens look.
The store keeps its SHA-256. `Tokens` holds all of them in memory, by digest: finding one takes no
comparison of secrets, and how long it takes tells nothing, since nobody can choose a digest.

`lakeport token` writes to the same store from another process, then adds a byte to the file
HOME/token-changes. A running server looks at that file's size when it meets an unknown token, and
once a second, and reads the store only when it has grown: unknown tokens, however many, never lead
to a look into the database.
"""

import asyncio
import base64
import binascii
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lakeport.auth.callers import ADMINS, USERS, Caller
from lakeport.errors import InvalidParameter, InvalidState, NotFound, Unauthenticated
from lakeport.home import write_private
from lakeport.stores.base import Store, StoreError
from lakeport.stores.records import CallerRecord, TokenRecord
from lakeport.telemetry.ticks import pause

#: The name of the caller that `LAKEPORT_ADMIN_TOKEN` and HOME/admin-token stand for.
ADMIN = "admin"
#: As on Databricks.
TOKENS_PER_CALLER = 600
MAX_LIFETIME_SECONDS = 100 * 365 * 24 * 3600
MAX_COMMENT = 1024
MAX_NAME = 255
#: Longer ones are not tokens of anybody, and not worth hashing.
_MAX_TOKEN = 4096
#: The mark that names the token in HOME/admin-token.
_FIRST_MARK = "first-admin-token"

MISSING = (
    "The request has no Authorization header. Send 'Authorization: Bearer <token>'; "
    "`lakeport token` on the server makes a token."
)
NOT_BEARER = (
    "The Authorization header must be 'Bearer <token>', or 'Basic' with a token as the password."
)
UNKNOWN = (
    "The token is unknown, was deleted, or has expired. `lakeport token` on the server makes one."
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """Whom a token stands for, and until when (milliseconds since the epoch)."""

    caller: Caller
    expires_at: int | None = None


class Tokens:
    """All tokens of the workspace. `start` or `load` comes first.

    `changes` is the file that tells of other processes' changes. `admin_token` is the operator's
    own, kept as a digest in memory only; while it is given, the token in HOME/admin-token is
    refused. `open_to_all` (auth=off) makes every request the admin's. `clock` gives seconds since
    the epoch.
    """

    def __init__(
        self,
        store: Store,
        *,
        changes: Path | None = None,
        admin_token: str | None = None,
        open_to_all: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._admin_digest = _digest(admin_token.encode()) if admin_token is not None else None
        self._open_to_all = open_to_all
        self._clock = clock
        self._changes = changes
        self._seen = -1
        self._admin = Caller(id=ADMIN, name=ADMIN, groups=frozenset({ADMINS, USERS}))
        self._callers: dict[str, CallerRecord] = {}
        self._records: dict[str, TokenRecord] = {}
        #: What `authenticate` reads: digest to caller, replaced in one assignment.
        self._known: dict[bytes, _Known] = {}
        #: One change at a time, so that a slow read never brings back what was deleted meanwhile.
        self._changing = asyncio.Lock()

    # The hot path

    def authenticate(self, header: bytes | None) -> Caller:
        """The caller behind an Authorization header's value. Raises Unauthenticated."""
        if self._open_to_all:
            return self._admin
        if header is None:
            raise Unauthenticated(MISSING)
        known = self._known.get(_digest(_token_in(header)))
        if known is None:
            raise Unauthenticated(UNKNOWN)
        if known.expires_at is not None and known.expires_at <= self._now():
            raise Unauthenticated(UNKNOWN)
        return known.caller

    async def refresh_authenticate(self, header: bytes | None) -> Caller:
        """As `authenticate`, knowing every token that `lakeport token` has printed until now.

        For headers that `authenticate` refused. Reads the store only when there is something new,
        once for all who wait. Raises Unauthenticated, StoreError.
        """
        await self._refresh()
        return self.authenticate(header)

    # Life

    async def start(self, admin_file: Path) -> str | None:
        """Read all tokens; at the first start make the admin's and leave it in `admin_file`.

        Returns that token when it was made now, to be shown this once. None is made when the
        operator has given one or `open_to_all`. Raises StoreError, OSError.
        """
        await self._ensure_caller(ADMIN, None)
        await self.load()
        await self._delete_expired()
        if self._admin_digest or self._open_to_all or await self._store.mark(_FIRST_MARK):
            return None
        token, record = _new_token(ADMIN, "made at the first start", self._now(), None)
        # The file first: after a crash in between, the next start makes another token and file.
        write_private(admin_file, token + "\n")
        await self._store.insert_token(record)
        await self._store.set_mark(_FIRST_MARK, record.id)
        await self.load()
        return token

    async def watch(self, *, seconds: float = 1) -> None:
        """Take notice of other processes' changes, of a caller's groups too, until cancelled."""
        while True:
            await asyncio.sleep(pause(seconds))
            try:
                await self._refresh()
            except StoreError as error:
                _log.warning("the tokens could not be read anew: %s", error)

    async def load(self) -> None:
        """Read everything from the store anew. Raises StoreError; then nothing changes."""
        async with self._changing:
            await self._read()

    async def _refresh(self) -> None:
        if self._size_of_changes() != self._seen:
            async with self._changing:
                if self._size_of_changes() != self._seen:  # nobody did it while we waited
                    await self._read()

    async def _read(self) -> None:
        seen = self._size_of_changes()  # before the store: what is added meanwhile is read again
        # Tokens first: a caller is stored before its tokens.
        records = await self._store.tokens()
        callers = await self._store.callers()
        first = await self._store.mark(_FIRST_MARK)
        if self._admin_digest:
            records = [record for record in records if record.id != first]
        self._callers = {record.name: record for record in callers}
        self._records = {record.id: record for record in records}
        self._publish()
        self._seen = seen

    # Use cases

    async def create(
        self, caller: Caller, *, comment: str = "", lifetime_seconds: int | None = None
    ) -> tuple[str, TokenRecord]:
        """A new token for `caller`, and for nobody else; its value is never to be had again.

        Raises InvalidParameter for a lifetime or comment out of bounds, InvalidState when the
        caller has too many, StoreError.
        """
        if lifetime_seconds is not None and not 0 < lifetime_seconds <= MAX_LIFETIME_SECONDS:
            raise InvalidParameter(
                f"lifetime_seconds must be between 1 and {MAX_LIFETIME_SECONDS}, "
                f"not {str(lifetime_seconds)[:32]}; leave it out for a token that does not expire"
            )
        if len(comment) > MAX_COMMENT:
            raise InvalidParameter(f"comment must have at most {MAX_COMMENT} characters")
        async with self._changing:
            if len(self._of(caller)) >= TOKENS_PER_CALLER:
                await self._delete_expired()
            if len(self._of(caller)) >= TOKENS_PER_CALLER:
                raise InvalidState(
                    f"{caller.name} has {TOKENS_PER_CALLER} tokens, which is the most; delete some"
                )
            token, record = _new_token(caller.name, comment, self._now(), lifetime_seconds)
            await self._store.insert_token(record)
            self._records[record.id] = record
            self._publish()
        return token, record

    async def list(self, caller: Caller) -> Sequence[TokenRecord]:
        """The caller's own tokens that have not expired, oldest first."""
        await self._refresh()
        now = self._now()
        return [record for record in self._of(caller) if not _expired(record, now)]

    async def delete(self, caller: Caller, token_id: str) -> None:
        """Revoke a token at once: the caller's own, or anybody's when the caller is an admin.

        Raises NotFound, for somebody else's token too; StoreError, and then it is still valid.
        """
        await self._refresh()
        async with self._changing:
            record = self._records.get(token_id)
            if record is None or not (caller.admin or record.caller == caller.name):
                raise NotFound(f"Token {token_id[:64]} does not exist")
            # Out of memory first: should this be cancelled, the token must not live on there.
            del self._records[token_id]
            self._publish()
            try:
                await self._store.delete_token(token_id)
            except StoreError:
                self._records[token_id] = record
                self._publish()
                raise

    async def issue(
        self,
        name: str,
        groups: Iterable[str] | None,
        *,
        comment: str = "",
        lifetime_seconds: int | None = None,
    ) -> tuple[str, TokenRecord]:
        """A token for anybody, as the home's owner may make: `lakeport token`.

        The caller `name` is made when there is none; `groups`, when given, replaces its groups.
        Raises InvalidParameter, InvalidState, StoreError, OSError.
        """
        record = await self._ensure_caller(name, groups)
        await self.load()
        try:
            return await self.create(
                _caller(record), comment=comment, lifetime_seconds=lifetime_seconds
            )
        finally:
            self._tell_of_changes()  # the groups may have changed even when this failed

    async def _ensure_caller(self, name: str, groups: Iterable[str] | None) -> CallerRecord:
        for word, value in (("caller", name), *(("group", group) for group in groups or ())):
            if not 0 < len(value) <= MAX_NAME or not value.isprintable() or value != value.strip():
                raise InvalidParameter(
                    f"The name of a {word} must have 1 to {MAX_NAME} printable characters, without "
                    f"spaces around it, and {value[:64]!r} does not"
                )
        stored = {record.name: record for record in await self._store.callers()}
        record = stored.get(name)
        if record is not None and groups is None:
            return record
        wanted = frozenset(groups or ()) | {USERS} | ({ADMINS} if name == ADMIN else frozenset())
        if record is None or record.groups != wanted:
            id = record.id if record else str(10**15 + secrets.randbelow(9 * 10**15))
            made = record.created_at if record else self._now()
            record = CallerRecord(id=id, name=name, groups=wanted, created_at=made)
            await self._store.save_caller(record)
        return record

    async def _delete_expired(self) -> None:
        for record in [r for r in self._records.values() if _expired(r, self._now())]:
            del self._records[record.id]
            await self._store.delete_token(record.id)

    def _publish(self) -> None:
        callers = {name: _caller(record) for name, record in self._callers.items()}
        known = {
            bytes.fromhex(record.digest): _Known(callers[record.caller], record.expires_at)
            for record in self._records.values()
            if record.caller in callers
        }
        self._admin = callers.get(ADMIN, self._admin)
        if self._admin_digest:
            known[self._admin_digest] = _Known(self._admin)
        self._known = known

    def _of(self, caller: Caller) -> Sequence[TokenRecord]:
        return [record for record in self._records.values() if record.caller == caller.name]

    def _size_of_changes(self) -> int:
        try:
            return self._changes.stat().st_size if self._changes is not None else 0
        except FileNotFoundError:
            return 0

    def _tell_of_changes(self) -> None:
        if self._changes is not None:
            file = os.open(self._changes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(file, b"\n")
            finally:
                os.close(file)

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _caller(record: CallerRecord) -> Caller:
    return Caller(id=record.id, name=record.name, groups=record.groups | {USERS})


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _expired(record: TokenRecord, now: int) -> bool:
    return record.expires_at is not None and record.expires_at <= now


def _new_token(
    caller: str, comment: str, now: int, lifetime_seconds: int | None
) -> tuple[str, TokenRecord]:
    token = "dapi" + secrets.token_hex(32)
    return token, TokenRecord(
        id=secrets.token_hex(32),
        digest=_digest(token.encode()).hex(),
        caller=caller,
        comment=comment,
        created_at=now,
        expires_at=None if lifetime_seconds is None else now + lifetime_seconds * 1000,
    )


def _token_in(authorization: bytes) -> bytes:
    """The token of a Bearer header, or the password of a Basic one, which MLflow's clients send
    for MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""
    scheme, _, rest = authorization.partition(b" ")
    rest = rest.strip()
    if not rest or len(rest) > _MAX_TOKEN:
        raise Unauthenticated(NOT_BEARER)
    match scheme.lower():
        case b"bearer":
            return rest
        case b"basic":
            try:
                return base64.b64decode(rest, validate=True).partition(b":")[2]
            except binascii.Error as error:
                raise Unauthenticated(NOT_BEARER) from error
        case _:
            raise Unauthenticated(NOT_BEARER)
