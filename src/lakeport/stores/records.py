"""What survives a restart, one frozen class a row. Times are milliseconds since the epoch, UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lakeport.auth.callers import AccessList, ScopePermission
from lakeport.runtimes.base import Kind
from lakeport.wire.chat import ChatTarget


class ConfigUpdate(StrEnum):
    """`state.config_update` on the wire."""

    NOT_UPDATING = "NOT_UPDATING"
    IN_PROGRESS = "IN_PROGRESS"
    UPDATE_FAILED = "UPDATE_FAILED"
    UPDATE_CANCELED = "UPDATE_CANCELED"


@dataclass(frozen=True, slots=True)
class EntityRecord:
    """A served entity as stored: what was asked for, and what it was resolved to."""

    name: str
    entity_name: str
    #: As asked: "3", or an alias as "@champion".
    entity_version: str
    #: The version number that `entity_version` meant when the config was made.
    resolved_version: str
    #: Identifies the model's files: a version that was deleted and made again has another one.
    model_key: str
    #: A folder or a file on the server that its operator named: `--model NAME=PATH`, or `--chat` or
    #: `--embeddings` with a file.
    path: str | None = None
    workload_type: str = "CPU"
    workload_size: str | None = "Small"
    min_concurrency: int | None = None
    max_concurrency: int | None = None
    scale_to_zero: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    creator: str = ""
    created_at: int = 0
    kind: Kind = Kind.MODEL
    #: How it is spoken to on the OpenAI wire; None for a model in a worker.
    chat: ChatTarget | None = None
    #: EXTERNAL: `external_model` as the wire has it; keys are references ("{{secrets/s/k}}") or
    #: sealed by the vault, never in clear. JOINED: `address` and `task`. SCRIPTED without a file:
    #: `script`.
    external: Mapping[str, Any] | None = None
    #: Provisioned throughput as asked for, to be shown again: min_provisioned_throughput,
    #: max_provisioned_throughput, provisioned_model_units.
    provisioned: Mapping[str, int] = field(default_factory=dict)
    #: How the entity of a fixed endpoint is described: name, display_name, description.
    foundation: Mapping[str, str] | None = None
    #: The last config version in which anything of this entity changed but its size: part of what
    #: tells one deployment from another, so that an entity asked for again after a change starts
    #: afresh.
    since_version: int = 1


@dataclass(frozen=True, slots=True)
class RouteRecord:
    entity: str
    percentage: int


@dataclass(frozen=True, slots=True)
class ConfigRecord:
    version: int
    entities: tuple[EntityRecord, ...]
    routes: tuple[RouteRecord, ...]
    created_at: int = 0
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """A serving endpoint: the wish that the reconciler makes true."""

    id: str
    name: str
    creator: str
    created_at: int
    updated_at: int
    update: ConfigUpdate = ConfigUpdate.NOT_UPDATING
    active: ConfigRecord | None = None
    #: The config being rolled out, or the one that failed last (its reasons in `failures`).
    pending: ConfigRecord | None = None
    #: Served entity name of the pending config to why it did not start.
    failures: Mapping[str, str] = field(default_factory=dict)
    stopped: bool = False
    #: Highest config version given out so far; the next is one more.
    last_version: int = 0
    description: str = ""
    tags: Mapping[str, str | None] = field(default_factory=dict)
    notifications: Mapping[str, Any] | None = None
    budget_policy_id: str | None = None
    access: AccessList = field(default_factory=AccessList)
    #: Made by `lakeport serve --model`, not through the API.
    from_flag: bool = False
    #: Made by `--chat` or `--embeddings`: lives as long as the flag, is not stored, and the API
    #: cannot change it.
    fixed: bool = False
    #: Made for a test: not stored, and gone with the server at the latest.
    temporary: bool = False
    #: Counts writes; a save against an older revision is refused.
    revision: int = 0


@dataclass(frozen=True, slots=True)
class CallerRecord:
    id: str
    name: str
    groups: frozenset[str]
    created_at: int


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token by its SHA-256; the token itself is shown once and kept nowhere."""

    id: str
    #: 64 hex digits.
    digest: str
    caller: str
    comment: str
    created_at: int
    #: None: never.
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class SecretScopeRecord:
    name: str
    created_at: int
    created_by: str


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """A secret, encrypted (auth/sealing.py)."""

    scope: str
    key: str
    #: Which key file it was encrypted with.
    key_id: str
    ciphertext: bytes = field(repr=False)
    updated_at: int


@dataclass(frozen=True, slots=True)
class SecretAclRecord:
    scope: str
    #: A user's or a group's name.
    principal: str
    permission: ScopePermission


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened to an endpoint, for people who ask why."""

    at: int
    endpoint: str
    kind: str
    message: str
    #: Who asked, or "system".
    actor: str = "system"
    entity: str | None = None
    #: Given by the store.
    id: int = 0
