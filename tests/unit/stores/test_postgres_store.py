"""The suite on PostgreSQL, where LAKEPORT_TEST_POSTGRES holds a URL of a database that may be
written to (postgresql+psycopg://...). Each test has a schema of its own there."""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from lakeport.stores.base import Store, StoreError
from lakeport.stores.sql import SqlStore
from tests.suites.store import NUL, DurableStoreSuite

SERVER = os.environ.get("LAKEPORT_TEST_POSTGRES", "")
if not SERVER:
    pytest.skip("LAKEPORT_TEST_POSTGRES is not set", allow_module_level=True)


@pytest.fixture
def url() -> Iterator[URL]:
    name = f"lakeport_test_{secrets.token_hex(6)}"
    server = make_url(SERVER)
    engine = create_engine(server)
    with engine.begin() as db:
        db.execute(text(f"CREATE SCHEMA {name}"))
    yield server.update_query_dict({"options": f"-csearch_path={name}"})
    with engine.begin() as db:
        db.execute(text(f"DROP SCHEMA {name} CASCADE"))
    engine.dispose()


@pytest.fixture
async def reopened(url: URL) -> AsyncIterator[Callable[[], Awaitable[SqlStore]]]:
    opened: list[SqlStore] = []

    async def reopen() -> SqlStore:
        store = SqlStore(url)
        opened.append(store)
        await store.open()
        return store

    yield reopen
    for store in opened:
        await store.close()


@pytest.fixture
async def store(reopened: Callable[[], Awaitable[SqlStore]]) -> SqlStore:
    return await reopened()


class TestPostgresStore(DurableStoreSuite):
    async def test_text_with_a_nul_comes_back_as_it_was(self, store: Store) -> None:
        """PostgreSQL holds no NUL: refused instead."""
        with pytest.raises(StoreError):
            await self.hold(store, NUL)

        assert await store.endpoints() == []
