"""The verbs of `lakeport serving-endpoints`: one line of a table each, all of one shape.

Names and positional arguments are those of Databricks' own command line, so that hands and scripts
need not learn anew. `start` and `stop` are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from lakeport.cli import endpoints_text as text
from lakeport.cli.output import Output

ENDPOINTS = "/api/2.0/serving-endpoints"
PERMISSIONS = "/api/2.0/permissions/serving-endpoints"


@dataclass(frozen=True, slots=True)
class Flag:
    """An option that fills a field of the request's body."""

    name: str
    field: str
    help: str
    kind: type = str


@dataclass(frozen=True, slots=True)
class Verb:
    """One operation of the REST API as a command."""

    name: str
    method: str
    #: With the arguments' names in braces.
    path: str
    summary: str
    #: What follows `lakeport serving-endpoints`, for the help.
    example: str
    arguments: tuple[str, ...] = ("name",)
    #: Whether there is a `--json`, and must be.
    body: Literal["none", "needed", "optional"] = "none"
    #: NAME is a field of the body, and may stand there alone.
    named_in_body: bool = False
    #: Then no update runs any more, unless `--no-wait` is given.
    waits: bool = False
    text: Callable[[Output, Any], None] | None = None
    flags: tuple[Flag, ...] = ()
    #: The reply is text, whatever the format.
    plain: bool = False


_BUDGET = Flag("--budget-policy-id", "budget_policy_id", "The budget policy to apply.")
_ENTITY = """'{"served_entities": [{"entity_name": "iris", "entity_version": "2"}]}'"""
_GRANT = """'{"access_control_list": [{"group_name": "users", "permission_level": "CAN_QUERY"}]}'"""

VERBS = (
    Verb(
        "build-logs", "GET", f"{ENDPOINTS}/{{name}}/served-models/{{served_model_name}}/build-logs",
        "Print how a served entity's environment was built.", "build-logs iris iris-1",
        arguments=("name", "served_model_name"), text=text.logs,
    ),
    Verb(
        "create", "POST", ENDPOINTS,
        "Create an endpoint and wait until it serves.", "create iris --json @endpoint.json",
        body="optional", named_in_body=True, waits=True, text=text.endpoint,
        flags=(
            _BUDGET,
            Flag("--description", "description", "What the endpoint is for."),
            Flag("--route-optimized", "route_optimized", "Ask for a faster route.", bool),
        ),
    ),
    Verb(
        "create-provisioned-throughput-endpoint", "POST", f"{ENDPOINTS}/pt",
        "Create an endpoint of provisioned throughput.",
        "create-provisioned-throughput-endpoint llama --json @endpoint.json",
        body="needed", named_in_body=True, waits=True, text=text.endpoint, flags=(_BUDGET,),
    ),
    Verb(
        "delete", "DELETE", f"{ENDPOINTS}/{{name}}",
        "Delete an endpoint.", "delete iris", text=text.nothing,
    ),
    Verb(
        "export-metrics", "GET", f"{ENDPOINTS}/{{name}}/metrics",
        "Print an endpoint's metrics, in Prometheus' text form.", "export-metrics iris",
        plain=True,
    ),
    Verb(
        "get", "GET", f"{ENDPOINTS}/{{name}}",
        "Show an endpoint.", "get iris", text=text.endpoint,
    ),
    Verb(
        "get-open-api", "GET", f"{ENDPOINTS}/{{name}}/openapi",
        "Print an endpoint's OpenAPI page: what it takes and gives.", "get-open-api iris",
    ),
    Verb(
        "get-permission-levels", "GET", f"{PERMISSIONS}/{{serving_endpoint_id}}/permissionLevels",
        "List the levels of permission that an endpoint has.", "get-permission-levels iris",
        arguments=("serving_endpoint_id",), text=text.permission_levels,
    ),
    Verb(
        "get-permissions", "GET", f"{PERMISSIONS}/{{serving_endpoint_id}}",
        "List who may do what with an endpoint.", "get-permissions iris",
        arguments=("serving_endpoint_id",), text=text.permissions,
    ),
    Verb(
        "list", "GET", ENDPOINTS,
        "List the endpoints that you may see.", "list -o json", arguments=(), text=text.endpoints,
    ),
    Verb(
        "logs", "GET", f"{ENDPOINTS}/{{name}}/served-models/{{served_model_name}}/logs",
        "Print what a served entity's model printed.", "logs iris iris-1",
        arguments=("name", "served_model_name"), text=text.logs,
    ),
    Verb(
        "patch", "PATCH", f"{ENDPOINTS}/{{name}}/tags",
        "Add and delete tags.",
        """patch iris --json '{"add_tags": [{"key": "team", "value": "risk"}]}'""",
        body="needed", text=text.tags,
    ),
    Verb(
        "patch-telemetry-config", "PATCH", f"{ENDPOINTS}/{{name}}/telemetry-config",
        "Change where an endpoint's telemetry goes.",
        "patch-telemetry-config iris --json @telemetry.json", body="needed",
    ),
    Verb(
        "put", "PUT", f"{ENDPOINTS}/{{name}}/rate-limits",
        "Set an endpoint's rate limits.", "put iris --json @limits.json", body="needed",
    ),
    Verb(
        "put-ai-gateway", "PUT", f"{ENDPOINTS}/{{name}}/ai-gateway",
        "Set an endpoint's AI gateway.", "put-ai-gateway helper --json @gateway.json",
        body="needed",
    ),
    Verb(
        "set-permissions", "PUT", f"{PERMISSIONS}/{{serving_endpoint_id}}",
        "Replace who may do what with an endpoint.", f"set-permissions iris --json {_GRANT}",
        arguments=("serving_endpoint_id",), body="needed", text=text.permissions,
    ),
    Verb(
        "start", "POST", f"{ENDPOINTS}/{{name}}/config:start",
        "Start a stopped endpoint and wait until it serves.", "start iris",
        waits=True, text=text.endpoint,
    ),
    Verb(
        "stop", "POST", f"{ENDPOINTS}/{{name}}/config:stop",
        "Stop an endpoint; its config is kept.", "stop iris", text=text.endpoint,
    ),
    Verb(
        "update-config", "PUT", f"{ENDPOINTS}/{{name}}/config",
        "Change what an endpoint serves and wait until it does.",
        f"update-config iris --json {_ENTITY}", body="needed", waits=True, text=text.endpoint,
    ),
    Verb(
        "update-notifications", "PATCH", f"{ENDPOINTS}/{{name}}/notifications",
        "Change who is told of an endpoint's updates.",
        "update-notifications iris --json @notifications.json", body="needed",
    ),
    Verb(
        "update-permissions", "PATCH", f"{PERMISSIONS}/{{serving_endpoint_id}}",
        "Add to who may do what with an endpoint.", f"update-permissions iris --json {_GRANT}",
        arguments=("serving_endpoint_id",), body="needed", text=text.permissions,
    ),
    Verb(
        "update-provisioned-throughput-endpoint-config", "PUT", f"{ENDPOINTS}/pt/{{name}}/config",
        "Change what an endpoint of provisioned throughput serves.",
        "update-provisioned-throughput-endpoint-config llama --json @config.json",
        body="needed", waits=True, text=text.endpoint,
    ),
)  # fmt: skip
