"""The store on a SQL database: SQLite, and made so that PostgreSQL can join."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    RowMapping,
    create_engine,
    delete,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from lakeport.errors import AlreadyExists, NotFound
from lakeport.stores import sql_secrets, sqlite
from lakeport.stores.base import EVENTS_KEPT, StaleRecord, StoreError
from lakeport.stores.documents import (
    access_document,
    access_list,
    config_document,
    config_record,
)
from lakeport.stores.records import (
    CallerRecord,
    ConfigRecord,
    ConfigUpdate,
    EndpointRecord,
    EventRecord,
    SecretAclRecord,
    SecretRecord,
    SecretScopeRecord,
    TokenRecord,
)
from lakeport.stores.rows import as_row, put
from lakeport.stores.schema import ensure_schema
from lakeport.stores.tables import callers, configs, endpoints, events, marks, tokens

T = TypeVar("T")


class SqlStore:
    """A `stores.base.Store` on one connection, used by one thread: transactions never interleave.

    `url` is SQLAlchemy's; `sqlite.sqlite_url` makes one for a file. `migrate=False` refuses a
    database that another version of Lakeport made, for programs that run beside a server.
    """

    def __init__(self, url: str | URL, *, migrate: bool = True) -> None:
        self._url = make_url(url)
        self._migrate = migrate
        self._engine: Engine | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def open(self) -> None:
        await self._submit(self._connect)
        await self._write(lambda db: ensure_schema(db, migrate=self._migrate))

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await self._submit(engine.dispose)
        self._thread.shutdown(wait=False)

    # Endpoints

    async def endpoints(self) -> Sequence[EndpointRecord]:
        return await self._read(_endpoints)

    async def insert_endpoint(self, record: EndpointRecord) -> EndpointRecord:
        return await self._write(lambda db: _insert_endpoint(db, record))

    async def save_endpoint(self, record: EndpointRecord, *events: EventRecord) -> EndpointRecord:
        return await self._write(lambda db: _save_endpoint(db, record, events))

    async def delete_endpoint(self, id: str, *events: EventRecord) -> None:
        def work(db: Connection) -> None:
            if db.execute(delete(endpoints).where(endpoints.c.id == id)).rowcount:
                _add_events(db, events)

        await self._write(work)

    async def config(self, endpoint_id: str, version: int) -> ConfigRecord | None:
        def work(db: Connection) -> ConfigRecord | None:
            query = select(configs.c.document).where(
                configs.c.endpoint_id == endpoint_id, configs.c.version == version
            )
            document = db.execute(query).scalar()
            return None if document is None else config_record(document)

        return await self._read(work)

    # Callers and tokens

    async def callers(self) -> Sequence[CallerRecord]:
        def work(db: Connection) -> list[CallerRecord]:
            rows = db.execute(select(callers)).mappings()
            return [CallerRecord(**{**row, "groups": frozenset(row["groups"])}) for row in rows]

        return sorted(await self._read(work), key=lambda record: record.name)

    async def save_caller(self, record: CallerRecord) -> None:
        values = {**as_row(record), "groups": sorted(record.groups)}
        await self._write(lambda db: put(db, callers, {"name": record.name}, values))

    async def tokens(self) -> Sequence[TokenRecord]:
        def work(db: Connection) -> list[TokenRecord]:
            query = select(tokens).order_by(tokens.c.created_at, tokens.c.id)
            return [TokenRecord(**row) for row in db.execute(query).mappings()]

        return await self._read(work)

    async def insert_token(self, record: TokenRecord) -> None:
        await self._write(lambda db: db.execute(insert(tokens), as_row(record)))

    async def delete_token(self, id: str) -> bool:
        query = delete(tokens).where(tokens.c.id == id)
        return await self._write(lambda db: db.execute(query).rowcount > 0)

    # Secrets

    async def secret_scopes(self) -> Sequence[SecretScopeRecord]:
        return await self._read(sql_secrets.scopes)

    async def insert_secret_scope(self, record: SecretScopeRecord, acl: SecretAclRecord) -> None:
        await self._write(lambda db: sql_secrets.insert_scope(db, record, acl))

    async def delete_secret_scope(self, name: str) -> bool:
        return await self._write(lambda db: sql_secrets.delete_scope(db, name))

    async def secrets(self) -> Sequence[SecretRecord]:
        return await self._read(sql_secrets.secret_records)

    async def save_secret(self, record: SecretRecord) -> None:
        await self._write(lambda db: sql_secrets.save_secret(db, record))

    async def delete_secret(self, scope: str, key: str) -> bool:
        return await self._write(lambda db: sql_secrets.delete_secret(db, scope, key))

    async def secret_acls(self) -> Sequence[SecretAclRecord]:
        return await self._read(sql_secrets.acls)

    async def save_secret_acl(self, record: SecretAclRecord) -> None:
        await self._write(lambda db: sql_secrets.save_acl(db, record))

    async def delete_secret_acl(self, scope: str, principal: str) -> bool:
        return await self._write(lambda db: sql_secrets.delete_acl(db, scope, principal))

    # Events

    async def add_event(self, event: EventRecord) -> None:
        await self._write(lambda db: _add_events(db, [event]))

    async def events(
        self,
        endpoint: str | None = None,
        *,
        after: int = 0,
        before: int | None = None,
        since: int = 0,
        kinds: Collection[str] = (),
        newest: bool = False,
        limit: int = 100,
    ) -> Sequence[EventRecord]:
        order = events.c.id.desc() if newest else events.c.id
        query = select(events).where(events.c.id > after).order_by(order).limit(limit)
        if endpoint is not None:
            query = query.where(events.c.endpoint == endpoint)
        if before is not None:
            query = query.where(events.c.id < before)
        if since > 0:
            query = query.where(events.c.at >= since)
        if kinds:
            query = query.where(events.c.kind.in_(sorted(kinds)))

        def work(db: Connection) -> list[EventRecord]:
            found = [EventRecord(**row) for row in db.execute(query).mappings()]
            return found[::-1] if newest else found

        return await self._read(work)

    # Marks

    async def mark(self, name: str) -> str | None:
        query = select(marks.c.value).where(marks.c.name == name)
        return await self._read(lambda db: db.execute(query).scalar())

    async def set_mark(self, name: str, value: str) -> None:
        values = {"name": name, "value": value}
        await self._write(lambda db: put(db, marks, {"name": name}, values))

    # The thread

    def _connect(self) -> None:
        on_sqlite = self._url.get_backend_name() == "sqlite"
        self._engine = create_engine(
            self._url,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=not on_sqlite,  # a server may have closed it meanwhile
            hide_parameters=True,  # errors must not show digests
            connect_args=sqlite.connect_arguments() if on_sqlite else {},
        )
        if on_sqlite:
            sqlite.prepare(self._engine)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await self._submit(lambda: self._transact(work, writes=False))

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._submit(lambda: self._transact(work, writes=True))

    def _transact(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        if self._engine is None:
            raise StoreError("The database is not open.")
        engine = self._engine.execution_options(**{sqlite.WRITES: writes})
        with engine.begin() as db:
            return work(db)

    async def _submit(self, work: Callable[[], T]) -> T:
        try:
            pending = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError as error:  # the thread was shut down
            raise StoreError("The database is closed.") from error
        try:
            return await pending
        except DBAPIError as error:
            said = str(error.orig).partition("\n")[0]  # PostgreSQL goes on with the row's values
            raise StoreError(f"The database could not do it: {said}.") from error
        # What no column can hold (a lone surrogate, an integer over 64 bits) fails in the driver.
        except (SQLAlchemyError, OSError, OverflowError, UnicodeError) as error:
            raise StoreError(f"The database could not do it: {error}.") from error


def _endpoints(db: Connection) -> list[EndpointRecord]:
    current = (
        select(configs)
        .join(endpoints, endpoints.c.id == configs.c.endpoint_id)
        .where(configs.c.version.in_([endpoints.c.active_version, endpoints.c.pending_version]))
    )
    documents = {
        (row["endpoint_id"], row["version"]): config_record(row["document"])
        for row in db.execute(current).mappings()
    }
    rows = db.execute(select(endpoints)).mappings()
    records = [_endpoint_record(row, documents) for row in rows]
    return sorted(records, key=lambda record: record.name)  # not as the database's language sorts


def _endpoint_record(
    row: RowMapping, documents: Mapping[tuple[str, int], ConfigRecord]
) -> EndpointRecord:
    values = dict(row)
    active, pending = values.pop("active_version"), values.pop("pending_version")
    state = ConfigUpdate(values.pop("config_update"))
    return EndpointRecord(
        **{
            **values,
            "update": state,
            "active": None if active is None else documents[row["id"], active],
            "pending": None if pending is None else documents[row["id"], pending],
            "access": access_list(row["access"]),
        }
    )


def _endpoint_row(record: EndpointRecord) -> dict[str, Any]:
    row = as_row(record)
    if row.pop("fixed") or row.pop("temporary"):
        raise ValueError("fixed and temporary endpoints are not stored")
    active, pending = row.pop("active"), row.pop("pending")
    row["config_update"] = row.pop("update").value
    return {
        **row,
        "active_version": None if active is None else active.version,
        "pending_version": None if pending is None else pending.version,
        "failures": dict(record.failures),
        "tags": dict(record.tags),
        "notifications": None if record.notifications is None else dict(record.notifications),
        "access": access_document(record.access),
    }


def _insert_endpoint(db: Connection, record: EndpointRecord) -> EndpointRecord:
    record = replace(record, revision=1)
    try:
        db.execute(insert(endpoints), _endpoint_row(record))
    except IntegrityError as error:
        raise AlreadyExists(f"Serving endpoint with name {record.name} already exists") from error
    _put_configs(db, record)
    return record


def _save_endpoint(
    db: Connection, record: EndpointRecord, told: Sequence[EventRecord]
) -> EndpointRecord:
    saved = replace(record, revision=record.revision + 1)
    stored = endpoints.c.id == record.id
    changed = db.execute(
        update(endpoints)
        .where(stored, endpoints.c.revision == record.revision)
        .values(**_endpoint_row(saved))
    ).rowcount
    if not changed:
        if db.execute(select(endpoints.c.id).where(stored)).scalar() is None:
            raise NotFound(f"Serving endpoint {record.name} does not exist")
        raise StaleRecord(f"Serving endpoint {record.name} was changed meanwhile.")
    _put_configs(db, saved)
    _add_events(db, told)
    return saved


def _put_configs(db: Connection, record: EndpointRecord) -> None:
    for config in (record.active, record.pending):
        if config is not None:
            key = {"endpoint_id": record.id, "version": config.version}
            put(db, configs, key, {**key, "document": config_document(config)})


def _add_events(db: Connection, told: Sequence[EventRecord]) -> None:
    if not told:
        return
    newest = 0
    for event in told:
        values = as_row(event)
        del values["id"]
        newest = db.execute(insert(events).values(**values).returning(events.c.id)).scalar_one()
    # Costs one look at the start of the index when there is nothing to remove.
    db.execute(delete(events).where(events.c.id <= newest - EVENTS_KEPT))
