"""The tables. A change here needs a migration and a new HEAD; a test holds the two together.

Migrations spell out the tables that they make: each must go on making what it did when it was
written, whatever stands here by then.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

#: The newest migration under migrations/versions. Here, because alembic itself is imported only
#: when a stored database is older.
HEAD = "0002"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Milliseconds since the epoch everywhere: 64 bits.

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("creator", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("config_update", Text, nullable=False),
    Column("active_version", Integer),
    Column("pending_version", Integer),
    Column("failures", JSON, nullable=False),
    Column("stopped", Boolean, nullable=False),
    Column("last_version", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("notifications", JSON(none_as_null=True)),
    Column("budget_policy_id", Text),
    Column("access", JSON, nullable=False),
    Column("from_flag", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
)

configs = Table(
    "configs",
    metadata,
    Column("endpoint_id", Text, ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", JSON, nullable=False),
)

callers = Table(
    "callers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("groups", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("caller", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
)

secret_scopes = Table(
    "secret_scopes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("scope", Text, ForeignKey("secret_scopes.name", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

secret_acls = Table(
    "secret_acls",
    metadata,
    Column("scope", Text, ForeignKey("secret_scopes.name", ondelete="CASCADE"), primary_key=True),
    Column("principal", Text, primary_key=True),
    Column("permission", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    # SQLite numbers rows by itself only in a column of type INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("entity", Text),
    Index(None, "endpoint", "id"),
    sqlite_autoincrement=True,  # an id is never given twice
)

marks = Table(
    "marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

#: As alembic makes it; not part of `metadata`, which alembic compares.
revisions = Table(
    "alembic_version",
    MetaData(naming_convention={"pk": "alembic_version_pkc"}),
    Column("version_num", String(32), primary_key=True),
)
