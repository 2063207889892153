"""What only SQLite needs: the one place with its own SQL."""

import os
import sqlite3
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, event

#: Seconds that a transaction waits for another process's.
_BUSY = 5.0
#: Marks connections that will write; see SqlStore.
WRITES = "lakeport_writes"


def sqlite_url(path: Path) -> URL:
    """The store's URL for a database file; whatever characters its path holds."""
    return URL.create("sqlite", database=str(path))


def connect_arguments() -> dict[str, object]:
    return {"timeout": _BUSY}


def prepare(engine: Engine) -> None:
    """Make `engine` durable, strict, and its transactions real.

    Raises OSError when the database's file cannot be made.
    """
    database = engine.url.database
    if database and database != ":memory:":
        # Private from its first moment; SQLite gives its other files the same mode.
        os.close(os.open(database, os.O_RDWR | os.O_CREAT, 0o600))
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions by itself, late and not for DDL: `_on_begin` does.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another process wrote in
    # between; one that takes the write lock at its start waits its turn instead.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
