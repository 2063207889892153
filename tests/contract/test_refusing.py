"""Errors as clients see them, and what Databricks has and Lakeport has not yet."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound
from databricks.sdk.errors import NotImplemented as NotYet
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.serving import (
    AiGatewayConfig,
    AiGatewayUsageTrackingConfig,
    AnthropicConfig,
    AutoCaptureConfigInput,
    EndpointCoreConfigInput,
    ExternalFunctionRequestHttpMethod,
    ExternalModel,
    ExternalModelProvider,
    RateLimit,
    RateLimitRenewalPeriod,
    ServedEntityInput,
    ServingEndpointsAPI,
    ServingModelWorkloadType,
)

from tests.contract.endpoints import SPLIT, delete, entity
from tests.contract.operations import OPERATIONS, Operation
from tests.contract.workspace import Workspace

ENDPOINTS = "/api/2.0/serving-endpoints"


# --- the form of errors -------------------------------------------------------------------------


@pytest.mark.operation("errors")
@pytest.mark.parametrize(
    "path",
    [
        f"{ENDPOINTS}/unknown-endpoint",
        "/serving-endpoints/unknown-endpoint/invocations",
        "/api/2.0/permissions/serving-endpoints/0123456789abcdef0123456789abcdef",
    ],
)
def test_every_error_carries_the_id_of_its_request(http: httpx.Client, path: str) -> None:
    refused = http.post(path, json={}) if "invocations" in path else http.get(path)

    body = refused.json()
    assert refused.status_code == 404
    assert body["error_code"]
    assert body["message"]
    (info,) = body["details"]
    assert info["@type"] == "type.googleapis.com/google.rpc.RequestInfo"
    assert info["request_id"]
    assert "serving_data" in info


@pytest.mark.operation("errors")
def test_the_sdk_finds_the_id_of_the_request(
    api: ServingEndpointsAPI, workspace: Workspace
) -> None:
    with pytest.raises(NotFound) as refused:
        api.get(workspace.new_name("unknown"))

    info = refused.value.get_error_details().request_info
    assert info is not None
    assert info.request_id


@pytest.mark.operation("errors")
def test_an_unknown_route_is_named(client: WorkspaceClient, http: httpx.Client) -> None:
    with pytest.raises(NotFound, match=r"No API found for 'POST /api/2\.0/nowhere'") as refused:
        client.api_client.do("POST", "/api/2.0/nowhere")

    assert refused.value.error_code == "ENDPOINT_NOT_FOUND"


@pytest.mark.operation("errors", "query")
@pytest.mark.lakeport  # a real workspace has no model that never loads
def test_503_says_when_to_come_back(
    http: httpx.Client, api: ServingEndpointsAPI, workspace: Workspace
) -> None:
    name = workspace.new_name("hangs")
    config = EndpointCoreConfigInput(name=name, served_entities=[entity("load_hangs", "1")])
    api.create(name, config=config)
    try:
        refused = http.post(f"/serving-endpoints/{name}/invocations", json=SPLIT)

        assert refused.status_code == 503
        assert refused.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
        assert int(refused.headers["retry-after"]) >= 1
    finally:
        delete(api, name)


@pytest.fixture
def full(api: ServingEndpointsAPI, workspace: Workspace) -> Iterator[None]:
    """The workspace has as many endpoints as it may have."""
    made = []
    try:
        for _ in range(len(list(api.list())), 40):
            made.append(workspace.new_name("full"))
            api.create(made[-1])
        yield
    finally:
        for name in made:
            delete(api, name)


@pytest.mark.operation("errors", "create")
@pytest.mark.lakeport  # it fills the workspace
@pytest.mark.usefixtures("full")
def test_429_says_when_to_come_back(http: httpx.Client, workspace: Workspace) -> None:
    refused = http.post(ENDPOINTS, json={"name": workspace.new_name("too-many")})

    assert refused.status_code == 429
    assert refused.json()["error_code"] == "RESOURCE_EXHAUSTED"
    assert int(refused.headers["retry-after"]) >= 1


# --- not implemented yet ------------------------------------------------------------------------

NOT_YET = {operation.name: operation for operation in OPERATIONS if operation.refused}


@pytest.mark.operation(
    "put",
    "put_ai_gateway",
    "patch_telemetry_config",
    "http_request",
)
@pytest.mark.lakeport
@pytest.mark.parametrize("operation", NOT_YET.values(), ids=NOT_YET)
def test_an_operation_that_comes_later_is_refused_by_name(
    http: httpx.Client, operation: Operation
) -> None:
    path = operation.path.format(name="x", model="x", version="1")

    refused = http.request(operation.method, path, json={})

    assert (refused.status_code, refused.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert "Lakeport does not have this yet" in refused.json()["message"]


@pytest.mark.operation(
    "put",
    "put_ai_gateway",
    "http_request",
)
@pytest.mark.lakeport
def test_the_sdk_raises_not_implemented(api: ServingEndpointsAPI, iris: str) -> None:
    limit = RateLimit(calls=1, renewal_period=RateLimitRenewalPeriod.MINUTE)

    with pytest.raises(NotYet, match="Rate limits"):
        api.put(iris, rate_limits=[limit])
    with pytest.raises(NotYet, match="AI gateway"):
        api.put_ai_gateway(iris, usage_tracking_config=AiGatewayUsageTrackingConfig(enabled=True))
    with pytest.raises(NotYet, match="outside functions"):
        api.http_request("c", ExternalFunctionRequestHttpMethod.GET, "/")


@pytest.mark.operation("patch_telemetry_config")
@pytest.mark.lakeport
def test_the_newest_sdk_raises_it_for_telemetry(api: ServingEndpointsAPI, iris: str) -> None:
    if not hasattr(api, "patch_telemetry_config"):
        pytest.skip("this SDK has no patch_telemetry_config")

    with pytest.raises(NotYet, match="Telemetry"):
        api.patch_telemetry_config(iris)


MISSING = {
    operation.name: operation
    for operation in OPERATIONS
    if operation.missing and operation.path.startswith("/")
}


@pytest.mark.lakeport
@pytest.mark.parametrize("operation", MISSING.values(), ids=MISSING)
def test_what_is_not_there_is_not_found(http: httpx.Client, operation: Operation) -> None:
    assert http.request(operation.method, operation.path, json={}).status_code == 404


def _entity(**more: Any) -> ServedEntityInput:
    return ServedEntityInput(
        **{"entity_name": "iris", "entity_version": "1", "workload_size": "Small", **more}
    )


EXTERNAL = ExternalModel(
    provider=ExternalModelProvider.ANTHROPIC,
    name="a-model",
    task="llm/v1/chat",
    anthropic_config=AnthropicConfig(anthropic_api_key_plaintext="not-a-key"),
)
ENTITIES = {
    "external_model": ServedEntityInput(external_model=EXTERNAL),
    "instance_profile_arn": _entity(instance_profile_arn="arn:aws:iam::1:instance-profile/x"),
    "min_provisioned_throughput": _entity(
        min_provisioned_throughput=100, max_provisioned_throughput=200
    ),
    "workload_type": _entity(workload_type=ServingModelWorkloadType.GPU_SMALL),
}


@pytest.mark.operation("create")
@pytest.mark.lakeport
@pytest.mark.parametrize("field", ENTITIES)
def test_a_field_of_an_entity_that_does_nothing_yet_is_refused_by_name(
    api: ServingEndpointsAPI, workspace: Workspace, field: str
) -> None:
    name = workspace.new_name("later")
    config = EndpointCoreConfigInput(name=name, served_entities=[ENTITIES[field]])

    with pytest.raises(NotYet, match=rf"config\.served_entities\[0\]\.{field}") as refused:
        api.create(name, config=config)

    assert refused.value.error_code == "NOT_IMPLEMENTED"
    assert "not-a-key" not in str(refused.value)


@pytest.mark.operation("create")
@pytest.mark.lakeport
def test_a_field_of_an_endpoint_that_does_nothing_yet_is_refused_by_name(
    api: ServingEndpointsAPI, workspace: Workspace
) -> None:
    name = workspace.new_name("later")
    limit = RateLimit(calls=1, renewal_period=RateLimitRenewalPeriod.MINUTE)
    gateway = AiGatewayConfig(usage_tracking_config=AiGatewayUsageTrackingConfig(enabled=True))
    capture = AutoCaptureConfigInput(catalog_name="c", schema_name="s", enabled=True)

    with pytest.raises(NotYet, match="route_optimized"):
        api.create(name, route_optimized=True)
    with pytest.raises(NotYet, match="ai_gateway"):
        api.create(name, ai_gateway=gateway)
    with pytest.raises(NotYet, match="rate_limits"):
        api.create(name, rate_limits=[limit])
    with pytest.raises(NotYet, match=r"config\.auto_capture_config"):
        api.create(
            name,
            config=EndpointCoreConfigInput(
                name=name, served_entities=[_entity()], auto_capture_config=capture
            ),
        )


@pytest.mark.operation("set_permissions")
@pytest.mark.lakeport
def test_service_principals_are_refused_by_name(
    http: httpx.Client, api: ServingEndpointsAPI, iris: str
) -> None:
    entry = {"service_principal_name": "robot", "permission_level": "CAN_QUERY"}

    refused = http.put(
        f"/api/2.0/permissions/serving-endpoints/{api.get(iris).id}",
        json={"access_control_list": [entry]},
    )

    assert refused.status_code == 501
    assert "service_principal_name" in refused.json()["message"]


@pytest.mark.operation("tokens.create")
@pytest.mark.lakeport
def test_tokens_with_scopes_are_refused_by_name(client: WorkspaceClient) -> None:
    with pytest.raises(DatabricksError, match="scopes"):
        client.api_client.do("POST", "/api/2.0/token/create", body={"scopes": ["serving"]})
