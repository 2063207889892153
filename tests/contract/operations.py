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
    #: The source of `openai`.
    OPENAI = "openai source"
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
            notes="A slash at the end is taken too. An entity is a registered model, one of the "
            "catalogue (system.ai.NAME, version 1; provisioned throughput is taken and shown) or "
            "an external_model of the providers openai (also azure), custom and "
            "databricks-model-serving, whose *_plaintext keys are never shown; other providers, "
            "foundation_model, instance_profile_arn, provisioned throughput and GPU workload types "
            "of registered models and config.auto_capture_config are refused with 501. "
            "environment_vars that are "
            "exactly {{secrets/scope/key}} reach the model as the secret's value; who asks for "
            "them needs READ on the scope.",
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
            notes="Of language models: the bodies of the OpenAI wire that they take.",
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
            takes=("name", "config", "budget_policy_id", "email_notifications", "tags"),
            refuses=("ai_gateway",),
            errors=(_BAD, "404 RESOURCE_DOES_NOT_EXIST (no such model in the catalogue)"),
            notes="Models of the catalogue (system.ai.NAME); the units are kept and shown, and "
            "bound nothing.",
        ),
        Operation(
            "update_provisioned_throughput_endpoint_config",
            "update_provisioned_throughput_endpoint_config()",
            "PUT",
            ENDPOINTS + "/pt/{name}/config",
            takes=("config",),
            errors=(_BAD, _CONFLICT),
        ),
        Operation(
            "foundation endpoints",
            "databricks-claude-sonnet-4 and the like",
            "GET",
            ENDPOINTS,
            source=Source.DOCS,
            errors=(_BAD + " (to change one)",),
            notes="Made by `lakeport serve --chat NAME=TARGET` and `--embeddings NAME=TARGET`, "
            "whatever NAME is: listed and shown with foundation_model and without an id; all "
            "users may query them; the API cannot change them.",
        ),
        Operation(
            "get-model-optimization-info",
            "optimization info: in no SDK",
            "GET",
            ENDPOINTS + "/get-model-optimization-info/{model}/{version}",
            source=Source.DOCS,
            notes="Models of the catalogue are optimizable, in steps of one token a second.",
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
                "502 BAD_GATEWAY (an outside server failed)",
                "503 TEMPORARILY_UNAVAILABLE",
                "504 DEADLINE_EXCEEDED",
            ),
            notes="The SDK cannot read a stream (databricks-sdk-py #1048), and shows no "
            "finish_reason, which it looks for under another name. Of registered models the "
            "fields of chats are theirs to heed; a hosted one refuses by name what it cannot do. "
            "client_request_id and usage_context never reach a model. A refusal of an outside "
            "server keeps its status and its form.",
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
            "openai: chat.completions.create(), also stream=True",
            "POST",
            "/serving-endpoints/chat/completions",
            takes=("model", "messages", "as OpenAI has them"),
            errors=("400 BAD_REQUEST", _BAD, "404 ENDPOINT_NOT_FOUND"),
            source=Source.OPENAI,
            notes="`model` names the endpoint. Fields that a hosted model cannot heed are refused "
            "by name; an outside server gets all as it came.",
        ),
        Operation(
            "openai completions",
            "openai: completions.create()",
            "POST",
            "/serving-endpoints/completions",
            takes=("model", "prompt", "as OpenAI has them"),
            source=Source.OPENAI,
        ),
        Operation(
            "openai embeddings",
            "openai: embeddings.create()",
            "POST",
            "/serving-endpoints/embeddings",
            takes=("model", "input", "encoding_format", "dimensions"),
            source=Source.OPENAI,
            notes="Texts; a hosted model refuses token ids.",
        ),
        Operation(
            "openai models",
            "openai: models.list(), models.retrieve()",
            "GET",
            "/serving-endpoints/models",
            source=Source.OPENAI,
            notes="Also `/models/{name}`. The endpoints that the caller may query.",
        ),
        Operation(
            "openai path",
            "openai: base_url with the endpoint's name",
            "POST",
            "/serving-endpoints/{name}/chat/completions",
            takes=("as above",),
            source=Source.OURS,
            notes="Also `/completions` and `/embeddings`; `model` in the body is not looked at.",
        ),
        Operation(
            "openai responses",
            "openai: responses.create()",
            "POST",
            "/serving-endpoints/responses",
            source=Source.OPENAI,
            missing=True,
        ),
        Operation(
            "get_open_ai_client",
            "serving_endpoints.get_open_ai_client()",
            "POST",
            "/serving-endpoints/chat/completions",
            notes="The openai SDK: with it every line above.",
        ),
        Operation(
            "get_langchain_chat_open_ai_client",
            "serving_endpoints.get_langchain_chat_open_ai_client()",
            "POST",
            "/serving-endpoints/chat/completions",
            notes="LangChain's own standard suites run on ChatOpenAI and OpenAIEmbeddings in "
            "`tests/integration/test_langchain.py`.",
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
            takes=("endpoint", "kind", "since", "after", "limit", "newest"),
            errors=(_BAD,),
            source=Source.OURS,
        ),
        Operation(
            "live",
            "plain HTTP",
            "GET",
            "/api/2.0/lakeport/live",
            source=Source.OURS,
            notes="Replicas, rates, latencies and queues of the last ten seconds.",
        ),
        Operation(
            "series",
            "plain HTTP",
            "GET",
            "/api/2.0/lakeport/series",
            takes=("endpoint", "served_entity", "range"),
            errors=(_BAD,),
            source=Source.OURS,
            notes="15 minutes by the second, or 24 hours by the minute.",
        ),
        Operation(
            "log pages",
            "plain HTTP",
            "GET",
            "/api/2.0/lakeport/logs/{endpoint}/{served_entity}",
            takes=("after", "limit", "build"),
            errors=(_BAD,),
            source=Source.OURS,
        ),
        Operation(
            "oauth",
            "OAuth machine to machine, user to machine",
            "POST",
            "/oidc/v1/token",
            missing=True,
        ),
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

_SECRETS = "/api/2.0/secrets"
_NO_SCOPE = "404 RESOURCE_DOES_NOT_EXIST"


def _secrets(name: str, method: str, path: str, *takes: str, notes: str = "") -> Operation:
    errors = (_NO_SCOPE,) if method == "GET" or "delete" in path else (_BAD, _NO_SCOPE)
    return Operation(
        f"secrets.{name}",
        f"{name}()",
        method,
        _SECRETS + path,
        takes=takes,
        errors=errors,
        notes=notes,
    )


SECRETS = Group(
    "Secrets: `WorkspaceClient().secrets`",
    (
        Operation(
            "secrets.create_scope",
            "create_scope()",
            "POST",
            _SECRETS + "/scopes/create",
            takes=("scope", "initial_manage_principal", "scope_backend_type"),
            refuses=("backend_azure_keyvault",),
            errors=(_BAD, "400 RESOURCE_ALREADY_EXISTS", "400 RESOURCE_LIMIT_EXCEEDED"),
            notes="Backend DATABRICKS; AZURE_KEYVAULT is refused with 501.",
        ),
        _secrets("delete_scope", "POST", "/scopes/delete", "scope"),
        Operation(
            "secrets.list_scopes",
            "list_scopes()",
            "GET",
            _SECRETS + "/scopes/list",
            notes="All names, to everybody.",
        ),
        Operation(
            "secrets.put_secret",
            "put_secret()",
            "POST",
            _SECRETS + "/put",
            takes=("scope", "key", "string_value", "bytes_value"),
            errors=(_BAD, _NO_SCOPE, "400 RESOURCE_LIMIT_EXCEEDED"),
            notes="Up to 128 KiB; encrypted with AES-256-GCM.",
        ),
        _secrets("delete_secret", "POST", "/delete", "scope", "key"),
        _secrets(
            "get_secret",
            "GET",
            "/get",
            "scope",
            "key",
            notes="Databricks answers in notebooks only. `dbutils.secrets.get` asks here too.",
        ),
        _secrets("list_secrets", "GET", "/list", "scope"),
        _secrets(
            "put_acl",
            "POST",
            "/acls/put",
            "scope",
            "principal",
            "permission",
            notes="The principal need not exist yet.",
        ),
        _secrets("delete_acl", "POST", "/acls/delete", "scope", "principal"),
        _secrets("get_acl", "GET", "/acls/get", "scope", "principal"),
        _secrets("list_acls", "GET", "/acls/list", "scope"),
    ),
)

AGENTS = Group(
    "Chat models and agents from the registry",
    (
        Operation(
            "query chat models",
            "query(), openai: chat.completions.create(), langchain: ChatOpenAI",
            "POST",
            "/serving-endpoints/chat/completions",
            takes=("messages", "tools", "custom_inputs", "stream", "stream_options"),
            errors=("400 BAD_REQUEST", _BAD),
            source=Source.MLFLOW,
            notes="An MLflow ChatModel, or a PythonModel that takes messages; by `/invocations` "
            'too. A ChatModel that gives no usage gets an estimate, `"estimated": true`. `model` '
            "in an answer is the model's own word, or the endpoint's name.",
        ),
        Operation(
            "query agents",
            "query(), openai: chat.completions.create(), langchain: ChatOpenAI",
            "POST",
            "/serving-endpoints/chat/completions",
            takes=("messages", "context", "custom_inputs", "databricks_options", "stream"),
            errors=("400 BAD_REQUEST", _BAD),
            source=Source.DOCS,
            notes="A ChatAgent answers with `messages`, in a stream with `delta`; here, not at "
            "`/invocations`, `choices` stand beside them with what the agent itself says. A "
            "ResponsesAgent takes `input` at `/invocations`; its events pass as they are. "
            "`return_trace` is ignored.",
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

GROUPS = (CONTROL_PLANE, ACCESS, DATA_PLANE, AGENTS, SECRETS, IDENTITY, DEPLOYMENTS, REGISTRY)
OPERATIONS = tuple(operation for group in GROUPS for operation in group.operations)
