"""Requests that cannot be answered: the right error, and quickly."""

import gzip
import http.client
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.conftest import Stock
from tests.integration.server import ServerProcess

MAX_BODY = 16 * 1024 * 1024
#: Seconds within which a refusal that needs no waiting must be there; far above what it takes.
QUICKLY = 5.0
BODY = {"inputs": [{"x": 1.0}]}


@pytest.fixture(scope="module")
def endpoint(shared: ServerProcess, stock: Stock) -> Iterator[str]:
    shared.create("asked", stock.entity("good", "params"))
    yield "asked"
    shared.call("DELETE", "serving-endpoints/asked")


def error(answer: httpx.Response) -> tuple[int, str]:
    """Status and code; every error has a message and a request id besides."""
    body = answer.json()
    assert body["message"]
    assert body["details"][0]["request_id"]
    return answer.status_code, body["error_code"]


def test_a_body_over_the_limit_is_refused(shared: ServerProcess, endpoint: str) -> None:
    answer = shared.client.post(
        f"/serving-endpoints/{endpoint}/invocations",
        content=b" " * (MAX_BODY + 1),
        headers={"Content-Type": "application/json"},
        timeout=QUICKLY,
    )

    assert error(answer) == (413, "REQUEST_TOO_LARGE")
    assert shared.ask(endpoint, BODY).status_code == 200


def test_a_length_over_the_limit_is_refused_before_the_body_comes(
    shared: ServerProcess, endpoint: str
) -> None:
    connection = http.client.HTTPConnection(*shared.address, timeout=QUICKLY)
    connection.putrequest("POST", f"/serving-endpoints/{endpoint}/invocations")
    connection.putheader("Authorization", f"Bearer {shared.token}")
    connection.putheader("Content-Length", str(MAX_BODY * 1000))
    connection.endheaders()

    answer = connection.getresponse()

    assert answer.status == 413
    assert json.loads(answer.read())["error_code"] == "REQUEST_TOO_LARGE"
    connection.close()


def test_a_body_over_the_limit_once_inflated_is_refused(
    shared: ServerProcess, endpoint: str
) -> None:
    bomb = gzip.compress(b" " * (4 * MAX_BODY))
    assert len(bomb) < MAX_BODY // 64

    answer = shared.client.post(
        f"/serving-endpoints/{endpoint}/invocations",
        content=bomb,
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        timeout=QUICKLY,
    )

    assert error(answer) == (413, "REQUEST_TOO_LARGE")
    assert shared.ask(endpoint, BODY).status_code == 200


def test_a_request_over_its_time_is_ended(shared: ServerProcess, stock: Stock) -> None:
    shared.create("slow", stock.entity("slow", "slow"))

    answer = shared.ask("slow", {"inputs": [{"seconds": 20.0}]}, timeout=15)

    assert error(answer) == (504, "DEADLINE_EXCEEDED")
    assert answer.headers["served-model-name"] == "slow"
    shared.call("DELETE", "serving-endpoints/slow")


def test_an_unknown_endpoint(shared: ServerProcess, endpoint: str) -> None:
    assert error(shared.ask("nobody", BODY, timeout=QUICKLY)) == (404, "ENDPOINT_NOT_FOUND")
    answer = shared.ask(endpoint, BODY, entity="nobody", timeout=QUICKLY)
    assert error(answer) == (404, "ENDPOINT_NOT_FOUND")


def test_a_stopped_endpoint(shared: ServerProcess, stock: Stock) -> None:
    shared.create("stopped", stock.entity("good", "params"))
    shared.call("POST", "serving-endpoints/stopped/config:stop")

    answer = shared.ask("stopped", BODY, timeout=QUICKLY)

    assert error(answer) == (400, "INVALID_STATE")
    assert "stopped" in answer.json()["message"]
    shared.call("POST", "serving-endpoints/stopped/config:start")
    shared.updated("stopped")
    assert shared.ask("stopped", BODY).status_code == 200
    shared.call("DELETE", "serving-endpoints/stopped")


def test_an_endpoint_whose_first_config_failed(shared: ServerProcess, stock: Stock) -> None:
    wish = {"name": "failed", "config": {"served_entities": [stock.entity("bad", "load_raises")]}}
    shared.call("POST", "serving-endpoints", wish)
    found = shared.settled("failed")

    answer = shared.ask("failed", BODY, timeout=QUICKLY)

    assert found["state"] == {"ready": "NOT_READY", "config_update": "UPDATE_FAILED"}
    assert error(answer) == (400, "INVALID_STATE")
    assert "the weights are not what they were" in answer.json()["message"]
    shared.call("DELETE", "serving-endpoints/failed")


def test_an_endpoint_that_is_not_ready_yet(shared: ServerProcess, stock: Stock) -> None:
    wish = {"name": "hanging", "config": {"served_entities": [stock.entity("bad", "load_hangs")]}}
    shared.call("POST", "serving-endpoints", wish)

    # It waits two seconds for the endpoint: the setting `ready_wait`.
    answer = shared.ask("hanging", BODY, timeout=2 + QUICKLY)

    assert error(answer) == (503, "TEMPORARILY_UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    shared.call("DELETE", "serving-endpoints/hanging")
    assert error(shared.ask("hanging", BODY, timeout=QUICKLY)) == (404, "ENDPOINT_NOT_FOUND")


def test_an_endpoint_without_a_config(shared: ServerProcess) -> None:
    shared.call("POST", "serving-endpoints", {"name": "empty"})

    assert error(shared.ask("empty", BODY, timeout=QUICKLY)) == (400, "INVALID_STATE")
    shared.call("DELETE", "serving-endpoints/empty")
