"""Scopes, secrets and their permissions in SQL, each function within a transaction."""

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from lakeport.auth.callers import ScopePermission
from lakeport.errors import AlreadyExists
from lakeport.stores.records import SecretAclRecord, SecretRecord, SecretScopeRecord
from lakeport.stores.rows import as_row, put
from lakeport.stores.tables import secret_acls, secret_scopes, secrets


def scopes(db: Connection) -> list[SecretScopeRecord]:
    found = [SecretScopeRecord(**values) for values in db.execute(select(secret_scopes)).mappings()]
    return sorted(found, key=lambda record: record.name)  # not as the database's language sorts


def insert_scope(db: Connection, record: SecretScopeRecord, acl: SecretAclRecord) -> None:
    try:
        db.execute(insert(secret_scopes), as_row(record))
    except IntegrityError as error:
        raise AlreadyExists(f"Scope {record.name} already exists") from error
    save_acl(db, acl)


def delete_scope(db: Connection, name: str) -> bool:
    return db.execute(delete(secret_scopes).where(secret_scopes.c.name == name)).rowcount > 0


def secret_records(db: Connection) -> list[SecretRecord]:
    found = [SecretRecord(**values) for values in db.execute(select(secrets)).mappings()]
    return sorted(found, key=lambda record: (record.scope, record.key))


def save_secret(db: Connection, record: SecretRecord) -> None:
    put(db, secrets, {"scope": record.scope, "key": record.key}, as_row(record))


def delete_secret(db: Connection, scope: str, key: str) -> bool:
    query = delete(secrets).where(secrets.c.scope == scope, secrets.c.key == key)
    return db.execute(query).rowcount > 0


def acls(db: Connection) -> list[SecretAclRecord]:
    found = [
        SecretAclRecord(**{**values, "permission": ScopePermission[values["permission"]]})
        for values in db.execute(select(secret_acls)).mappings()
    ]
    return sorted(found, key=lambda record: (record.scope, record.principal))


def save_acl(db: Connection, record: SecretAclRecord) -> None:
    key = {"scope": record.scope, "principal": record.principal}
    put(db, secret_acls, key, {**key, "permission": record.permission.name})


def delete_acl(db: Connection, scope: str, principal: str) -> bool:
    query = delete(secret_acls).where(
        secret_acls.c.scope == scope, secret_acls.c.principal == principal
    )
    return db.execute(query).rowcount > 0
