import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from lakeport.stores import sqlite
from lakeport.stores.base import Store, StoreError
from lakeport.stores.sql import SqlStore
from lakeport.stores.sqlite import sqlite_url
from tests.suites import store as suite


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "it's 100% mine?.db"


@pytest.fixture
async def reopened(database: Path) -> AsyncIterator[Callable[[], Awaitable[SqlStore]]]:
    opened: list[SqlStore] = []

    async def reopen() -> SqlStore:
        store = SqlStore(sqlite_url(database))
        opened.append(store)
        await store.open()
        return store

    yield reopen
    for store in opened:
        await store.close()


@pytest.fixture
async def store(reopened: Callable[[], Awaitable[SqlStore]]) -> SqlStore:
    return await reopened()


@pytest.fixture
def connections() -> Iterator[list[sqlite3.Connection]]:
    """The driver's own connections of every store that a test opens."""
    seen: list[sqlite3.Connection] = []

    def note(connection: sqlite3.Connection, _record: object) -> None:
        seen.append(connection)

    event.listen(Engine, "connect", note)
    yield seen
    event.remove(Engine, "connect", note)


class TestSqliteStore(suite.DurableStoreSuite):
    pass


async def test_the_database_is_durable_strict_and_private(
    connections: list[sqlite3.Connection], store: SqlStore, database: Path
) -> None:
    await store.set_mark("a", "b")

    def pragma(name: str) -> object:
        return connections[0].execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2  # FULL
    assert pragma("foreign_keys") == 1
    files = list(database.parent.iterdir())
    assert database in files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_a_full_disk_is_an_error_that_changes_nothing_and_passes(
    connections: list[sqlite3.Connection], store: SqlStore
) -> None:
    record = await store.insert_endpoint(suite.endpoint())
    pages = connections[0].execute("PRAGMA page_count").fetchone()[0]
    connections[0].execute(f"PRAGMA max_page_count={pages}")
    large = "x" * 100_000

    with pytest.raises(StoreError, match="full"):
        await store.save_endpoint(
            replace(record, description="new"), suite.event("small"), suite.event(large)
        )

    assert await store.endpoints() == [record]
    assert await store.events() == []
    connections[0].execute(f"PRAGMA max_page_count={pages + 1000}")
    await store.save_endpoint(record, suite.event(large))
    assert len(await store.events()) == 1


async def test_another_process_that_writes_is_waited_for(store: SqlStore, database: Path) -> None:
    waiting = threading.Event()

    def note(_db: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement == "BEGIN IMMEDIATE":
            waiting.set()

    event.listen(Engine, "before_cursor_execute", note)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO marks VALUES ('theirs', '1')")
        ours = asyncio.create_task(store.set_mark("ours", "2"))
        assert await asyncio.to_thread(waiting.wait, 10)
        other.execute("COMMIT")
        await ours
    event.remove(Engine, "before_cursor_execute", note)

    assert (await store.mark("theirs"), await store.mark("ours")) == ("1", "2")


async def test_another_process_in_a_new_database_is_waited_for(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself refuses to turn its write-ahead log on then, without a wait."""
    waiting, pause = threading.Event(), time.sleep

    def note(seconds: float) -> None:
        waiting.set()
        pause(seconds)

    monkeypatch.setattr(time, "sleep", note)
    store = SqlStore(sqlite_url(database))
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opening = asyncio.create_task(store.open())
        waited = await asyncio.to_thread(waiting.wait, 10)
        other.execute("COMMIT")
        await opening

    assert waited
    await store.set_mark("ours", "1")
    await store.close()


async def test_a_new_database_that_stays_taken_is_an_error(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY", 0.05)
    store = SqlStore(sqlite_url(database))
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await store.open()
    await store.close()


async def test_two_processes_may_make_the_database_at_once(database: Path) -> None:
    stores = [SqlStore(sqlite_url(database)) for _ in range(4)]

    await asyncio.gather(*(store.open() for store in stores))

    await asyncio.gather(
        *(store.set_mark(str(number), "here") for number, store in enumerate(stores))
    )
    assert [await stores[0].mark(str(number)) for number in range(4)] == ["here"] * 4
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    store = SqlStore(sqlite_url(tmp_path / "none" / "lakeport.db"))

    with pytest.raises(StoreError, match=r"none/lakeport\.db"):
        await store.open()
    await store.close()


async def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "lakeport.db"
    file.write_text("this is not a database, and was never meant to be one\n" * 100)
    store = SqlStore(sqlite_url(file))

    with pytest.raises(StoreError, match="not a database"):
        await store.open()
    await store.close()


COMMITTER = """
import asyncio, sys
from pathlib import Path
from lakeport.stores.records import EventRecord
from lakeport.stores.sql import SqlStore
from lakeport.stores.sqlite import sqlite_url

async def main():
    store = SqlStore(sqlite_url(Path(sys.argv[1])))
    await store.open()
    number = int(await store.mark("last") or 0)
    while True:
        number += 1
        await store.add_event(EventRecord(number, "iris", "TEST", str(number)))
        await store.set_mark("last", str(number))
        print(number, flush=True)

asyncio.run(main())
"""


def killed_after(database: Path, acknowledged: int) -> int:
    """Run the committer, kill -9 it in mid-work, and return the last number that it printed."""
    command = [sys.executable, "-c", COMMITTER, str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(acknowledged)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
    return int([line for line in lines if line.endswith("\n")][-1])


@pytest.mark.parametrize("acknowledged", [1, 20, 101])
async def test_what_was_acknowledged_survives_kill_9(
    database: Path, reopened: Callable[[], Awaitable[Store]], acknowledged: int
) -> None:
    last = 0
    for _ in range(2):
        last = await asyncio.to_thread(killed_after, database, acknowledged)

    store = await reopened()

    told = [int(found.message) for found in await store.events(limit=10_000)]
    assert set(range(1, last + 1)) <= set(told)
    assert int(await store.mark("last") or 0) in (last, last + 1)
