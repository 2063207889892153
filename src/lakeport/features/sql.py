"""Features in a table of a SQL database, by SQLAlchemy."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

try:
    import sqlalchemy as sa
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "SqlSource needs SQLAlchemy: pip install 'lakeport[features]', or sqlalchemy alone."
    ) from error

from lakeport.client.features import Features

#: Values in one statement. SQLite takes 32,766 at most, PostgreSQL 65,535; more keys take more
#: statements, in one transaction.
_VALUES = 30_000


class SqlSource:
    """Features from a table, a view or a query, one row for each key."""

    def __init__(
        self,
        engine: "sa.Engine | str",
        table: "str | sa.FromClause | sa.Select[Any]",
        *,
        keys: Sequence[str] | str,
        features: Sequence[str] | str | None = None,
        schema: str | None = None,
    ) -> None:
        """`engine`: an Engine, or a URL of SQLAlchemy. `table`: a name (looked up in `schema`), a
        Table or a `select`. `features`: the columns to use; all but the keys by default.

        Raises ValueError for a column or table that is not there, and SQLAlchemy's own errors
        where the database cannot be reached.
        """
        self._keys = (keys,) if isinstance(keys, str) else tuple(keys)
        if not self._keys:
            raise ValueError("keys: expected the name of a column at least.")
        self._engine = sa.create_engine(engine) if isinstance(engine, str) else engine
        if isinstance(table, str):
            table = self._reflected(table, schema)
        self._table = table.subquery() if isinstance(table, sa.Select) else table
        columns = list(self._table.c.keys())
        if isinstance(features, str):
            features = (features,)
        if features is None:
            features = [name for name in columns if name not in self._keys]
        if absent := [name for name in (*self._keys, *features) if name not in columns]:
            raise ValueError(
                f"The table has no column {', '.join(absent)}; it has {', '.join(columns)}."
            )
        self._features = list(features)

    def _reflected(self, table: str, schema: str | None) -> sa.Table:
        try:
            return sa.Table(table, sa.MetaData(), schema=schema, autoload_with=self._engine)
        except sa.exc.NoSuchTableError as error:
            raise ValueError(f"The database has no table or view {table!r}.") from error

    @property
    def keys(self) -> Sequence[str]:
        return self._keys

    def fetch(self, keys: Mapping[str, Sequence[Any]]) -> Features:
        asked = list(zip(*(keys[name] for name in self._keys), strict=True))
        width = len(self._keys)
        found: dict[tuple[Any, ...], Sequence[Any]] = {}
        with self._engine.connect() as connection:
            for part in _parts(asked, _VALUES // width):
                for row in connection.execute(self._query(part)):
                    key = tuple(row[:width])
                    if key in found:
                        named = ", ".join(
                            f"{k}={v!r}" for k, v in zip(self._keys, key, strict=True)
                        )
                        raise ValueError(f"{named} is there twice: a primary key must be unique.")
                    found[key] = row[width:]
        rows = [found.get(key) for key in asked]
        return Features(
            {
                name: [None if row is None else row[place] for row in rows]
                for place, name in enumerate(self._features)
            },
            [position for position, row in enumerate(rows) if row is None],
        )

    def _query(self, asked: Sequence[tuple[Any, ...]]) -> "sa.Select[Any]":
        table = self._table
        key_columns = [table.c[name] for name in self._keys]
        if len(key_columns) == 1:
            fits = key_columns[0].in_([key[0] for key in asked])
        else:
            fits = sa.tuple_(*key_columns).in_(list(asked))
        return sa.select(*key_columns, *(table.c[name] for name in self._features)).where(fits)


def _parts(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
