"""The workspace that `lakeport.testing` starts, as the unmodified SDK meets it, the oldest too."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, NotFound, PermissionDenied, Unauthenticated
from databricks.sdk.service.serving import ChatMessage, ChatMessageRole

from lakeport.testing.session import Session
from lakeport.testing.workspace import Workspace
from tests.contract.workspace import PYTHON

pytestmark = pytest.mark.lakeport


@pytest.fixture(scope="module")
def testing() -> Iterator[Session]:
    session = Session(python=PYTHON, http_timeout=2)
    yield session
    session.close()


@pytest.fixture
def bot(testing: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace with a chat endpoint `bot`, for somebody who has another workspace too."""
    (tmp_path / ".databrickscfg").write_text("[DEFAULT]\nhost = https://real.example\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DATABRICKS_CONFIG_FILE", raising=False)
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "me")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "mine")
    monkeypatch.setenv("ARM_CLIENT_ID", "mine too")
    with testing.isolated(), testing.entered():
        workspace = Workspace(testing)
        workspace.chat("bot", {"hello": "Hi!"})
        yield workspace


def ask(client: WorkspaceClient) -> str | None:
    hello = ChatMessage(role=ChatMessageRole.USER, content="hello")
    answer = client.serving_endpoints.query("bot", messages=[hello])
    assert answer.choices is not None
    assert answer.choices[0].message is not None
    return answer.choices[0].message.content


def test_a_bare_client_finds_the_workspace_and_our_bounds(bot: Workspace) -> None:
    client = WorkspaceClient()

    assert client.config.host == bot.url
    assert client.config.auth_type == "pat"
    assert (client.config.retry_timeout_seconds, client.config.http_timeout_seconds) == (5, 2)
    assert ask(client) == "Hi!"


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, BadRequest), (401, Unauthenticated), (403, PermissionDenied), (404, NotFound)],
)
def test_faults_are_the_sdks_own_exceptions(
    bot: Workspace, status: int, error: type[Exception]
) -> None:
    with bot.fault("bot", status), pytest.raises(error):
        ask(WorkspaceClient())

    assert [call.status for call in bot.calls("bot")] == [status]


def test_a_busy_endpoint_is_asked_again(bot: Workspace) -> None:
    bot.fault("bot", 429, retry_after=1, times=1)

    assert ask(WorkspaceClient()) == "Hi!"
    assert [call.status for call in bot.calls("bot")] == [429, 200]


def test_the_sdk_gives_up_soon(bot: Workspace) -> None:
    """After five seconds of tries, not the five minutes that it has by default."""
    began = time.monotonic()

    with bot.timeout("bot"), pytest.raises(TimeoutError):
        ask(WorkspaceClient())

    assert time.monotonic() - began < 60
