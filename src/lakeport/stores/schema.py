"""Brings a database to the newest schema."""

from pathlib import Path

from sqlalchemy import Connection, inspect, select

from lakeport.stores.base import StoreError
from lakeport.stores.tables import HEAD, metadata, revisions

MIGRATIONS = Path(__file__).parent / "migrations"


def ensure_schema(connection: Connection, *, migrate: bool) -> None:
    """Make or migrate the schema within the connection's transaction.

    A new database gets its tables at once, without alembic, whose import is slow. With
    `migrate=False` one that is older is refused. Raises StoreError.
    """
    tables = inspect(connection).get_table_names()
    if revisions.name not in tables:
        if tables:
            raise StoreError("The database holds tables, and none of them are Lakeport's.")
        metadata.create_all(connection, checkfirst=False)
        revisions.create(connection, checkfirst=False)
        connection.execute(revisions.insert().values(version_num=HEAD))
        return
    stored = connection.execute(select(revisions.c.version_num)).scalar()
    if stored == HEAD:
        return
    if not migrate:
        raise StoreError(
            "The database was made by another version of Lakeport; start `lakeport serve` of this "
            "version first."
        )
    upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that are missing, up to `revision`.

    Raises StoreError when the database is newer.
    """
    # Late imports: most starts need no alembic.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:  # a revision that no file here describes
        raise StoreError(
            "The database was made by a newer version of Lakeport; use that or a newer one."
        ) from error
