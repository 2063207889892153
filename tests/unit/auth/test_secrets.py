"""Scopes of secrets, who may use them, and the vault."""

import base64
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lakeport.auth import secrets as module
from lakeport.auth.callers import ADMINS, USERS, Caller, ScopePermission
from lakeport.auth.secrets import MAX_VALUE, Secrets
from lakeport.errors import (
    ApiError,
    Internal,
    InvalidParameter,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    ScopeExists,
)
from lakeport.providers.base import KeyUnavailable
from lakeport.stores.memory import MemoryStore
from lakeport.stores.records import ConfigRecord, EndpointRecord, EntityRecord, RouteRecord

ADMIN = Caller("1", "admin", frozenset({ADMINS, USERS}))
ADA = Caller("2", "ada", frozenset({USERS}))
BOB = Caller("3", "bob", frozenset({USERS, "team"}))
READ, WRITE, MANAGE = ScopePermission
CANARY = "canary-5f1c0a77e2"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "secrets.key"


@pytest.fixture
async def secrets(store: MemoryStore, key_file: Path) -> Secrets:
    """Ada's scope `s`, with the secret `k`."""
    made = await started(store, key_file)
    await made.create_scope(ADA, "s", for_all=False)
    await made.put(ADA, "s", "k", CANARY.encode())
    return made


async def started(store: MemoryStore, key_file: Path) -> Secrets:
    made = Secrets(store, key_file, now_ms=lambda: 1_700_000_000_000)
    await made.start()
    return made


def content_of(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def replace_by(path: Path, content: str | None, mode: int = 0o600) -> None:
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
        path.chmod(mode)


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"text", bytes(range(256)), b"x" * MAX_VALUE])
async def test_a_value_comes_back_as_it_was_put(
    secrets: Secrets, store: MemoryStore, key_file: Path, value: bytes
) -> None:
    await secrets.put(ADA, "s", "bytes", value)

    assert await secrets.get(ADA, "s", "bytes") == ("bytes", value)
    again = await started(store, key_file)
    assert await again.get(ADA, "s", "bytes") == ("bytes", value)


async def test_a_value_is_bounded(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidParameter, match=f"{MAX_VALUE}"):
        await secrets.put(ADA, "s", "long", b"x" * (MAX_VALUE + 1))
    monkeypatch.setattr(module, "MAX_TOTAL", 1000)
    with pytest.raises(LimitExceeded, match="1000"):
        await secrets.put(ADA, "s", "more", b"x" * 1000)


async def test_a_value_makes_room_for_the_one_that_takes_its_place(
    secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    await secrets.put(ADA, "s", "most", b"x" * 900)
    monkeypatch.setattr(module, "MAX_TOTAL", 1000)

    await secrets.put(ADA, "s", "most", b"y" * 800)

    assert await secrets.get(ADA, "s", "most") == ("most", b"y" * 800)


async def test_scopes_and_keys_are_found_whatever_their_case_and_keep_it(
    secrets: Secrets, store: MemoryStore
) -> None:
    await secrets.create_scope(ADA, "MiXed", for_all=False)
    await secrets.put(ADA, "mixed", "Key", b"1")
    await secrets.put(ADA, "MIXED", "KEY", b"2")

    assert [record.name for record in await secrets.scopes(BOB)] == ["MiXed", "s"]
    assert await secrets.get(ADA, "mixed", "key") == ("Key", b"2")
    assert await secrets.reveal("{{secrets/mixed/kEY}}") == "2"
    assert [(r.scope, r.key) for r in await store.secrets()] == [("MiXed", "Key"), ("s", "k")]
    with pytest.raises(ScopeExists):
        await secrets.create_scope(BOB, "mIXED", for_all=True)


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "x" * 129, "ü", "a\n", "{a}", "../a", "a\0", "\ud800"]
)
async def test_a_name_that_cannot_be_is_refused(secrets: Secrets, name: str) -> None:
    with pytest.raises(InvalidParameter, match="scope"):
        await secrets.create_scope(ADA, name, for_all=False)
    with pytest.raises(InvalidParameter, match="key"):
        await secrets.put(ADA, "s", name, b"x")


async def test_every_character_that_databricks_takes_is_taken(secrets: Secrets) -> None:
    name = "Az09-_.@" * 16

    await secrets.create_scope(ADA, name, for_all=False)
    await secrets.put(ADA, name, name, b"x")

    assert await secrets.reveal(f"{{{{secrets/{name}/{name}}}}}") == "x"


async def test_there_are_only_so_many(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MAX_SCOPES", "MAX_SECRETS", "MAX_ACLS"):
        monkeypatch.setattr(module, limit, 1)

    with pytest.raises(LimitExceeded, match="scopes"):
        await secrets.create_scope(ADA, "another", for_all=False)
    with pytest.raises(LimitExceeded, match="secrets"):
        await secrets.put(ADA, "s", "another", b"x")
    with pytest.raises(LimitExceeded, match="permissions"):
        await secrets.put_acl(ADA, "s", "bob", READ)

    await secrets.put(ADA, "s", "k", b"in its place")
    await secrets.put_acl(ADA, "s", "ada", MANAGE)


# --- permissions --------------------------------------------------------------------------------


@pytest.mark.parametrize("principal", ["bob", "team", USERS])
async def test_each_action_needs_its_permission(secrets: Secrets, principal: str) -> None:
    async def allowed() -> list[str]:
        actions = {
            "list": lambda: secrets.list(BOB, "s"),
            "get": lambda: secrets.get(BOB, "s", "k"),
            "put": lambda: secrets.put(BOB, "s", "new", b"x"),
            "delete": lambda: secrets.delete(BOB, "s", "new"),
            "acls": lambda: secrets.acls(BOB, "s"),
            "acl": lambda: secrets.acl(BOB, "s", "ada"),
            "put_acl": lambda: secrets.put_acl(BOB, "s", "eve", READ),
            "delete_acl": lambda: secrets.delete_acl(BOB, "s", "eve"),
        }
        done = []
        for name, act in actions.items():
            with suppress(PermissionDenied):
                await act()
                done.append(name)
        return done

    reading, writing = ["list", "get"], ["put", "delete"]
    managing = ["acls", "acl", "put_acl", "delete_acl"]
    seen = {}
    for permission in (None, READ, WRITE, MANAGE):
        if permission is not None:
            await secrets.put_acl(ADA, "s", principal, permission)
        seen[permission] = await allowed()

    assert seen == {
        None: [],
        READ: reading,
        WRITE: reading + writing,
        MANAGE: reading + writing + managing,
    }
    await secrets.delete_acl(ADA, "s", principal)
    assert await allowed() == []


async def test_the_highest_permission_counts(secrets: Secrets) -> None:
    await secrets.put_acl(ADA, "s", "team", WRITE)
    await secrets.put_acl(ADA, "s", "bob", READ)

    await secrets.put(BOB, "s", "new", b"x")


async def test_who_creates_manages_or_everybody(secrets: Secrets) -> None:
    await secrets.create_scope(ADA, "open", for_all=True)

    assert await secrets.acls(ADA, "s") == [("ada", MANAGE)]
    assert await secrets.acls(BOB, "open") == [(USERS, MANAGE)]


async def test_admins_may_do_everything(secrets: Secrets) -> None:
    assert await secrets.get(ADMIN, "s", "k") == ("k", CANARY.encode())
    with pytest.raises(InvalidParameter, match="admins"):
        await secrets.put_acl(ADMIN, "s", ADMINS, READ)
    await secrets.delete_scope(ADMIN, "s")
    with pytest.raises(NotFound, match="Scope s does not exist"):
        await secrets.list(ADMIN, "s")


async def test_what_is_not_there_is_named(secrets: Secrets) -> None:
    with pytest.raises(NotFound, match="Scope none does not exist"):
        await secrets.get(ADA, "none", "k")
    with pytest.raises(NotFound, match="scope: s and key: none"):
        await secrets.get(ADA, "s", "none")
    with pytest.raises(NotFound, match="scope: s and key: none"):
        await secrets.delete(ADA, "s", "none")
    with pytest.raises(NotFound, match="principal eve"):
        await secrets.acl(ADA, "s", "eve")
    with pytest.raises(NotFound, match="principal eve"):
        await secrets.delete_acl(ADA, "s", "eve")


async def test_who_may_not_read_does_not_learn_which_keys_there_are(secrets: Secrets) -> None:
    for key in ("k", "none"):
        with pytest.raises(PermissionDenied):
            await secrets.get(BOB, "s", key)
        with pytest.raises(PermissionDenied):
            secrets.check(BOB, f"{{{{secrets/s/{key}}}}}", "field")


@pytest.mark.parametrize("name", ["", "x" * 256, "line\nbreak", "nul\0"])
async def test_a_principal_that_cannot_be_is_refused(secrets: Secrets, name: str) -> None:
    with pytest.raises(InvalidParameter, match="principal"):
        await secrets.put_acl(ADA, "s", name, READ)


# --- the vault ----------------------------------------------------------------------------------


async def test_a_reference_is_checked_for_who_uses_it(secrets: Secrets) -> None:
    secrets.check(ADA, "{{secrets/s/k}}", "a.b")
    cases: list[tuple[Caller, str, type[ApiError], str]] = [
        (ADA, "{{secrets/none/k}}", NotFound, "a.b: .*'none'"),
        (ADA, "{{secrets/s/none}}", NotFound, "a.b: .*'s'.*'none'"),
        (BOB, "{{secrets/s/k}}", PermissionDenied, "a.b: .*bob.*READ.*'s'"),
        (ADA, "{{ secrets/s/k }}", InvalidParameter, "a.b: .*{{secrets/scope/key}}"),
    ]
    for caller, reference, kind, words in cases:
        with pytest.raises(kind, match=words):
            secrets.check(caller, reference, "a.b")


async def test_what_is_revealed_follows_what_is_put(secrets: Secrets) -> None:
    assert await secrets.reveal("{{secrets/s/k}}") == CANARY
    await secrets.put(ADA, "s", "k", b"rotated")
    assert await secrets.reveal("{{secrets/s/k}}") == "rotated"
    await secrets.delete(ADA, "s", "k")
    with pytest.raises(KeyUnavailable, match=r"\{\{secrets/s/k\}\} does not exist"):
        await secrets.reveal("{{secrets/s/k}}")


@pytest.mark.parametrize(
    "reference",
    ["", CANARY, "{{secrets/s}}", "{{secrets/s/k}} ", "{{secrets/s/k/x}}", "sealed:", "sealed:x:y"],
)
async def test_nothing_else_is_revealed_and_nothing_is_echoed(
    secrets: Secrets, reference: str
) -> None:
    with pytest.raises(KeyUnavailable) as refused:
        await secrets.reveal(reference)

    assert CANARY not in str(refused.value)


async def test_what_is_no_text_is_not_revealed(secrets: Secrets) -> None:
    await secrets.put(ADA, "s", "bytes", b"\xff\xfe")

    with pytest.raises(KeyUnavailable, match=r"\{\{secrets/s/bytes\}\} is not text"):
        await secrets.reveal("{{secrets/s/bytes}}")


async def test_what_is_sealed_is_revealed_by_this_key_alone(
    secrets: Secrets, store: MemoryStore, key_file: Path, tmp_path: Path
) -> None:
    sealed = secrets.seal(CANARY)

    assert sealed.startswith("sealed:")
    assert secrets.seal(CANARY) != sealed  # a nonce is never used again
    assert await (await started(store, key_file)).reveal(sealed) == CANARY
    other = await started(MemoryStore(), tmp_path / "other.key")
    other.seal("makes its key")
    with pytest.raises(KeyUnavailable, match="another key file"):
        await other.reveal(sealed)


async def test_no_value_is_stored_or_logged_in_clear(
    secrets: Secrets, store: MemoryStore, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sealed = secrets.seal(CANARY)
    await secrets.put(ADA, "s", "again", CANARY.encode())
    await secrets.reveal("{{secrets/s/again}}")

    forms = [CANARY.encode(), base64.b64encode(CANARY.encode()), CANARY.encode().hex().encode()]
    stored = b"".join(record.ciphertext for record in await store.secrets())
    everything = b"\n".join([stored, sealed.encode(), caplog.text.encode(), repr(secrets).encode()])
    assert len(stored) > 2 * len(CANARY)
    assert not [form for form in forms if form in everything]
    assert "ciphertext" not in repr(await store.secrets())


# --- at rest ------------------------------------------------------------------------------------


async def test_a_value_moved_elsewhere_does_not_open(
    secrets: Secrets, store: MemoryStore, key_file: Path
) -> None:
    """Whoever can write to the database cannot have one secret served as another."""
    await secrets.create_scope(BOB, "bobs", for_all=False)
    await secrets.put(ADA, "s", "other", b"x")
    [stolen] = [record for record in await store.secrets() if record.key == "k"]
    await store.save_secret(replace(stolen, scope="bobs"))
    await store.save_secret(replace(stolen, key="other"))

    again = await started(store, key_file)

    for scope, key in (("bobs", "k"), ("s", "other")):
        with pytest.raises(Internal, match="damaged, or was put there for another"):
            await again.get(ADMIN, scope, key)
    sealed = f"sealed:{stolen.key_id}:{base64.urlsafe_b64encode(stolen.ciphertext).decode()}"
    with pytest.raises(KeyUnavailable):
        await again.reveal(sealed)
    assert await again.get(ADA, "s", "k") == ("k", CANARY.encode())


@pytest.mark.parametrize("spoil", [lambda c: c[:-1] + bytes([c[-1] ^ 1]), lambda c: c[:5]])
async def test_a_damaged_value_is_an_error(
    secrets: Secrets, store: MemoryStore, key_file: Path, spoil: Callable[[bytes], bytes]
) -> None:
    [record] = await store.secrets()
    await store.save_secret(replace(record, ciphertext=spoil(record.ciphertext)))

    again = await started(store, key_file)

    with pytest.raises(Internal, match="damaged"):
        await again.get(ADA, "s", "k")


async def test_the_key_file_is_made_at_first_use_and_private(
    store: MemoryStore, key_file: Path
) -> None:
    made = await started(store, key_file)
    await made.create_scope(ADA, "s", for_all=False)
    assert content_of(key_file) is None

    await made.put(ADA, "s", "k", b"x")

    assert mode_of(key_file) == 0o600
    assert os.listdir(key_file.parent) == [key_file.name]


async def test_a_key_file_that_others_may_read_is_made_private(
    secrets: Secrets, store: MemoryStore, key_file: Path
) -> None:
    replace_by(key_file, content_of(key_file), 0o644)

    await started(store, key_file)

    assert mode_of(key_file) == 0o600


@pytest.mark.parametrize("content", [None, "", "not a key", "0" * 63, "g" * 64])
async def test_without_its_key_file_nothing_is_read_and_nothing_new_encrypted(
    secrets: Secrets, store: MemoryStore, key_file: Path, content: str | None
) -> None:
    """A new key would make the old secrets' loss final: the operator may yet find the file."""
    right = content_of(key_file)
    replace_by(key_file, content)
    again = await started(store, key_file)

    with pytest.raises(Internal, match=r"secrets\.key\) is lost") as refused:
        await again.get(ADA, "s", "k")
    with pytest.raises(KeyUnavailable, match=r"\{\{secrets/s/k\}\} .*lost"):
        await again.reveal("{{secrets/s/k}}")
    with pytest.raises(Internal, match="operator"):
        await again.put(ADA, "s", "new", b"x")
    with pytest.raises(Internal, match="operator"):
        again.seal("x")

    assert str(key_file.parent) not in refused.value.message
    assert content_of(key_file) == content
    assert [record.key for record in await again.list(ADA, "s")] == ["k"]
    replace_by(key_file, right)  # found again: no restart is needed
    assert await again.get(ADA, "s", "k") == ("k", CANARY.encode())
    await again.put(ADA, "s", "new", b"x")


async def test_another_homes_key_file_is_told_from_a_lost_one(
    secrets: Secrets, store: MemoryStore, key_file: Path
) -> None:
    right = content_of(key_file)
    replace_by(key_file, "ab" * 32 + "\n")
    again = await started(store, key_file)

    with pytest.raises(Internal, match="another key file"):
        await again.get(ADA, "s", "k")
    with pytest.raises(Internal, match="not the one"):
        await again.put(ADA, "s", "k", b"x")

    replace_by(key_file, right)
    assert await again.reveal("{{secrets/s/k}}") == CANARY


async def test_once_the_lost_secrets_are_deleted_there_is_a_new_key(
    secrets: Secrets, store: MemoryStore, key_file: Path
) -> None:
    replace_by(key_file, None)
    again = await started(store, key_file)

    await again.delete(ADA, "s", "k")
    await again.put(ADA, "s", "k", b"entered anew")

    assert content_of(key_file)
    assert await again.reveal("{{secrets/s/k}}") == "entered anew"


async def test_a_key_that_only_an_endpoint_needs_is_not_replaced_either(
    store: MemoryStore, key_file: Path
) -> None:
    sealed = (await started(store, key_file)).seal("sk-first")
    entity = EntityRecord(
        "e", "", "", "1", "k", external={"openai_config": {"openai_api_key_plaintext": sealed}}
    )
    config = ConfigRecord(1, (entity,), (RouteRecord("e", 100),))
    await store.insert_endpoint(EndpointRecord("1", "a", "ada", 0, 0, active=config))
    kept = content_of(key_file)
    replace_by(key_file, None)

    again = await started(store, key_file)
    with pytest.raises(Internal, match=r"secrets\.key\) of the stored secrets is"):
        again.seal("sk-second")
    replace_by(key_file, kept)

    assert await again.reveal(sealed) == "sk-first"
    assert (await again.reveal(again.seal("sk-second"))) == "sk-second"
