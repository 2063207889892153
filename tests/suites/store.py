"""What every store promises. Subclass StoreSuite and give it a fixture `store`, opened and empty;
a durable one subclasses DurableStoreSuite and gives `reopened` too."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from lakeport.auth.callers import AccessList, Level, ScopePermission
from lakeport.errors import AlreadyExists, NotFound
from lakeport.stores.base import EVENTS_KEPT, StaleRecord, Store, StoreError
from lakeport.stores.records import (
    CallerRecord,
    ConfigRecord,
    ConfigUpdate,
    EndpointRecord,
    EntityRecord,
    EventRecord,
    RouteRecord,
    SecretAclRecord,
    SecretRecord,
    SecretScopeRecord,
    TokenRecord,
)

HOSTILE = [
    "plain",
    "with 'single' and \"double\" quotes",
    "'; DROP TABLE endpoints; --",
    "back\\slash % _ ? :name $1 {brace}",
    "ünïcödé 模型 🚢",
    "e\u0301 is not \u00e9",
    "\u202eright to left",
    "line\nbreak\r\ttab",
    " spaces around ",
    "\x1b[31mred",
    "x" * 5000,
]
NUL = "nul\x00inside"


def config(version: int, *, entity: str = "iris-1", percentage: int = 100) -> ConfigRecord:
    return ConfigRecord(
        version=version,
        entities=(
            EntityRecord(
                name=entity,
                entity_name="iris",
                entity_version="@champion",
                resolved_version="7",
                model_key="key",
                workload_size="Small",
                min_concurrency=1,
                scale_to_zero=True,
                environment={"A": "1", "Ü": "'"},
                creator="ada",
                created_at=1_700_000_000_000,
                since_version=version,
            ),
        ),
        routes=(RouteRecord(entity, percentage),),
        created_at=1_700_000_000_001,
        created_by="ada",
    )


def endpoint(name: str = "iris", **changes: object) -> EndpointRecord:
    record = EndpointRecord(
        id=f"id of {name}",
        name=name,
        creator="ada",
        created_at=1_700_000_000_000,
        updated_at=1_700_000_000_000,
        update=ConfigUpdate.IN_PROGRESS,
        pending=config(1),
        last_version=1,
        description="what it is for",
        tags={"team": "a", "flag": None},
        notifications={"on_update_success": ["ada@example.com"]},
        access=AccessList(users={"bob": Level.CAN_VIEW}, groups={"users": Level.CAN_QUERY}),
    )
    return replace(record, **changes)  # type: ignore[arg-type]  # checked by the dataclass


def event(text: str, endpoint: str = "iris") -> EventRecord:
    return EventRecord(at=1_700_000_000_000, endpoint=endpoint, kind="TEST", message=text)


def token(id: str) -> TokenRecord:
    return TokenRecord(id, digest=f"digest of {id}", caller="ada", comment="", created_at=1)


def caller(name: str, *groups: str) -> CallerRecord:
    return CallerRecord(f"id of {name}", name, frozenset(groups), created_at=1)


def scope(name: str) -> SecretScopeRecord:
    return SecretScopeRecord(name, created_at=1, created_by="ada")


def secret(scope: str, key: str, ciphertext: bytes = b"\x00\xff'") -> SecretRecord:
    return SecretRecord(scope, key, "id of the key", ciphertext, updated_at=1_700_000_000_000)


def acl(
    scope: str, principal: str = "ada", permission: ScopePermission = ScopePermission.MANAGE
) -> SecretAclRecord:
    return SecretAclRecord(scope, principal, permission)


class StoreSuite:
    # Endpoints

    async def test_an_endpoint_comes_back_as_it_was_stored(self, store: Store) -> None:
        full = endpoint(
            active=config(1),
            pending=config(2, entity="iris-2", percentage=100),
            failures={"iris-2": "it would not load"},
            update=ConfigUpdate.UPDATE_FAILED,
            stopped=True,
            budget_policy_id="policy",
            from_flag=True,
        )
        bare = EndpointRecord("2", "bare", "ada", created_at=1, updated_at=1)

        stored = [await store.insert_endpoint(record) for record in (full, bare)]

        assert stored == [replace(full, revision=1), replace(bare, revision=1)]
        assert await store.endpoints() == [stored[1], stored[0]]

    async def test_endpoints_are_ordered_by_name(self, store: Store) -> None:
        names = ["b", "B", "a-1", "a", "Ä", "_", "a1", "Z"]

        for name in names:
            await store.insert_endpoint(endpoint(name))

        assert [found.name for found in await store.endpoints()] == sorted(names)

    async def test_a_name_is_given_once(self, store: Store) -> None:
        await store.insert_endpoint(endpoint())

        with pytest.raises(AlreadyExists, match="iris already exists"):
            await store.insert_endpoint(endpoint(id="another"))

        assert len(await store.endpoints()) == 1

    async def test_a_save_replaces_and_counts(self, store: Store) -> None:
        first = await store.insert_endpoint(endpoint())

        second = await store.save_endpoint(
            replace(first, active=first.pending, pending=None, description="new", tags={})
        )

        assert (first.revision, second.revision) == (1, 2)
        assert await store.endpoints() == [second]
        assert second.active == config(1)

    async def test_a_save_of_what_somebody_else_changed_is_refused(self, store: Store) -> None:
        first = await store.insert_endpoint(endpoint())
        second = await store.save_endpoint(replace(first, description="theirs"))

        with pytest.raises(StaleRecord):
            await store.save_endpoint(
                replace(first, description="ours", pending=config(9)), event("ours")
            )

        assert await store.endpoints() == [second]
        assert await store.config(first.id, 9) is None
        assert await store.events() == []

    async def test_a_save_of_what_is_gone_is_refused(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.save_endpoint(endpoint(), event("never"))

        assert await store.endpoints() == []
        assert await store.events() == []

    async def test_of_two_saves_at_once_one_is_refused(self, store: Store) -> None:
        first = await store.insert_endpoint(endpoint())

        results = await asyncio.gather(
            *(store.save_endpoint(replace(first, description=str(i))) for i in range(10)),
            return_exceptions=True,
        )

        refused = [result for result in results if isinstance(result, StaleRecord)]
        saved = [result for result in results if isinstance(result, EndpointRecord)]
        assert (len(refused), len(saved)) == (9, 1)
        assert await store.endpoints() == saved

    async def test_configs_that_were_ever_stored_stay_readable(self, store: Store) -> None:
        record = await store.insert_endpoint(endpoint())
        record = await store.save_endpoint(replace(record, active=config(1), pending=config(2)))
        record = await store.save_endpoint(replace(record, active=config(2), pending=None))
        record = await store.save_endpoint(replace(record, pending=config(3)))

        found = [await store.config(record.id, version) for version in (1, 2, 3, 4)]

        assert found == [config(1), config(2), config(3), None]

    async def test_a_deleted_endpoint_takes_its_configs_and_frees_its_name(
        self, store: Store
    ) -> None:
        gone = await store.insert_endpoint(endpoint())
        kept = await store.insert_endpoint(endpoint("kept"))

        await store.delete_endpoint(gone.id, event("deleted"))

        assert await store.endpoints() == [kept]
        assert await store.config(gone.id, 1) is None
        assert await store.config(kept.id, 1) == config(1)
        assert [told.message for told in await store.events()] == ["deleted"]
        again = await store.insert_endpoint(endpoint(id="another"))
        assert again.revision == 1

    async def test_deleting_what_is_gone_is_no_error_and_tells_nothing(self, store: Store) -> None:
        await store.delete_endpoint("nobody", event("deleted"))

        assert await store.events() == []

    # Callers and tokens

    async def test_a_caller_is_replaced_by_name(self, store: Store) -> None:
        await store.save_caller(caller("bob"))
        await store.save_caller(caller("ada", "admins", "users"))
        await store.save_caller(caller("bob", "team"))

        assert await store.callers() == [caller("ada", "admins", "users"), caller("bob", "team")]

    async def test_a_token_is_stored_until_it_is_deleted(self, store: Store) -> None:
        limited = replace(token("b"), expires_at=4_102_444_800_000, created_at=2)
        await store.insert_token(limited)
        await store.insert_token(token("a"))
        assert await store.tokens() == [token("a"), limited]

        assert await store.delete_token("a") is True
        assert await store.delete_token("a") is False

        assert await store.tokens() == [limited]

    async def test_a_digest_is_stored_once(self, store: Store) -> None:
        await store.insert_token(token("a"))

        with pytest.raises(StoreError) as refusal:
            await store.insert_token(replace(token("a"), id="b"))

        assert "digest of a" not in str(refusal.value)
        assert await store.tokens() == [token("a")]

    # Secrets

    async def test_secrets_are_replaced_by_scope_and_key(self, store: Store) -> None:
        for name in ("b", "B", "a"):
            await store.insert_secret_scope(scope(name), acl(name))

        for record in (secret("b", "k"), secret("a", "k"), secret("b", "K"), secret("B", "k")):
            await store.save_secret(record)
        await store.save_secret(secret("b", "k", b"other"))

        assert await store.secret_scopes() == [scope("B"), scope("a"), scope("b")]
        assert await store.secrets() == [
            secret("B", "k"),
            secret("a", "k"),
            secret("b", "K"),
            secret("b", "k", b"other"),
        ]

    async def test_a_secret_is_stored_until_it_is_deleted(self, store: Store) -> None:
        await store.insert_secret_scope(scope("s"), acl("s"))
        await store.save_secret(secret("s", "a"))
        await store.save_secret(secret("s", "b"))

        assert await store.delete_secret("s", "a") is True
        assert await store.delete_secret("s", "a") is False
        assert await store.delete_secret("other", "b") is False

        assert await store.secrets() == [secret("s", "b")]

    async def test_a_scope_has_permissions_from_its_first_moment(self, store: Store) -> None:
        await store.insert_secret_scope(scope("s"), acl("s"))
        await store.save_secret_acl(acl("s", "users", ScopePermission.READ))
        await store.save_secret_acl(acl("s", "users", ScopePermission.WRITE))
        await store.save_secret_acl(acl("s", "bob", ScopePermission.READ))

        assert await store.delete_secret_acl("s", "bob") is True
        assert await store.delete_secret_acl("s", "bob") is False

        assert await store.secret_acls() == [
            acl("s"),
            acl("s", "users", ScopePermission.WRITE),
        ]

    async def test_a_scope_is_made_once(self, store: Store) -> None:
        await store.insert_secret_scope(scope("s"), acl("s"))

        with pytest.raises(AlreadyExists, match="Scope s already exists"):
            await store.insert_secret_scope(scope("s"), acl("s", "bob"))

        assert await store.secret_acls() == [acl("s")]

    async def test_a_deleted_scope_takes_all_that_is_in_it(self, store: Store) -> None:
        for name in ("gone", "kept"):
            await store.insert_secret_scope(scope(name), acl(name))
            await store.save_secret(secret(name, "k"))

        assert await store.delete_secret_scope("gone") is True
        assert await store.delete_secret_scope("gone") is False

        assert await store.secret_scopes() == [scope("kept")]
        assert await store.secrets() == [secret("kept", "k")]
        assert await store.secret_acls() == [acl("kept")]

    async def test_nothing_is_put_into_a_scope_that_is_not_there(self, store: Store) -> None:
        with pytest.raises(StoreError):
            await store.save_secret(secret("none", "k"))
        with pytest.raises(StoreError):
            await store.save_secret_acl(acl("none"))

        assert await store.secrets() == []
        assert await store.secret_acls() == []

    # Events

    async def test_events_are_told_in_order_by_endpoint_and_from_an_id_on(
        self, store: Store
    ) -> None:
        record = await store.insert_endpoint(endpoint())
        await store.save_endpoint(record, event("1"), event("2", "other"))
        await store.add_event(replace(event("3"), actor="ada", entity="iris-1", id=77))

        everything = await store.events()

        assert [told.message for told in everything] == ["1", "2", "3"]
        assert [told.id for told in everything] == sorted({told.id for told in everything})
        assert everything[2] == replace(
            event("3"), actor="ada", entity="iris-1", id=everything[2].id
        )
        assert await store.events("iris") == [everything[0], everything[2]]
        assert await store.events(after=everything[0].id, limit=1) == [everything[1]]
        assert await store.events("iris", after=everything[2].id) == []

    async def test_events_are_chosen_by_time_and_kind_and_from_the_end(self, store: Store) -> None:
        record = await store.insert_endpoint(endpoint())
        told = [
            replace(event(str(number)), at=number, kind="tags" if number % 2 else "stopped")
            for number in range(1, 9)
        ]
        await store.save_endpoint(record, *told, event("elsewhere", "other"))

        async def texts(**wanted: Any) -> str:
            return "".join(e.message for e in await store.events("iris", **wanted))

        first = (await store.events())[0].id
        assert await texts(newest=True, limit=3) == "678"
        assert await texts(newest=True, limit=3, before=first + 5) == "345"
        assert await texts(before=first + 2) == "12"
        assert await texts(since=6) == "678"
        assert await texts(kinds={"tags"}) == "1357"
        assert await texts(kinds=["tags", "stopped"], since=3, after=first + 4, limit=2) == "67"
        assert await texts(kinds={"tags"}, newest=True, limit=1) == "7"
        assert await texts(kinds={"created"}) == ""
        assert await texts(newest=True, limit=100) == "12345678"

    async def test_only_the_newest_events_are_kept(self, store: Store) -> None:
        record = await store.insert_endpoint(endpoint())
        many = [event(str(number)) for number in range(EVENTS_KEPT)]
        record = await store.save_endpoint(record, *many)

        await store.save_endpoint(record, event("one more"), event("and one"))

        kept = await store.events(limit=EVENTS_KEPT * 2)
        assert len(kept) == EVENTS_KEPT
        assert (kept[0].message, kept[-1].message) == ("2", "and one")

    # Marks

    async def test_a_mark_holds_its_last_value(self, store: Store) -> None:
        assert await store.mark("workspace") is None

        await store.set_mark("workspace", "1")
        await store.set_mark("workspace", "2")

        assert await store.mark("workspace") == "2"
        assert await store.mark("other") is None

    # What comes from outside

    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    async def test_any_text_comes_back_as_it_was(self, store: Store, text: str) -> None:
        await self.hold(store, text)

    async def test_text_with_a_nul_comes_back_as_it_was(self, store: Store) -> None:
        await self.hold(store, NUL)

    async def hold(self, store: Store, text: str) -> None:
        record = await store.insert_endpoint(
            endpoint(
                text,
                description=text,
                tags={text: text},
                failures={text: text},
                pending=config(1, entity=text),
                access=AccessList(users={text: Level.CAN_MANAGE}),
            )
        )
        await store.save_caller(caller(text, text))
        await store.insert_token(replace(token(text), caller=text, comment=text))
        await store.add_event(event(text, text))
        await store.set_mark(text, text)

        assert await store.endpoints() == [record]
        assert await store.config(record.id, 1) == record.pending
        assert await store.callers() == [caller(text, text)]
        assert await store.tokens() == [replace(token(text), caller=text, comment=text)]
        assert [told.message for told in await store.events(text)] == [text]
        assert await store.mark(text) == text
        with pytest.raises(AlreadyExists):
            await store.insert_endpoint(endpoint(text, id="another"))

    async def test_many_at_once_all_happen(self, store: Store) -> None:
        numbers = range(50)

        await asyncio.gather(
            *(store.insert_endpoint(endpoint(f"e{number:02}")) for number in numbers),
            *(store.insert_token(token(f"t{number}")) for number in numbers),
            *(store.add_event(event(str(number))) for number in numbers),
            *(store.set_mark("mark", str(number)) for number in numbers),
            *(store.endpoints() for _ in numbers),
        )

        assert [found.name for found in await store.endpoints()] == [f"e{n:02}" for n in numbers]
        assert len(await store.tokens()) == len(numbers)
        assert sorted(int(told.message) for told in await store.events()) == list(numbers)
        assert await store.mark("mark") == "49"


class DurableStoreSuite(StoreSuite):
    async def test_everything_is_there_after_a_restart(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        record = await store.insert_endpoint(endpoint())
        record = await store.save_endpoint(replace(record, active=config(1)), event("told"))
        await store.save_caller(caller("ada", "users"))
        await store.insert_token(token("a"))
        await store.insert_secret_scope(scope("s"), acl("s"))
        await store.save_secret(secret("s", "k"))
        await store.set_mark("workspace", "1")
        before = await store.events()
        await store.close()

        again = await reopened()

        assert await again.endpoints() == [record]
        assert await again.callers() == [caller("ada", "users")]
        assert await again.tokens() == [token("a")]
        assert await again.secrets() == [secret("s", "k")]
        assert await again.secret_acls() == [acl("s")]
        assert await again.events() == before
        assert await again.mark("workspace") == "1"

    async def test_text_that_no_database_holds_is_refused_and_changes_nothing(
        self, store: Store
    ) -> None:
        with pytest.raises(StoreError):
            await store.add_event(event("lone surrogate \ud800"))
        with pytest.raises(StoreError):
            await store.add_event(replace(event("late"), at=2**70))

        assert await store.events() == []

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        await store.close()

        with pytest.raises(StoreError):
            await store.endpoints()
