"""Secrets: scopes, values, permissions, and their use in served entities."""

import base64
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    NotFound,
    PermissionDenied,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.errors import NotImplemented as NotYet
from databricks.sdk.service.serving import (
    EndpointCoreConfigInput,
    ServedEntityInput,
    ServingEndpointsAPI,
)
from databricks.sdk.service.workspace import (
    AclPermission,
    AzureKeyVaultSecretScopeMetadata,
    ScopeBackendType,
    SecretsAPI,
)

from tests.contract.endpoints import COLUMNS, FLOWER, Deploy, delete, entity
from tests.contract.workspace import Workspace

SECRETS = "/api/2.0/secrets"
READ, WRITE, MANAGE = AclPermission.READ, AclPermission.WRITE, AclPermission.MANAGE

#: Makes a scope with a name that no other has; it is gone at the test's end.
MakeScope = Callable[[], str]


@pytest.fixture
def secrets(client: WorkspaceClient) -> SecretsAPI:
    return client.secrets


@pytest.fixture
def scope(workspace: Workspace, secrets: SecretsAPI) -> Iterator[str]:
    name = workspace.new_name("scope")
    secrets.create_scope(name)
    yield name
    with suppress(NotFound):
        secrets.delete_scope(name)


def value_of(secrets: SecretsAPI, scope: str, key: str) -> bytes:
    return base64.b64decode(secrets.get_secret(scope, key).value or "")


# --- scopes -------------------------------------------------------------------------------------


@pytest.mark.operation("secrets.create_scope", "secrets.list_scopes", "secrets.delete_scope")
def test_a_scope_is_there_until_it_is_deleted(secrets: SecretsAPI, scope: str) -> None:
    found = {listed.name: listed.backend_type for listed in secrets.list_scopes()}
    secrets.delete_scope(scope)

    assert found[scope] is ScopeBackendType.DATABRICKS
    assert scope not in {listed.name for listed in secrets.list_scopes()}
    with pytest.raises(ResourceDoesNotExist, match=f"Scope {scope} does not exist"):
        secrets.delete_scope(scope)


@pytest.mark.operation("secrets.create_scope")
def test_a_scope_is_made_once(secrets: SecretsAPI, scope: str) -> None:
    for name in (scope, scope.upper()):
        with pytest.raises(ResourceAlreadyExists, match="already exists"):
            secrets.create_scope(name)


@pytest.mark.operation("secrets.create_scope")
def test_what_a_scope_cannot_be_is_refused_by_name(
    secrets: SecretsAPI, workspace: Workspace
) -> None:
    name = workspace.new_name("scope")

    with pytest.raises(InvalidParameterValue, match="scope"):
        secrets.create_scope("no spaces")
    with pytest.raises(InvalidParameterValue, match="scope"):
        secrets.create_scope("x" * 129)
    with pytest.raises(InvalidParameterValue, match="initial_manage_principal"):
        secrets.create_scope(name, initial_manage_principal="somebody")


@pytest.mark.operation("secrets.create_scope")
@pytest.mark.lakeport
def test_other_backends_are_refused_by_name(secrets: SecretsAPI, workspace: Workspace) -> None:
    vault = AzureKeyVaultSecretScopeMetadata(resource_id="/x", dns_name="https://x.vault.azure.net")

    with pytest.raises(NotYet, match="AZURE_KEYVAULT"):
        secrets.create_scope(
            workspace.new_name("scope"),
            scope_backend_type=ScopeBackendType.AZURE_KEYVAULT,
            backend_azure_keyvault=vault,
        )


# --- values -------------------------------------------------------------------------------------


@pytest.mark.operation("secrets.put_secret", "secrets.get_secret")
@pytest.mark.lakeport  # Databricks lets only notebooks read values
def test_a_value_comes_back_as_it_was_put(
    client: WorkspaceClient, secrets: SecretsAPI, scope: str
) -> None:
    binary = bytes(range(256))
    secrets.put_secret(scope, "text", string_value="pässword 🚢")
    secrets.put_secret(scope, "bytes", bytes_value=base64.b64encode(binary).decode())

    assert value_of(secrets, scope, "text").decode() == "pässword 🚢"
    assert value_of(secrets, scope, "bytes") == binary
    assert client.dbutils.secrets.get(scope, "text") == "pässword 🚢"
    secrets.put_secret(scope, "text", string_value="rotated")
    assert value_of(secrets, scope, "text") == b"rotated"


@pytest.mark.operation("secrets.list_secrets", "secrets.delete_secret")
def test_keys_are_listed_with_when_they_were_put(secrets: SecretsAPI, scope: str) -> None:
    assert list(secrets.list_secrets(scope)) == []
    for key in ("b", "a"):
        secrets.put_secret(scope, key, string_value="x")

    listed = list(secrets.list_secrets(scope))
    secrets.delete_secret(scope, "a")

    assert [secret.key for secret in listed] == ["a", "b"]
    assert all((secret.last_updated_timestamp or 0) > 1_600_000_000_000 for secret in listed)
    assert [secret.key for secret in secrets.list_secrets(scope)] == ["b"]
    with pytest.raises(ResourceDoesNotExist, match="key: a"):
        secrets.delete_secret(scope, "a")


@pytest.mark.operation("secrets.put_secret")
def test_a_wrong_value_is_refused(secrets: SecretsAPI, scope: str) -> None:
    with pytest.raises(InvalidParameterValue, match="bytes_value"):
        secrets.put_secret(scope, "k", bytes_value="no base64!")
    for both in ({}, {"string_value": "x", "bytes_value": "eA=="}):
        with pytest.raises(BadRequest, match="string_value"):
            secrets.put_secret(scope, "k", **both)
    with pytest.raises(InvalidParameterValue):
        secrets.put_secret(scope, "k", string_value="x" * (128 * 1024 + 1))
    with pytest.raises(InvalidParameterValue):
        secrets.put_secret(scope, "no spaces", string_value="x")


@pytest.mark.operation(
    "secrets.put_secret", "secrets.get_secret", "secrets.list_secrets", "secrets.delete_secret"
)
@pytest.mark.lakeport  # Databricks lets only notebooks read values
def test_what_is_not_there_is_named(secrets: SecretsAPI, scope: str) -> None:
    none = f"{scope}-none"
    for act in (
        lambda: secrets.put_secret(none, "k", string_value="x"),
        lambda: secrets.get_secret(none, "k"),
        lambda: list(secrets.list_secrets(none)),
        lambda: secrets.delete_secret(none, "k"),
    ):
        with pytest.raises(ResourceDoesNotExist, match=f"Scope {none} does not exist"):
            act()
    with pytest.raises(ResourceDoesNotExist, match=f"scope: {scope} and key: none"):
        secrets.get_secret(scope, "none")


# --- permissions --------------------------------------------------------------------------------


@pytest.mark.operation(
    "secrets.put_acl", "secrets.get_acl", "secrets.list_acls", "secrets.delete_acl"
)
@pytest.mark.lakeport  # a real workspace knows neither ann nor readers
def test_permissions_are_granted_and_taken(
    client: WorkspaceClient, secrets: SecretsAPI, scope: str
) -> None:
    me = client.current_user.me().user_name
    secrets.put_acl(scope, "ann", READ)
    secrets.put_acl(scope, "ann", WRITE)
    secrets.put_acl(scope, "readers", READ)

    listed = {item.principal: item.permission for item in secrets.list_acls(scope)}
    one = secrets.get_acl(scope, "ann")
    secrets.delete_acl(scope, "readers")

    assert listed == {me: MANAGE, "ann": WRITE, "readers": READ}
    assert (one.principal, one.permission) == ("ann", WRITE)
    with pytest.raises(ResourceDoesNotExist, match="readers"):
        secrets.get_acl(scope, "readers")
    with pytest.raises(ResourceDoesNotExist, match="readers"):
        secrets.delete_acl(scope, "readers")


@pytest.mark.operation("secrets.put_acl")
def test_an_unknown_permission_is_refused(http: httpx.Client, scope: str) -> None:
    refused = http.post(
        f"{SECRETS}/acls/put", json={"scope": scope, "principal": "users", "permission": "ALL"}
    )

    assert refused.status_code == 400
    assert "permission" in refused.json()["message"]


@pytest.mark.operation(
    "secrets.get_secret",
    "secrets.list_secrets",
    "secrets.put_secret",
    "secrets.delete_secret",
    "secrets.list_acls",
    "secrets.put_acl",
    "secrets.delete_scope",
)
@pytest.mark.parametrize("principal", ["ann", "readers", "users"])
def test_an_action_needs_its_permission(
    secrets: SecretsAPI, ann: WorkspaceClient, scope: str, principal: str
) -> None:
    secrets.put_secret(scope, "k", string_value="x")
    hers = ann.secrets
    needed: list[tuple[AclPermission, Callable[[], object]]] = [
        (READ, lambda: hers.get_secret(scope, "k")),
        (READ, lambda: list(hers.list_secrets(scope))),
        (WRITE, lambda: hers.put_secret(scope, "k", string_value="y")),
        (WRITE, lambda: hers.delete_secret(scope, "k")),
        (MANAGE, lambda: list(hers.list_acls(scope))),
        (MANAGE, lambda: hers.put_acl(scope, principal, MANAGE)),
        (MANAGE, lambda: hers.delete_scope(scope)),
    ]
    order = [READ, WRITE, MANAGE]

    for held in (None, *order):
        if held is not None:
            secrets.put_acl(scope, principal, held)
        for level, act in needed:
            if held is None or order.index(held) < order.index(level):
                with pytest.raises(PermissionDenied, match=level.value):
                    act()
            elif level is held:
                act()


@pytest.mark.operation("secrets.create_scope", "secrets.list_scopes")
def test_who_creates_manages_or_all_users(
    secrets: SecretsAPI, ann: WorkspaceClient, workspace: Workspace
) -> None:
    own, shared = workspace.new_name("own"), workspace.new_name("shared")
    ann.secrets.create_scope(own)
    ann.secrets.create_scope(shared, initial_manage_principal="users")
    try:
        assert [(i.principal, i.permission) for i in ann.secrets.list_acls(own)] == [
            ("ann", MANAGE)
        ]
        assert [(i.principal, i.permission) for i in ann.secrets.list_acls(shared)] == [
            ("users", MANAGE)
        ]
        # Names of scopes are no secret; admins manage all of them.
        assert {own, shared} <= {listed.name for listed in ann.secrets.list_scopes()}
        secrets.put_secret(own, "k", string_value="the admin's")
    finally:
        secrets.delete_scope(own)
        secrets.delete_scope(shared)


# --- in served entities -------------------------------------------------------------------------


@pytest.mark.operation("create", "update_config")
def test_a_variable_refers_to_a_secret_and_is_shown_as_given(
    workspace: Workspace, api: ServingEndpointsAPI, secrets: SecretsAPI, scope: str, deploy: Deploy
) -> None:
    secrets.put_secret(scope, "k", string_value="shown nowhere")
    variables = {"API_KEY": f"{{{{secrets/{scope}/k}}}}", "PLAIN": "as it is"}
    wish = entity(workspace.iris.name, workspace.iris.versions[0], "one")
    wish.environment_vars = variables

    name = deploy("secret", wish)

    config = api.get(name).config
    assert config is not None
    assert config.served_entities is not None
    assert config.served_entities[0].environment_vars == variables
    row = dict(zip(COLUMNS, FLOWER, strict=True))
    assert api.query(name, dataframe_records=[row]).predictions == [0]


@pytest.mark.operation("create", "update_config")
@pytest.mark.lakeport  # Databricks' own words are not known
def test_a_reference_needs_a_secret_and_the_right_to_read_it(
    workspace: Workspace,
    secrets: SecretsAPI,
    ann: WorkspaceClient,
    scope: str,
) -> None:
    secrets.put_secret(scope, "k", string_value="x")
    api = ann.serving_endpoints
    name = workspace.new_name("anns")

    def ask(value: str, act: Callable[..., object]) -> None:
        wish = entity(workspace.iris.name, workspace.iris.versions[0], "one")
        wish.environment_vars = {"API_KEY": value}
        act([wish])

    def create(entities: list[ServedEntityInput]) -> None:
        config = EndpointCoreConfigInput(name=name, served_entities=entities)
        api.create(name, config=config)

    with pytest.raises(PermissionDenied, match=r"environment_vars\.API_KEY.*READ"):
        ask(f"{{{{secrets/{scope}/k}}}}", create)
    secrets.put_acl(scope, "ann", READ)
    with pytest.raises(ResourceDoesNotExist, match=r"environment_vars\.API_KEY.*'none'"):
        ask(f"{{{{secrets/{scope}/none}}}}", create)
    with pytest.raises(ResourceDoesNotExist, match=r"environment_vars\.API_KEY.*-none'"):
        ask(f"{{{{secrets/{scope}-none/k}}}}", create)
    with pytest.raises(InvalidParameterValue, match=r"environment_vars\.API_KEY"):
        ask(f"{{{{ secrets/{scope}/k }}}}", create)
    api.create(name)
    try:
        secrets.delete_acl(scope, "ann")
        with pytest.raises(PermissionDenied, match=r"environment_vars\.API_KEY"):
            ask(
                f"{{{{secrets/{scope}/k}}}}",
                lambda entities: api.update_config(name, served_entities=entities),
            )
    finally:
        delete(api, name)
