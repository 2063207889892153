"""Serving endpoints as plain typed values, read from what the API shows of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedEntity:
    """One model version, external or foundation model behind an endpoint."""

    name: str
    #: "main.default.iris" of a registered model, the provider's or catalogue's name of others.
    model: str | None = None
    version: str | None = None
    #: "DEPLOYMENT_READY" and so on; None where the server does not say.
    state: str | None = None
    state_message: str = ""
    workload_size: str | None = None
    workload_type: str | None = None
    scale_to_zero: bool = False
    #: "custom", "external", "foundation" or "feature".
    kind: str = "custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A serving endpoint."""

    name: str
    #: "READY" or "NOT_READY".
    state: str
    #: "NOT_UPDATING", "IN_PROGRESS", "UPDATE_FAILED", "UPDATE_CANCELED".
    config_update: str
    #: Where requests go: `{host}/serving-endpoints/{name}/invocations`.
    url: str
    #: Those that answer now; those of the first config while it is on its way.
    entities: tuple[ServedEntity, ...] = ()
    #: Percent of the requests, by the served entity's name.
    traffic: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    #: "llm/v1/chat", "llm/v1/completions", "llm/v1/embeddings", "agent/…"; None: a classic model.
    task: str | None = None
    id: str | None = None
    creator: str | None = None
    description: str = ""
    #: Milliseconds since the epoch.
    created: int | None = None
    updated: int | None = None
    config_version: int | None = None
    permission: str | None = None
    #: Everything that the API showed.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def ready(self) -> bool:
        return self.state == "READY"

    @property
    def versions(self) -> Mapping[str, str]:
        """Model versions, by the served entity's name."""
        return {entity.name: entity.version for entity in self.entities if entity.version}
