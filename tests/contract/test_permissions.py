"""Who may do what: levels for users and groups, on both planes."""

from collections.abc import Callable

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, PermissionDenied
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.serving import (
    EndpointTag,
    ServedEntityInput,
    ServingEndpointAccessControlRequest,
    ServingEndpointDetailedPermissionLevel,
    ServingEndpointPermissionLevel,
    ServingEndpointPermissions,
    ServingEndpointsAPI,
)

from tests.contract.endpoints import Deploy

VIEW = ServingEndpointPermissionLevel.CAN_VIEW
QUERY = ServingEndpointPermissionLevel.CAN_QUERY
MANAGE = ServingEndpointPermissionLevel.CAN_MANAGE

ENDPOINTS = "/api/2.0/serving-endpoints"
PERMISSIONS = "/api/2.0/permissions/serving-endpoints"


def _user(name: str, level: ServingEndpointPermissionLevel) -> ServingEndpointAccessControlRequest:
    return ServingEndpointAccessControlRequest(user_name=name, permission_level=level)


def _group(name: str, level: ServingEndpointPermissionLevel) -> ServingEndpointAccessControlRequest:
    return ServingEndpointAccessControlRequest(group_name=name, permission_level=level)


def _id(api: ServingEndpointsAPI, name: str) -> str:
    id = api.get(name).id
    assert id is not None
    return id


def _direct(permissions: ServingEndpointPermissions) -> dict[str | None, list[str]]:
    """What is granted on the endpoint itself, by user or group."""
    return {
        entry.user_name or entry.group_name: [
            held.permission_level.value
            for held in entry.all_permissions or []
            if held.permission_level is not None and not held.inherited
        ]
        for entry in permissions.access_control_list or []
    }


@pytest.mark.operation("get_permission_levels")
def test_there_are_three_levels(api: ServingEndpointsAPI, deploy: Deploy) -> None:
    levels = api.get_permission_levels(_id(api, deploy("levels"))).permission_levels or []

    assert {level.permission_level for level in levels} == {VIEW, QUERY, MANAGE}
    assert all(level.description for level in levels)


@pytest.mark.operation("get_permissions")
def test_who_creates_manages_and_admins_inherit_it(
    client: WorkspaceClient, http: httpx.Client, deploy: Deploy
) -> None:
    api = client.serving_endpoints
    id = _id(api, deploy("creator"))

    permissions = api.get_permissions(id)
    plain = http.get(f"{PERMISSIONS}/{id}").json()

    assert permissions.object_id == f"/serving-endpoints/{id}"
    assert permissions.object_type == "serving-endpoint"
    assert _direct(permissions)[client.current_user.me().user_name] == ["CAN_MANAGE"]
    (admins,) = (e for e in plain["access_control_list"] if e.get("group_name") == "admins")
    assert {
        "permission_level": "CAN_MANAGE",
        "inherited": True,
        "inherited_from_object": ["/serving-endpoints/"],
    } in admins["all_permissions"]


@pytest.mark.operation("update_permissions", "set_permissions")
@pytest.mark.lakeport  # a real workspace knows neither ann nor readers
def test_update_adds_and_set_replaces(api: ServingEndpointsAPI, deploy: Deploy) -> None:
    id = _id(api, deploy("grants"))
    api.set_permissions(id, access_control_list=[_user("ann", VIEW), _user("bob", VIEW)])

    updated = api.update_permissions(
        id, access_control_list=[_user("ann", QUERY), _group("readers", VIEW)]
    )
    replaced = api.set_permissions(id, access_control_list=[_group("readers", QUERY)])

    granted = {who: levels for who, levels in _direct(updated).items() if levels}
    assert granted == {"ann": ["CAN_QUERY"], "bob": ["CAN_VIEW"], "readers": ["CAN_VIEW"]}
    assert {w: levels for w, levels in _direct(replaced).items() if levels} == {
        "readers": ["CAN_QUERY"]
    }
    assert _direct(api.get_permissions(id)) == _direct(replaced)


@pytest.mark.operation("get_permissions", "set_permissions", "update_permissions")
def test_permissions_go_by_the_id_and_not_by_the_name(
    api: ServingEndpointsAPI, deploy: Deploy
) -> None:
    with pytest.raises(NotFound):
        api.get_permissions(deploy("by-name"))


@pytest.mark.operation("set_permissions")
@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"user_name": "ann", "permission_level": "CAN_FLY"}, "permission_level"),
        ({"permission_level": "CAN_VIEW"}, "user_name"),
        ({"user_name": "a", "group_name": "b", "permission_level": "CAN_VIEW"}, "group_name"),
    ],
    ids=["level", "nobody", "both"],
)
def test_a_wrong_entry_is_refused(
    http: httpx.Client,
    api: ServingEndpointsAPI,
    deploy: Deploy,
    entry: dict[str, str],
    field: str,
) -> None:
    id = _id(api, deploy("wrong"))

    refused = http.put(f"{PERMISSIONS}/{id}", json={"access_control_list": [entry]})

    assert refused.status_code == 400
    assert field in refused.json()["message"]


def _update(client: WorkspaceClient, name: str) -> object:
    model = ServedEntityInput(entity_name="iris", entity_version="1", workload_size="Small")
    return client.serving_endpoints.update_config(name, served_entities=[model])


def _notify(client: WorkspaceClient, name: str) -> object:
    return client.api_client.do("PATCH", f"{ENDPOINTS}/{name}/notifications", body={})


#: What one may do, and the level that it takes.
Action = Callable[[WorkspaceClient, str], object]
ACTIONS: dict[str, tuple[ServingEndpointPermissionLevel, Action]] = {
    "get": (VIEW, lambda w, name: w.serving_endpoints.get(name)),
    "export_metrics": (VIEW, lambda w, name: w.serving_endpoints.export_metrics(name)),
    "get_open_api": (VIEW, lambda w, name: w.serving_endpoints.get_open_api(name)),
    "query": (QUERY, lambda w, name: w.serving_endpoints.query(name, inputs=[1])),
    "update_config": (MANAGE, _update),
    "update_notifications": (MANAGE, _notify),
    "patch": (
        MANAGE,
        lambda w, name: w.serving_endpoints.patch(name, add_tags=[EndpointTag(key="k")]),
    ),
    "logs": (MANAGE, lambda w, name: w.serving_endpoints.logs(name, "x")),
    "build_logs": (MANAGE, lambda w, name: w.serving_endpoints.build_logs(name, "x")),
    "stop": (MANAGE, lambda w, name: w.api_client.do("POST", f"{ENDPOINTS}/{name}/config:stop")),
    "start": (MANAGE, lambda w, name: w.api_client.do("POST", f"{ENDPOINTS}/{name}/config:start")),
    "delete": (MANAGE, lambda w, name: w.serving_endpoints.delete(name)),
}


@pytest.mark.operation(
    "get",
    "export_metrics",
    "get_open_api",
    "query",
    "update_config",
    "update_notifications",
    "patch",
    "logs",
    "build_logs",
    "config:stop",
    "config:start",
    "delete",
)
@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_an_action_needs_its_level(
    api: ServingEndpointsAPI,
    ann: WorkspaceClient,
    deploy: Deploy,
    action: tuple[ServingEndpointPermissionLevel, Action],
) -> None:
    needed, act = action
    name = deploy("level")
    id = _id(api, name)

    for level in (None, VIEW, QUERY, MANAGE):
        if level is not None:
            api.update_permissions(id, access_control_list=[_user("ann", level)])
        if level is needed:
            break
        with pytest.raises(PermissionDenied):
            act(ann, name)

    # The endpoint is empty, so that some are refused for that; but not for want of rights.
    try:
        act(ann, name)
    except PermissionDenied:
        raise
    except DatabricksError:
        pass


@pytest.mark.operation("list", "get")
def test_a_list_shows_what_one_may_see(
    api: ServingEndpointsAPI, ann: WorkspaceClient, deploy: Deploy
) -> None:
    seen, hidden = deploy("seen"), deploy("hidden")
    api.update_permissions(_id(api, seen), access_control_list=[_group("readers", QUERY)])

    names = [endpoint.name for endpoint in ann.serving_endpoints.list()]

    assert seen in names
    assert hidden not in names
    level = ann.serving_endpoints.get(seen).permission_level
    assert level is ServingEndpointDetailedPermissionLevel.CAN_QUERY


@pytest.mark.operation("get_permissions", "update_permissions")
def test_only_who_manages_sees_and_grants_permissions(
    api: ServingEndpointsAPI, ann: WorkspaceClient, deploy: Deploy
) -> None:
    id = _id(api, deploy("grant"))
    api.update_permissions(id, access_control_list=[_user("ann", QUERY)])

    with pytest.raises(PermissionDenied):
        ann.serving_endpoints.get_permissions(id)
    with pytest.raises(PermissionDenied):
        ann.serving_endpoints.update_permissions(id, access_control_list=[_user("ann", MANAGE)])
    api.update_permissions(id, access_control_list=[_user("ann", MANAGE)])

    assert _direct(ann.serving_endpoints.get_permissions(id))["ann"] == ["CAN_MANAGE"]


@pytest.mark.operation("create")
def test_everybody_may_create_and_manages_what_they_made(
    ann: WorkspaceClient, deploy: Deploy
) -> None:
    api = ann.serving_endpoints
    name = f"ann-{deploy('of-another')}"

    api.create(name)
    try:
        assert api.get(name).creator == "ann"
        level = api.get(name).permission_level
        assert level is ServingEndpointDetailedPermissionLevel.CAN_MANAGE
    finally:
        api.delete(name)
