"""The table behind docs/compatibility.md: the operations that clients know, and what we do.

`name` is what tests are marked with, and for the SDK's serving endpoints the method's own name.
"""

from dataclasses import dataclass
from enum import StrEnum

ENDPOINTS = "/api/2.0/serving-endpoints"
ENDPOINT = ENDPOINTS + "/{name}"
SERVED = ENDPOINT + "/served-models/{served_model_name}"
PERMISSIONS = "/api/2.0/permissions/serving-endpoints/{serving_endpoint_id}"


class Source(StrEnum):
    """Where what we know of an operation comes from."""

    #: The source of `databricks-sdk`.
    SDK = "SDK source"
    #: The source of `mlflow`.
    MLFLOW = "MLflow source"
    DOCS = "documentation"
    #: Databricks has no such thing.
    OURS = "Lakeport's own"


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    #: How a client calls it; a call has parentheses.
    call: str
    method: str
    path: str
    #: Fields that do what they say.
    takes: tuple[str, ...] = ()
    #: Fields that are refused by name with 501.
    refuses: tuple[str, ...] = ()
    #: Error codes of its own; 401, 403 and 404 for an unknown endpoint go without saying.
    errors: tuple[str, ...] = ()
    source: Source = Source.SDK
    notes: str = ""
    #: The whole operation is refused by name with 501.
    refused: bool = False
    #: Not there: 404.
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    operations: tuple[Operation, ...]


_BAD = "400 INVALID_PARAMETER_VALUE"
_CONFLICT = "409 RESOURCE_CONFLICT"
_STATE = "400 INVALID_STATE"

CONTROL_PLANE = Group(
    "Serving endpoints: `WorkspaceClient().serving_endpoints`",
    (
        Operation(
            "create",
            "create(), create_and_wait()",
            "POST",
            ENDPOINTS,
            takes=(
                "name",
                "config",
                "tags",
                "description",
                "email_notifications",
                "budget_policy_id",
            ),
            refuses=("ai_gateway", "rate_limits", "route_optimized", "telemetry_config"),
            errors=(
                "400 MALFORMED_REQUEST",
                _BAD,
                "404 RESOURCE_DOES_NOT_EXIST (model, version or alias)",
                "409 RESOURCE_ALREADY_EXISTS",
                "429 RESOURCE_EXHAUSTED",
            ),
            notes="A slash at the end is taken too. In an entity, external_model, "
            "foundation_model, instance_profile_arn, provisioned throughput, GPU workload types "
            "and references to secrets are refused with 501; so is config.auto_capture_config.",
        ),
        Operation("list", "list()", "GET", ENDPOINTS, notes="Shows what the caller may see."),
        Operation("get", "get()", "GET", ENDPOINT),
        Operation(
            "update_config",
            "update_config(), update_config_and_wait()",
            "PUT",
            ENDPOINT + "/config",
            takes=("served_entities", "served_models", "traffic_config"),
            refuses=("auto_capture_config",),
            errors=(
                _BAD,
                _STATE + " (stopped)",
                "404 RESOURCE_DOES_NOT_EXIST (model, version or alias)",
                _CONFLICT,
            ),
            notes="The old config answers until every entity of the new one does; one that fails "
            "changes nothing.",
        ),
        Operation(
            "alias",
            "entity_version='@champion'",
            "PUT",
            ENDPOINT + "/config",
            source=Source.OURS,
            notes="Databricks takes numbers only. An alias is followed when it moves.",
        ),
        Operation(
            "wait_get_serving_endpoint_not_updating",
            "wait_get_serving_endpoint_not_updating()",
            "GET",
            ENDPOINT,
            takes=("timeout", "callback"),
            notes="state.config_update ends in NOT_UPDATING or UPDATE_FAILED.",
        ),
        Operation("delete", "delete()", "DELETE", ENDPOINT, notes="Also while it is updating."),
        Operation(
            "config:stop",
            "stop: in no SDK",
            "POST",
            ENDPOINT + "/config:stop",
            errors=(_STATE, _CONFLICT),
            source=Source.DOCS,
        ),
        Operation(
            "config:start",
            "start: in no SDK",
            "POST",
            ENDPOINT + "/config:start",
            errors=(_STATE,),
            source=Source.DOCS,
            notes="Makes a new config version.",
        ),
        Operation(
            "patch",
            "patch()",
            "PATCH",
            ENDPOINT + "/tags",
            takes=("add_tags", "delete_tags"),
            errors=(_BAD,),
        ),
        Operation(
            "update_notifications",
            "update_notifications()",
            "PATCH",
            ENDPOINT + "/notifications",
            takes=("email_notifications",),
            notes="Stored and shown; no mail is sent. Not in SDK 0.59.",
        ),
        Operation(
            "logs",
            "logs()",
            "GET",
            SERVED + "/logs",
            notes="Also `?config_version=N`.",
        ),
        Operation(
            "build_logs",
            "build_logs()",
            "GET",
            SERVED + "/build-logs",
            notes="Also `?config_version=N`.",
        ),
        Operation(
            "export_metrics",
            "export_metrics()",
            "GET",
            ENDPOINT + "/metrics",
            source=Source.DOCS,
            notes="Databricks documents no labels: ours are endpoint_name and served_entity_name.",
        ),
        Operation(
            "get_open_api",
            "get_open_api()",
            "GET",
            ENDPOINT + "/openapi",
            errors=(_STATE + " (not ready)", "404 RESOURCE_DOES_NOT_EXIST (no signature)"),
        ),
        Operation(
            "put",
            "put()",
            "PUT",
            ENDPOINT + "/rate-limits",
            refuses=("rate_limits",),
            refused=True,
        ),
        Operation(
            "put_ai_gateway",
            "put_ai_gateway()",
            "PUT",
            ENDPOINT + "/ai-gateway",
            refuses=(
                "fallback_config",
                "guardrails",
                "inference_table_config",
                "rate_limits",
                "usage_tracking_config",
            ),
            refused=True,
        ),
        Operation(
            "patch_telemetry_config",
            "patch_telemetry_config()",
            "PATCH",
            ENDPOINT + "/telemetry-config",
            refuses=("telemetry_config",),
            refused=True,
        ),
        Operation(
            "create_provisioned_throughput_endpoint",
            "create_provisioned_throughput_endpoint()",
            "POST",
            ENDPOINTS + "/pt",
            refuses=(
                "name",
                "config",
                "ai_gateway",
                "budget_policy_id",
                "email_notifications",
                "tags",
            ),
            refused=True,
        ),
        Operation(
            "update_provisioned_throughput_endpoint_config",
            "update_provisioned_throughput_endpoint_config()",
            "PUT",
            ENDPOINTS + "/pt/{name}/config",
            refuses=("config",),
            refused=True,
        ),
        Operation(
            "get-model-optimization-info",
            "optimization info: in no SDK",
            "GET",
            ENDPOINTS + "/get-model-optimization-info/{model}/{version}",
            source=Source.DOCS,
            refused=True,
        ),
        Operation(
            "http_request",
            "http_request()",
            "POST",
            "/api/2.0/external-function",
            refuses=(
                "connection_name",
                "method",
                "path",
                "headers",
                "json",
                "params",
                "sub_domain",
            ),
            refused=True,
        ),
    ),
)

ACCESS = Group(
    "Permissions: `WorkspaceClient().serving_endpoints`",
    (
        Operation(
            "get_permission_levels",
            "get_permission_levels()",
            "GET",
            PERMISSIONS + "/permissionLevels",
        ),
        Operation("get_permissions", "get_permissions()", "GET", PERMISSIONS),
        Operation(
            "set_permissions",
            "set_permissions()",
            "PUT",
            PERMISSIONS,
            takes=("access_control_list",),
            errors=(_BAD,),
            notes="Replaces what was granted. service_principal_name is refused with 501.",
        ),
        Operation(
            "update_permissions",
            "update_permissions()",
            "PATCH",
            PERMISSIONS,
            takes=("access_control_list",),
            errors=(_BAD,),
            notes="Adds to what was granted. service_principal_name is refused with 501.",
        ),
    ),
)

DATA_PLANE = Group(
    "Invocations",
    (
        Operation(
            "query",
            "serving_endpoints.query()",
            "POST",
            "/serving-endpoints/{name}/invocations",
            takes=(
                "dataframe_split",
                "dataframe_records",
                "instances",
                "inputs",
                "messages",
                "prompt",
                "input",
                "max_tokens",
                "n",
                "stop",
                "stream",
                "temperature",
                "extra_params",
                "client_request_id",
                "usage_context",
            ),
            errors=(
                "400 BAD_REQUEST",
                _BAD,
                _STATE,
                "404 ENDPOINT_NOT_FOUND",
                "413 REQUEST_TOO_LARGE",
                "429 REQUEST_LIMIT_EXCEEDED",
                "503 TEMPORARILY_UNAVAILABLE",
                "504 DEADLINE_EXCEEDED",
            ),
            notes="The SDK cannot read a stream (databricks-sdk-py #1048). The fields of chats "
            "are the model's to heed; client_request_id and usage_context never reach it.",
        ),
        Operation(
            "invocations",
            "plain HTTP",
            "POST",
            "/serving-endpoints/{name}/invocations",
            takes=("JSON as above", "params", "text/csv", "Content-Encoding: gzip", "NaN"),
            errors=("415 UNSUPPORTED_MEDIA_TYPE",),
            source=Source.MLFLOW,
            notes="A stream is server-sent events and ends with `data: [DONE]`, or with an "
            "event that has `error`.",
        ),
        Operation(
            "served-models",
            "plain HTTP",
            "POST",
            "/serving-endpoints/{name}/served-models/{served_model_name}/invocations",
            takes=("as above",),
            source=Source.DOCS,
            notes="One served entity, whatever its share of the traffic.",
        ),
        Operation(
            "openai chat",
            "openai: chat.completions, completions, embeddings, responses, models",
            "POST",
            "/serving-endpoints/chat/completions",
            missing=True,
            notes="And its siblings.",
        ),
        Operation(
            "data plane client",
            "serving_endpoints_data_plane.query()",
            "POST",
            "endpoint_url",
            missing=True,
            notes="Needs route optimisation and OAuth.",
        ),
    ),
)

IDENTITY = Group(
    "Around it",
    (
        Operation("current_user.me", "current_user.me()", "GET", "/api/2.0/preview/scim/v2/Me"),
        Operation(
            "tokens.create",
            "tokens.create()",
            "POST",
            "/api/2.0/token/create",
            takes=("comment", "lifetime_seconds"),
            refuses=("scopes",),
            errors=(_BAD,),
        ),
        Operation("tokens.list", "tokens.list()", "GET", "/api/2.0/token/list", notes="One's own."),
        Operation(
            "tokens.delete",
            "tokens.delete()",
            "POST",
            "/api/2.0/token/delete",
            takes=("token_id",),
            errors=("404 RESOURCE_DOES_NOT_EXIST",),
            notes="One's own.",
        ),
        Operation(
            "host metadata",
            "every client, at its start",
            "GET",
            "/.well-known/databricks-config",
            notes="Open to all. Without oidc_endpoint: there is no OAuth yet.",
        ),
        Operation(
            "errors",
            "every client",
            "any",
            "any",
            notes="JSON with error_code, message and details[].request_id; Retry-After with 429 "
            "and 503; 401 before 404.",
        ),
        Operation("health", "plain HTTP", "GET", "/health", source=Source.OURS),
        Operation(
            "events",
            "plain HTTP",
            "GET",
            "/api/2.0/lakeport/events",
            takes=("endpoint", "after", "limit"),
            source=Source.OURS,
        ),
        Operation(
            "oauth",
            "OAuth machine to machine, user to machine",
            "POST",
            "/oidc/v1/token",
            missing=True,
        ),
        Operation("secrets", "secrets.*", "POST", "/api/2.0/secrets/put", missing=True),
        Operation("files", "files.*", "PUT", "/api/2.0/fs/files/x", missing=True),
        Operation(
            "unity catalog",
            "registered_models.*, model_versions.*",
            "GET",
            "/api/2.1/unity-catalog/models",
            missing=True,
        ),
    ),
)

_DEPLOYMENTS = "get_deploy_client('databricks')"


def _deployments(name: str, method: str, path: str, *, refused: bool = False) -> Operation:
    return Operation(
        f"deployments.{name}", f"{name}()", method, path, source=Source.MLFLOW, refused=refused
    )


DEPLOYMENTS = Group(
    f"`mlflow.deployments`: `{_DEPLOYMENTS}`",
    (
        _deployments("list_endpoints", "GET", ENDPOINTS + "/"),
        _deployments("get_endpoint", "GET", ENDPOINT),
        _deployments("create_endpoint", "POST", ENDPOINTS + "/"),
        _deployments("update_endpoint", "PUT", ENDPOINT + "/config"),
        _deployments("update_endpoint_config", "PUT", ENDPOINT + "/config"),
        _deployments("update_endpoint_tags", "PATCH", ENDPOINT + "/tags"),
        _deployments("delete_endpoint", "DELETE", ENDPOINT),
        _deployments("predict", "POST", "/serving-endpoints/{name}/invocations"),
        _deployments("predict_stream", "POST", "/serving-endpoints/{name}/invocations"),
        _deployments("update_endpoint_rate_limits", "PUT", ENDPOINT + "/rate-limits", refused=True),
        _deployments("update_endpoint_ai_gateway", "PUT", ENDPOINT + "/ai-gateway", refused=True),
    ),
)

REGISTRY = Group(
    "MLflow: `MLFLOW_TRACKING_URI=http://HOST:PORT`",
    (
        Operation(
            "mlflow log_model",
            "log_model(), log_param(), log_metric()",
            "POST",
            "/api/2.0/mlflow/...",
            source=Source.MLFLOW,
            notes="Answered by MLflow's own server.",
        ),
        Operation(
            "mlflow registry",
            "register_model(), MlflowClient: versions, aliases, tags, search",
            "POST",
            "/api/2.0/mlflow/...",
            source=Source.MLFLOW,
        ),
        Operation(
            "mlflow artifacts",
            "log_artifact(), download_artifacts()",
            "PUT",
            "/api/2.0/mlflow-artifacts/...",
            source=Source.MLFLOW,
        ),
        Operation(
            "mlflow load_model",
            "load_model()",
            "GET",
            "/api/2.0/mlflow-artifacts/...",
            source=Source.MLFLOW,
        ),
        Operation(
            "mlflow databricks",
            "tracking URI databricks, registry URI databricks-uc",
            "POST",
            "/api/2.0/mlflow/unity-catalog/registered-models/create",
            source=Source.MLFLOW,
            missing=True,
        ),
    ),
)

GROUPS = (CONTROL_PLANE, ACCESS, DATA_PLANE, IDENTITY, DEPLOYMENTS, REGISTRY)
OPERATIONS = tuple(operation for group in GROUPS for operation in group.operations)
