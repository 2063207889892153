import asyncio
import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lakeport.auth.callers import Caller
from lakeport.auth.tokens import MISSING, NOT_BEARER, TOKENS_PER_CALLER, UNKNOWN, Tokens
from lakeport.errors import InvalidParameter, InvalidState, NotFound, Unauthenticated
from lakeport.stores.base import StoreError
from lakeport.stores.memory import MemoryStore
from lakeport.stores.records import TokenRecord

OWN = "the operator's own"


class CountingStore(MemoryStore):
    """A store that knows how often its tokens were read, and that can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.broken = False

    async def tokens(self) -> Sequence[TokenRecord]:
        self.reads += 1
        return await super().tokens()

    async def insert_token(self, record: TokenRecord) -> None:
        self._refuse_if_broken()
        await super().insert_token(record)

    async def delete_token(self, id: str) -> bool:
        self._refuse_if_broken()
        return await super().delete_token(id)

    def _refuse_if_broken(self) -> None:
        if self.broken:
            raise StoreError("The disk is full.")


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def changes(tmp_path: Path) -> Path:
    return tmp_path / "token-changes"


@pytest.fixture
async def tokens(store: CountingStore, clock: Clock, changes: Path, tmp_path: Path) -> Tokens:
    made = Tokens(store, clock=clock, changes=changes)
    await made.start(tmp_path / "admin-token")
    return made


async def another(tokens: Tokens, name: str, *groups: str) -> Caller:
    value, _ = await tokens.issue(name, groups or None)
    return tokens.authenticate(bearer(value))


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def refusal(tokens: Tokens, header: bytes | None) -> str:
    with pytest.raises(Unauthenticated) as refused:
        tokens.authenticate(header)
    return refused.value.message


# Who is let in


async def test_a_token_stands_for_the_caller_it_was_made_for(tokens: Tokens) -> None:
    value, record = await tokens.issue("ada", ["team"], comment="for the notebook")

    who = tokens.authenticate(bearer(value))

    assert who.name == "ada"
    assert who.groups == {"team", "users"}
    assert not who.admin
    assert who.id.isdigit()
    assert (record.caller, record.comment, record.expires_at) == ("ada", "for the notebook", None)


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  "])
async def test_the_scheme_is_written_as_one_likes(tokens: Tokens, scheme: bytes) -> None:
    value, _ = await tokens.issue("ada", None)

    assert tokens.authenticate(scheme + value.encode() + b" ").name == "ada"


@pytest.mark.parametrize("user", ["token", "", "anybody"])
async def test_a_token_may_be_the_password_of_basic_authentication(
    tokens: Tokens, user: str
) -> None:
    value, _ = await tokens.issue("ada", None)

    assert tokens.authenticate(basic(user, value)).name == "ada"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (None, MISSING),
        (b"", NOT_BEARER),
        (b"Bearer", NOT_BEARER),
        (b"Bearer ", NOT_BEARER),
        (b"Digest abc", NOT_BEARER),
        (b"Basic !!!", NOT_BEARER),
        (b"Basic " + b"\xff", NOT_BEARER),
        (b"Bearer " + b"x" * 5000, NOT_BEARER),
        (b"Bearer unknown", UNKNOWN),
        (b"Bearer \xff\x00", UNKNOWN),
        (basic("token", ""), UNKNOWN),
        (b"Basic " + base64.b64encode(b"no colon"), UNKNOWN),
        (b"Bearer " + hashlib.sha256(b"x").hexdigest().encode(), UNKNOWN),
    ],
)
async def test_everything_else_is_refused_with_what_to_do(
    tokens: Tokens, header: bytes | None, said: str
) -> None:
    assert refusal(tokens, header) == said


async def test_the_hash_of_a_token_is_no_token(tokens: Tokens, store: CountingStore) -> None:
    _, record = await tokens.issue("ada", None)

    assert refusal(tokens, bearer(record.digest)) == UNKNOWN


async def test_a_token_expires_at_its_time(tokens: Tokens, clock: Clock) -> None:
    ada = await another(tokens, "ada")
    value, record = await tokens.create(ada, lifetime_seconds=60)

    clock.seconds += 59
    assert tokens.authenticate(bearer(value)) == ada
    clock.seconds += 1

    assert record.expires_at == record.created_at + 60_000
    assert refusal(tokens, bearer(value)) == UNKNOWN
    assert record not in await tokens.list(ada)


async def test_expired_tokens_are_forgotten_at_the_next_start(
    tokens: Tokens, store: CountingStore, clock: Clock, tmp_path: Path
) -> None:
    ada = await another(tokens, "ada")
    _, record = await tokens.create(ada, lifetime_seconds=60)
    clock.seconds += 61

    await Tokens(store, clock=clock).start(tmp_path / "admin-token")

    assert record not in await store.tokens()


async def test_letting_in_reads_nothing_from_the_store(
    tokens: Tokens, store: CountingStore
) -> None:
    value, _ = await tokens.issue("ada", None)
    before = store.reads

    for _ in range(100):
        tokens.authenticate(bearer(value))
        refusal(tokens, b"Bearer unknown")

    assert store.reads == before


async def test_only_hashes_are_stored(tokens: Tokens, store: CountingStore) -> None:
    value, _ = await tokens.issue("ada", None)

    stored = json.dumps([asdict(record) for record in await store.tokens()])

    assert len(value) == len("dapi") + 64
    assert value not in stored
    assert value.removeprefix("dapi") not in stored


# The admin


async def test_the_first_start_makes_the_admins_token_and_shows_it_once(
    store: CountingStore, tmp_path: Path
) -> None:
    file = tmp_path / "admin-token"

    shown = await Tokens(store).start(file)
    tokens = Tokens(store)
    again = await tokens.start(file)

    assert shown is not None
    assert again is None
    assert file.read_text() == shown + "\n"
    assert file.stat().st_mode & 0o777 == 0o600
    who = tokens.authenticate(bearer(shown))
    assert who.name == "admin"
    assert who.groups == {"admins", "users"}
    assert who.admin


async def test_the_admin_keeps_its_id_over_restarts(store: CountingStore, tmp_path: Path) -> None:
    found = []
    for number in range(2):
        tokens = Tokens(store, admin_token=f"{OWN}{number}")
        await tokens.start(tmp_path / "admin-token")
        found.append(tokens.authenticate(bearer(f"{OWN}{number}")))

    assert found[0] == found[1]


async def test_the_operators_token_wins_and_is_written_nowhere(
    store: CountingStore, tmp_path: Path
) -> None:
    file = tmp_path / "admin-token"
    first = await Tokens(store).start(file)
    assert first is not None

    tokens = Tokens(store, admin_token=OWN)
    made = await tokens.start(file)

    assert made is None
    assert tokens.authenticate(bearer(OWN)).admin
    assert refusal(tokens, bearer(first)) == UNKNOWN
    digest = hashlib.sha256(OWN.encode()).hexdigest()
    assert digest not in {record.digest for record in await store.tokens()}
    assert file.read_text().strip() == first

    later = Tokens(store)
    await later.start(file)
    assert refusal(later, bearer(OWN)) == UNKNOWN
    assert later.authenticate(bearer(first)).admin


async def test_with_the_operators_token_none_is_made(store: CountingStore, tmp_path: Path) -> None:
    await Tokens(store, admin_token=OWN).start(tmp_path / "admin-token")

    assert not (tmp_path / "admin-token").exists()
    assert await store.tokens() == []


async def test_a_crash_in_the_first_start_leaves_a_home_that_starts(
    store: CountingStore, tmp_path: Path
) -> None:
    file = tmp_path / "admin-token"
    store.broken = True
    with pytest.raises(StoreError):
        await Tokens(store).start(file)
    store.broken = False

    tokens = Tokens(store)
    shown = await tokens.start(file)

    assert shown is not None
    assert file.read_text().strip() == shown
    assert tokens.authenticate(bearer(shown)).admin


@pytest.mark.parametrize("header", [None, b"Bearer anything", b"nonsense"])
async def test_without_authentication_everybody_is_the_admin(
    store: CountingStore, tmp_path: Path, header: bytes | None
) -> None:
    tokens = Tokens(store, open_to_all=True)

    assert await tokens.start(tmp_path / "admin-token") is None

    who = tokens.authenticate(header)
    assert (who.name, who.admin) == ("admin", True)
    value, _ = await tokens.create(who)
    assert value
    assert not (tmp_path / "admin-token").exists()


# What callers may do


async def test_a_caller_makes_lists_and_deletes_its_own(tokens: Tokens) -> None:
    ada, bob = await another(tokens, "ada"), await another(tokens, "bob")
    value, record = await tokens.create(ada, comment="one more")

    assert tokens.authenticate(bearer(value)) == ada
    assert record in await tokens.list(ada)
    assert record not in await tokens.list(bob)

    await tokens.delete(ada, record.id)

    assert refusal(tokens, bearer(value)) == UNKNOWN
    assert record not in await tokens.list(ada)


async def test_nobody_deletes_or_sees_somebody_elses(tokens: Tokens) -> None:
    ada, bob = await another(tokens, "ada"), await another(tokens, "bob", "team")
    value, record = await tokens.create(ada)

    with pytest.raises(NotFound, match="does not exist"):
        await tokens.delete(bob, record.id)

    assert tokens.authenticate(bearer(value)) == ada


async def test_an_admin_deletes_anybodys(tokens: Tokens) -> None:
    ada, root = await another(tokens, "ada"), await another(tokens, "root", "admins")
    value, record = await tokens.create(ada)

    await tokens.delete(root, record.id)

    assert refusal(tokens, bearer(value)) == UNKNOWN


async def test_deleting_twice_is_not_found(tokens: Tokens) -> None:
    ada = await another(tokens, "ada")
    _, record = await tokens.create(ada)
    await tokens.delete(ada, record.id)

    with pytest.raises(NotFound):
        await tokens.delete(ada, record.id)


async def test_a_token_whose_deletion_failed_is_still_valid(
    tokens: Tokens, store: CountingStore
) -> None:
    ada = await another(tokens, "ada")
    value, record = await tokens.create(ada)
    store.broken = True

    with pytest.raises(StoreError):
        await tokens.delete(ada, record.id)

    assert tokens.authenticate(bearer(value)) == ada


@pytest.mark.parametrize("lifetime", [0, -1, 10**30])
async def test_a_lifetime_out_of_bounds_is_refused(tokens: Tokens, lifetime: int) -> None:
    ada = await another(tokens, "ada")

    with pytest.raises(InvalidParameter, match="lifetime_seconds"):
        await tokens.create(ada, lifetime_seconds=lifetime)


async def test_a_comment_without_end_is_refused(tokens: Tokens) -> None:
    with pytest.raises(InvalidParameter, match="comment"):
        await tokens.create(await another(tokens, "ada"), comment="x" * 2000)


async def test_a_caller_has_so_many_tokens_and_no_more(tokens: Tokens, clock: Clock) -> None:
    ada = await another(tokens, "ada")
    while len(await tokens.list(ada)) < TOKENS_PER_CALLER:
        await tokens.create(ada, lifetime_seconds=60)

    with pytest.raises(InvalidState, match=str(TOKENS_PER_CALLER)):
        await tokens.create(ada)

    clock.seconds += 61
    value, _ = await tokens.create(ada)
    assert tokens.authenticate(bearer(value)) == ada


@pytest.mark.parametrize("name", ["", " ada", "a\nb", "a\x00", "x" * 256])
async def test_names_that_nobody_could_read_are_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(InvalidParameter):
        await tokens.issue(name, None)
    with pytest.raises(InvalidParameter):
        await tokens.issue("ada", [name])


async def test_groups_are_replaced_when_given_and_kept_when_not(tokens: Tokens) -> None:
    assert (await another(tokens, "ada", "a", "b")).groups == {"a", "b", "users"}
    assert (await another(tokens, "ada")).groups == {"a", "b", "users"}
    assert (await another(tokens, "ada", "c")).groups == {"c", "users"}


async def test_the_admin_stays_an_admin_whatever_its_groups(tokens: Tokens) -> None:
    assert (await another(tokens, "admin", "ops")).groups == {"admins", "ops", "users"}


# Other processes


@pytest.fixture
async def elsewhere(store: CountingStore, tokens: Tokens, changes: Path) -> Tokens:
    """What `lakeport token` builds, on the same home as `tokens`."""
    return Tokens(store, changes=changes)


async def test_a_token_made_elsewhere_works_at_once(tokens: Tokens, elsewhere: Tokens) -> None:
    for name in ("ada", "bob"):
        value, _ = await elsewhere.issue(name, None)

        who = await tokens.refresh_authenticate(bearer(value))

        assert who.name == name
        assert tokens.authenticate(bearer(value)) == who


async def test_a_flood_of_unknown_tokens_reads_nothing_from_the_store(
    tokens: Tokens, elsewhere: Tokens, store: CountingStore
) -> None:
    await elsewhere.issue("ada", None)
    before = store.reads

    results = await asyncio.gather(
        *(tokens.refresh_authenticate(b"Bearer %d" % number) for number in range(200)),
        return_exceptions=True,
    )

    assert all(isinstance(result, Unauthenticated) for result in results)
    assert store.reads == before + 1


async def test_groups_changed_elsewhere_count_without_a_new_token(
    tokens: Tokens, elsewhere: Tokens
) -> None:
    value, _ = await tokens.issue("ada", ["admins"])
    watching = asyncio.create_task(tokens.watch(seconds=0))

    await elsewhere.issue("ada", ["users"])
    async with asyncio.timeout(10):
        while tokens.authenticate(bearer(value)).admin:  # noqa: ASYNC110 - this is the fact
            await asyncio.sleep(0)

    watching.cancel()


async def test_a_token_made_elsewhere_can_be_deleted_here(
    tokens: Tokens, elsewhere: Tokens
) -> None:
    value, record = await elsewhere.issue("ada", None)
    ada = await tokens.refresh_authenticate(bearer(value))

    await tokens.delete(ada, record.id)

    with pytest.raises(Unauthenticated):
        await tokens.refresh_authenticate(bearer(value))


async def test_a_read_that_is_slow_brings_no_deleted_token_back(
    tokens: Tokens, store: CountingStore, monkeypatch: Any
) -> None:
    ada = await another(tokens, "ada")
    value, record = await tokens.create(ada)
    reading, go_on = asyncio.Event(), asyncio.Event()
    callers = store.callers

    async def slow() -> Any:
        reading.set()
        await go_on.wait()
        return await callers()

    monkeypatch.setattr(store, "callers", slow)
    loading = asyncio.create_task(tokens.load())
    await reading.wait()
    deleting = asyncio.create_task(tokens.delete(ada, record.id))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(loading, deleting)

    assert refusal(tokens, bearer(value)) == UNKNOWN
