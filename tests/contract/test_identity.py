"""Who one is, tokens, and what is open to all."""

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config
from databricks.sdk.errors import PermissionDenied, Unauthenticated
from databricks.sdk.errors.base import DatabricksError

from tests.contract.workspace import Workspace


def _with(workspace: Workspace, token: str) -> WorkspaceClient:
    config = Config(
        host=workspace.host,
        token=token,
        auth_type="pat",
        retry_timeout_seconds=5,
        http_timeout_seconds=60,
    )
    return WorkspaceClient(config=config)


@pytest.mark.operation("current_user.me")
def test_one_is_told_who_one_is(client: WorkspaceClient) -> None:
    me = client.current_user.me()

    assert me.id
    assert me.user_name
    assert me.active
    assert "admins" in [group.display for group in me.groups or []]


@pytest.mark.operation("current_user.me")
def test_another_caller_is_another(ann: WorkspaceClient) -> None:
    me = ann.current_user.me()

    assert me.user_name == "ann"
    assert {group.display for group in me.groups or []} >= {"readers", "users"}
    assert "admins" not in {group.display for group in me.groups or []}


@pytest.mark.operation("tokens.create", "tokens.list", "tokens.delete")
def test_a_token_works_until_it_is_deleted(client: WorkspaceClient, workspace: Workspace) -> None:
    made = client.tokens.create(comment="for a test", lifetime_seconds=3600)
    assert made.token_value is not None
    assert made.token_info is not None
    assert made.token_info.token_id is not None
    other = _with(workspace, made.token_value)
    info = made.token_info

    works = other.current_user.me().user_name
    (listed,) = (token for token in client.tokens.list() if token.token_id == info.token_id)
    client.tokens.delete(made.token_info.token_id)

    assert works == client.current_user.me().user_name
    assert listed.comment == "for a test"
    assert listed.creation_time is not None
    assert listed.expiry_time == listed.creation_time + 3600 * 1000
    assert made.token_info.token_id not in [token.token_id for token in client.tokens.list()]
    with pytest.raises((Unauthenticated, PermissionDenied)):
        other.current_user.me()


@pytest.mark.operation("tokens.list", "tokens.delete")
def test_tokens_of_others_are_theirs(client: WorkspaceClient, ann: WorkspaceClient) -> None:
    theirs = client.tokens.create(comment="not ann's").token_info
    assert theirs is not None
    assert theirs.token_id is not None
    try:
        assert theirs.token_id not in [token.token_id for token in ann.tokens.list()]
        with pytest.raises(DatabricksError):
            ann.tokens.delete(theirs.token_id)
        assert theirs.token_id in [token.token_id for token in client.tokens.list()]
    finally:
        client.tokens.delete(theirs.token_id)


@pytest.mark.operation("current_user.me")
def test_a_bad_token_is_unauthenticated(workspace: Workspace) -> None:
    stranger = _with(workspace, "dapi0123456789abcdef")

    # Databricks answers some bad tokens with 403.
    with pytest.raises((Unauthenticated, PermissionDenied)):
        stranger.current_user.me()
    with pytest.raises((Unauthenticated, PermissionDenied)):
        list(stranger.serving_endpoints.list())


@pytest.mark.operation("host metadata")
def test_host_metadata_is_open_to_all_and_may_be_kept(workspace: Workspace) -> None:
    answer = httpx.get(f"{workspace.host}/.well-known/databricks-config")

    assert answer.status_code == 200
    assert answer.json()["workspace_id"]


@pytest.mark.operation("health")
@pytest.mark.lakeport
def test_health_is_open_to_all_and_everything_else_is_not(workspace: Workspace) -> None:
    assert httpx.get(f"{workspace.host}/health").status_code == 200
    for path in ("/metrics", "/api/2.0/serving-endpoints", "/nowhere", "/version"):
        refused = httpx.get(f"{workspace.host}{path}")
        assert (refused.status_code, refused.json()["error_code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.operation("current_user.me")
def test_every_answer_carries_the_workspace(http: httpx.Client) -> None:
    # The SDK before 0.156 learns it from here.
    me = http.get("/api/2.0/preview/scim/v2/Me")

    assert me.headers["x-databricks-org-id"].isdigit()
