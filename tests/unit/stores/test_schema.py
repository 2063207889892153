"""Both ways to the newest schema, at once or by migrations, lead to the same."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from lakeport.stores.base import StoreError
from lakeport.stores.schema import MIGRATIONS, ensure_schema, upgrade
from lakeport.stores.sql import SqlStore
from lakeport.stores.sqlite import sqlite_url
from lakeport.stores.tables import HEAD, metadata
from tests.suites import store as suite


def structure(db: Connection) -> dict[str, str]:
    """Every table and index as SQLite was told to make it, and the revision."""
    rows = db.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    made = {name: " ".join(sql.split()) for name, sql in rows}
    return made | {"revision": db.execute(text("SELECT * FROM alembic_version")).scalar_one()}


def test_a_new_database_is_as_the_migrations_make_it() -> None:
    with create_engine("sqlite://").begin() as at_once:
        ensure_schema(at_once, migrate=True)
        expected = structure(at_once)

    with create_engine("sqlite://").begin() as by_migrations:
        upgrade(by_migrations)

        assert structure(by_migrations) == expected
        changes = compare_metadata(MigrationContext.configure(by_migrations), metadata)
        assert changes == [], "a table was changed without a migration"


async def test_a_database_of_the_first_schema_keeps_what_it_holds(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "lakeport.db")
    with create_engine(url).begin() as db:
        upgrade(db, "0001")
        db.execute(text("INSERT INTO marks VALUES ('a', 'b')"))
        db.execute(text("INSERT INTO tokens VALUES ('t', 'd', 'ada', '', 1, NULL)"))
    beside = SqlStore(url, migrate=False)
    with pytest.raises(StoreError, match="another version"):
        await beside.open()
    await beside.close()
    store = SqlStore(url)

    await store.open()

    assert await store.mark("a") == "b"
    assert [token.id for token in await store.tokens()] == ["t"]
    assert await store.secret_scopes() == []
    await store.insert_secret_scope(suite.scope("s"), suite.acl("s"))
    await store.save_secret(suite.secret("s", "k"))
    assert await store.secrets() == [suite.secret("s", "k")]
    await store.close()
    with create_engine(url).begin() as db:
        ensure_schema(db, migrate=False)


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))

    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_database_of_the_newest_schema_is_left_alone() -> None:
    with create_engine("sqlite://").begin() as db:
        ensure_schema(db, migrate=True)
        db.execute(text("INSERT INTO marks VALUES ('a', 'b')"))

        ensure_schema(db, migrate=False)

        assert db.execute(text("SELECT value FROM marks")).scalar_one() == "b"


@pytest.mark.parametrize(
    ("migrate", "words"), [(True, "newer version"), (False, "another version")]
)
async def test_a_database_of_a_newer_lakeport_is_refused(
    tmp_path: Path, migrate: bool, words: str
) -> None:
    url = sqlite_url(tmp_path / "lakeport.db")
    with create_engine(url).begin() as db:
        ensure_schema(db, migrate=True)
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store = SqlStore(url, migrate=migrate)

    with pytest.raises(StoreError, match=words):
        await store.open()
    await store.close()


def test_somebody_elses_database_is_refused() -> None:
    with create_engine("sqlite://").begin() as db:
        db.execute(text("CREATE TABLE theirs (id INTEGER)"))

        with pytest.raises(StoreError, match="none of them are Lakeport's"):
            ensure_schema(db, migrate=True)
