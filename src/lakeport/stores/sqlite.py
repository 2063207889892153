"""What only SQLite needs: the one place with its own SQL."""

import os
import sqlite3
import time
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, event

#: Seconds that a transaction waits for another process's.
_BUSY = 5.0
#: Seconds between two tries where SQLite itself does not wait.
_PAUSE = 0.005
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
    _write_ahead(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on, which stays on for the file.

    While another process does so, a new database's first moments, SQLite refuses at once instead
    of waiting as it does elsewhere.
    """
    deadline = time.monotonic() + _BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE)


def _on_begin(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another process wrote in
    # between; one that takes the write lock at its start waits its turn instead.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
