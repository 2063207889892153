"""The app's tests: a live workspace, functions behind its endpoints, faults on demand."""

import pytest
from fastapi.testclient import TestClient

from lakeport.testing import Workspace


@pytest.fixture
def app(lakeport_workspace: Workspace) -> TestClient:
    from app import app  # after the workspace: it has set DATABRICKS_HOST and DATABRICKS_TOKEN

    with TestClient(app) as client:
        yield client


def test_predictions_come_back(app: TestClient, lakeport_workspace: Workspace) -> None:
    lakeport_workspace.serve(lambda rows: [sum(row) for row in rows], name="adder")

    answer = app.post("/api/serving-endpoints/adder/predict", json={"inputs": [[1, 2], [3, 4]]})

    assert answer.status_code == 200
    assert answer.json()["predictions"] == [3, 7]


def test_a_busy_endpoint_says_when_to_come_back(
    app: TestClient, lakeport_workspace: Workspace
) -> None:
    lakeport_workspace.serve(lambda rows: rows, name="busy")
    lakeport_workspace.fault("busy", status=429, retry_after=7)

    answer = app.post("/api/serving-endpoints/busy/predict", json={"inputs": [[1]]})

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"


def test_a_chat_streams(app: TestClient, lakeport_workspace: Workspace) -> None:
    lakeport_workspace.chat("bot", {"hello": "Hello to you"})

    with app.stream(
        "POST",
        "/api/serving-endpoints/bot/chat",
        json={"messages": [{"role": "user", "content": "hello"}], "stream": True},
    ) as answer:
        lines = [line for line in answer.iter_lines() if line]

    assert lines[-1] == "data: [DONE]"
    assert "Hello" in "".join(lines)


def test_nobody_asks_without_the_key(app: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_KEY", "open sesame")

    assert app.get("/api/serving-endpoints").status_code == 401
    assert (
        app.get("/api/serving-endpoints", headers={"X-App-Key": "open sesame"}).status_code == 200
    )
