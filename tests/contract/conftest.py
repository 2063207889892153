"""One workspace for all contract tests, and the endpoints that they share."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config
from databricks.sdk.service.serving import ServingEndpointsAPI

from tests.contract import chats
from tests.contract.endpoints import Deploy, deploying, entity, settled
from tests.contract.workspace import PATIENCE, Workspace, new_token, real, served

FOLDER = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "operation(*names): lines of docs/compatibility.md that this test holds"
    )
    config.addinivalue_line(
        "markers", "lakeport: holds on Lakeport only; `make parity` leaves it out"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Models start: on a busy machine that takes a while.
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.timeout(PATIENCE + 180))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if real() is not None and item.get_closest_marker("lakeport") is not None:
        pytest.skip("holds on Lakeport only")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    named = real()
    if named is not None:
        yield named
        return
    with served(tmp_path_factory.mktemp("workspace")) as ours:
        yield ours


@pytest.fixture(scope="session")
def client(workspace: Workspace) -> WorkspaceClient:
    """The unmodified SDK, as an admin."""
    return _sdk(workspace.host, workspace.token)


@pytest.fixture(scope="session")
def api(client: WorkspaceClient) -> ServingEndpointsAPI:
    return client.serving_endpoints


@pytest.fixture(scope="session")
def http(workspace: Workspace) -> Iterator[httpx.Client]:
    """Plain HTTP with the admin's token."""
    with httpx.Client(
        base_url=workspace.host, headers={"Authorization": f"Bearer {workspace.token}"}, timeout=60
    ) as plain:
        yield plain


@pytest.fixture(scope="session")
def ann(workspace: Workspace) -> WorkspaceClient:
    """A caller without rights, in the group `readers`."""
    if workspace.home is None:
        pytest.skip("a second caller can be made on Lakeport only")
    return _sdk(workspace.host, new_token(workspace, "ann", "readers"))


def _sdk(host: str, token: str) -> WorkspaceClient:
    # Without a short retry a 429 or 503 would be sent again for five minutes.
    config = Config(
        host=host, token=token, auth_type="pat", retry_timeout_seconds=5, http_timeout_seconds=60
    )
    return WorkspaceClient(config=config)


@pytest.fixture(scope="session")
def chat_workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with the language models of `chats.py`, ready; it has no registry."""
    named = real()
    if named is not None:
        yield named
        return
    folder = tmp_path_factory.mktemp("chats")
    with served(folder, *chats.arguments(folder), registry=False) as ours:
        api = _sdk(ours.host, ours.token).serving_endpoints
        for name in (chats.CLAUDE, chats.EMBEDDINGS, chats.SCRIPTED):
            settled(api, name)
        yield ours


@pytest.fixture(scope="session")
def chat_client(chat_workspace: Workspace) -> WorkspaceClient:
    """The unmodified SDK, as an admin of the workspace of language models."""
    return _sdk(chat_workspace.host, chat_workspace.token)


@pytest.fixture(scope="session")
def chat_api(chat_client: WorkspaceClient) -> ServingEndpointsAPI:
    return chat_client.serving_endpoints


@pytest.fixture
def chat_caller(chat_workspace: Workspace) -> WorkspaceClient:
    """A caller without rights there."""
    if chat_workspace.home is None:
        pytest.skip("a second caller can be made on Lakeport only")
    return _sdk(chat_workspace.host, new_token(chat_workspace, "ann"))


# --- endpoints ----------------------------------------------------------------------------------


@pytest.fixture
def deploy(workspace: Workspace, api: ServingEndpointsAPI) -> Iterator[Deploy]:
    """Makes endpoints that are gone at the test's end."""
    with deploying(workspace, api) as make:
        yield make


@pytest.fixture(scope="session")
def deploy_shared(workspace: Workspace, api: ServingEndpointsAPI) -> Iterator[Deploy]:
    """Makes endpoints that are gone at the session's end."""
    with deploying(workspace, api) as make:
        yield make


@pytest.fixture(scope="session")
def iris(workspace: Workspace, deploy_shared: Deploy) -> str:
    """An endpoint with `old` and `new`, the two versions of the model; all traffic to `old`.

    Of a first flower `old` says 0 and `new` says 2. No test changes it.
    """
    model = workspace.iris
    return deploy_shared(
        "iris",
        entity(model.name, model.versions[0], "old"),
        entity(model.name, model.versions[1], "new"),
        shares={"old": 100, "new": 0},
    )


@pytest.fixture(scope="session")
def params(workspace: Workspace, deploy_shared: Deploy) -> str:
    return _of_ours(workspace, deploy_shared, "params")


@pytest.fixture(scope="session")
def streams(workspace: Workspace, deploy_shared: Deploy) -> str:
    return _of_ours(workspace, deploy_shared, "streams")


@pytest.fixture(scope="session")
def chat(workspace: Workspace, deploy_shared: Deploy) -> str:
    return _of_ours(workspace, deploy_shared, "chat")


def _of_ours(workspace: Workspace, deploy: Deploy, model: str) -> str:
    if workspace.home is None:
        pytest.skip(f"the real workspace has no model '{model}'")
    return deploy(model, entity(model, "1"))
