"""What all tables have in common."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Table, insert, update


def as_row(record: Any) -> dict[str, Any]:
    """A record's fields by name."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def put(db: Connection, table: Table, key: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Replace the row with this key, or insert it."""
    where = [table.c[name] == value for name, value in key.items()]
    if not db.execute(update(table).where(*where).values(**row)).rowcount:
        db.execute(insert(table), dict(row))
