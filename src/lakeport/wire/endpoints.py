"""Serving endpoints in Databricks' words: what the control plane takes and gives.

Field names and shapes are those that `databricks-sdk` sends and parses (0.59.0 to 0.162.0).
Requests refuse fields that they do not know, by name, so that a misspelt one is never lost. Fields
that Databricks knows and that do nothing here yet are declared, so that `control/validation.py`
can refuse them with 501.
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lakeport.wire.numbers import Whole


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid")


# --- requests -----------------------------------------------------------------------------------


class Tag(_In):
    key: str = Field(min_length=1, max_length=127)
    value: str | None = Field(None, max_length=255)


class Route(_In):
    served_model_name: str | None = None
    served_entity_name: str | None = None
    traffic_percentage: Whole = Field(ge=0, le=100)


class TrafficConfig(_In):
    routes: list[Route] | None = None


class ServedEntityInput(_In):
    """A served entity; `served_models` of older clients say `model_name` and `model_version`."""

    name: str | None = None
    entity_name: str | None = None
    entity_version: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    workload_type: str | None = None
    workload_size: str | None = None
    scale_to_zero_enabled: bool | None = None
    min_provisioned_concurrency: Whole | None = None
    max_provisioned_concurrency: Whole | None = None
    environment_vars: dict[str, str] | None = None
    burst_scaling_enabled: bool | None = None
    external_model: dict[str, Any] | None = None
    # For models of the catalogue
    min_provisioned_throughput: Whole | None = Field(None, ge=0, le=2**31 - 1)
    max_provisioned_throughput: Whole | None = Field(None, ge=0, le=2**31 - 1)
    provisioned_model_units: Whole | None = Field(None, ge=0, le=2**31 - 1)
    # Known to Databricks, refused here by name
    foundation_model: dict[str, Any] | None = None
    instance_profile_arn: str | None = None


class CoreConfigInput(_In):
    name: str | None = None
    served_entities: list[ServedEntityInput] | None = None
    served_models: list[ServedEntityInput] | None = None
    traffic_config: TrafficConfig | None = None
    auto_capture_config: dict[str, Any] | None = None


class EmailNotifications(_In):
    on_update_success: list[str] | None = None
    on_update_failure: list[str] | None = None


class CreateEndpoint(_In):
    name: str
    config: CoreConfigInput | None = None
    tags: list[Tag] | None = None
    description: str | None = None
    email_notifications: EmailNotifications | None = None
    budget_policy_id: str | None = None
    route_optimized: bool | None = None
    ai_gateway: dict[str, Any] | None = None
    rate_limits: list[dict[str, Any]] | None = None
    telemetry_config: dict[str, Any] | None = None


class PtConfigInput(_In):
    """A config of provisioned throughput: models of the catalogue only."""

    served_entities: list[ServedEntityInput] | None = None
    traffic_config: TrafficConfig | None = None


class CreatePtEndpoint(_In):
    name: str
    config: PtConfigInput
    tags: list[Tag] | None = None
    email_notifications: EmailNotifications | None = None
    budget_policy_id: str | None = None
    ai_gateway: dict[str, Any] | None = None


class UpdatePtConfig(_In):
    config: PtConfigInput


class PatchTags(_In):
    add_tags: list[Tag] | None = None
    delete_tags: list[str] | None = None


class PatchNotifications(_In):
    email_notifications: EmailNotifications | None = None


# --- replies ------------------------------------------------------------------------------------


class Ready(StrEnum):
    READY = "READY"
    NOT_READY = "NOT_READY"


class Deployment(StrEnum):
    """`state.deployment` of a served entity."""

    CREATING = "DEPLOYMENT_CREATING"
    READY = "DEPLOYMENT_READY"
    RECOVERING = "DEPLOYMENT_RECOVERING"
    FAILED = "DEPLOYMENT_FAILED"
    ABORTED = "DEPLOYMENT_ABORTED"


class EndpointState(_Out):
    ready: Ready
    config_update: str


class EntityState(_Out):
    deployment: Deployment
    deployment_state_message: str = ""


class FoundationModel(_Out):
    name: str
    display_name: str | None = None
    description: str | None = None


class ServedEntity(_Out):
    name: str
    entity_name: str | None = None
    entity_version: str | None = None
    external_model: dict[str, Any] | None = None
    foundation_model: FoundationModel | None = None
    workload_type: str | None = None
    workload_size: str | None = None
    scale_to_zero_enabled: bool | None = None
    min_provisioned_throughput: int | None = None
    max_provisioned_throughput: int | None = None
    provisioned_model_units: int | None = None
    min_provisioned_concurrency: int | None = None
    max_provisioned_concurrency: int | None = None
    environment_vars: dict[str, str] | None = None
    creator: str
    creation_timestamp: int
    state: EntityState


class ServedModel(_Out):
    """The deprecated mirror of a served entity, which older clients read."""

    name: str
    model_name: str
    model_version: str
    workload_type: str
    workload_size: str | None = None
    scale_to_zero_enabled: bool
    min_provisioned_concurrency: int | None = None
    max_provisioned_concurrency: int | None = None
    environment_vars: dict[str, str] | None = None
    creator: str
    creation_timestamp: int
    state: EntityState


class TrafficRoute(_Out):
    served_entity_name: str
    served_model_name: str
    traffic_percentage: int


class Traffic(_Out):
    routes: list[TrafficRoute]


class CoreConfig(_Out):
    config_version: int
    served_entities: list[ServedEntity]
    served_models: list[ServedModel]
    traffic_config: Traffic


class PendingConfig(CoreConfig):
    start_time: int


class EntitySummary(_Out):
    name: str
    entity_name: str | None = None
    entity_version: str | None = None
    external_model: dict[str, Any] | None = None
    foundation_model: FoundationModel | None = None


class ModelSummary(_Out):
    name: str
    model_name: str
    model_version: str


class ConfigSummary(_Out):
    served_entities: list[EntitySummary]
    served_models: list[ModelSummary]


class EndpointTag(_Out):
    key: str
    value: str | None = None


class EndpointSummary(_Out):
    """One endpoint in a list: no sizes, no traffic."""

    #: None for those that a setting made, as Databricks' own foundation model endpoints have none.
    id: str | None = None
    name: str
    creator: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str
    task: str | None = None
    state: EndpointState
    config: ConfigSummary | None = None
    tags: list[EndpointTag]
    budget_policy_id: str | None = None


class EndpointDetailed(_Out):
    id: str | None = None
    name: str
    creator: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str
    task: str | None = None
    route_optimized: bool
    permission_level: str
    state: EndpointState
    config: CoreConfig | None = None
    pending_config: PendingConfig | None = None
    tags: list[EndpointTag]
    email_notifications: EmailNotifications | None = None
    budget_policy_id: str | None = None


class OptimizationInfo(_Out):
    """Whether a model can have provisioned throughput, and in steps of how many tokens a second."""

    optimizable: bool
    model_type: str | None = None
    throughput_chunk_size: int | None = None


class EndpointList(_Out):
    endpoints: list[EndpointSummary]


class EndpointTags(_Out):
    tags: list[EndpointTag]


class Logs(_Out):
    logs: str
