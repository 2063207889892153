"""The guide's code, pasted, runs with one import changed, and each function succeeds.

The guide catches every error and returns None or prints: that a block ran proves nothing, so each
value is looked at.
"""

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.guide.blocks import blocks
from tests.guide.workspace import exported
from tests.integration.server import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

IRIS = [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")]


@dataclass
class Ran:
    """What one block left behind."""

    names: dict[str, Any]
    said: str


@pytest.fixture(scope="module")
def environment(server: ServerProcess) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in exported(server).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def ran(environment: None) -> dict[str, Ran]:
    """Every block, run one after the other as one program, by its heading."""
    names: dict[str, Any] = {"__name__": "guide"}
    done = {}
    for heading, code in blocks().items():
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(code, f"<{heading}>", "exec"), names)
        done[heading] = Ran(dict(names), said.getvalue())
    return done


def said_by(function: Any, *arguments: Any) -> tuple[Any, str]:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        value = function(*arguments)
    return value, said.getvalue()


def test_no_block_reports_an_error(ran: dict[str, Ran]) -> None:
    for heading, block in ran.items():
        assert "Error" not in block.said, (heading, block.said)
        assert "Could not" not in block.said, (heading, block.said)


def test_endpoints_are_listed(ran: dict[str, Ran], server: ServerProcess) -> None:
    said = ran["List Serving Endpoints"].said

    for name in ("databricks-claude-sonnet-4", "my-model-endpoint", "fraud-detection"):
        url = f"{str(server.client.base_url).rstrip('/')}/serving-endpoints/{name}"
        assert f"Name: {name}\nState: READY\nCreation Time: 1" in said
        assert f"URL: {url}\n" in said


def test_details_are_shown(ran: dict[str, Ran]) -> None:
    block = ran["Get Serving Endpoint Details"]

    assert block.names["endpoint_details"].name == "my-model-endpoint"
    assert block.said.splitlines()[1:] == [
        "State: READY",
        f"URL: {block.names['endpoint_details'].serving_endpoint_url}",
        "Traffic Config:",
        "  Route: row_sums-1 -> 100%",
        "Served Models:",
        "  Model: row_sums-1",
        "  Version: 1",
        "  Workload Size: Small",
        "  Scale to Zero: False",
        "  Model Name: row_sums",
        "Tags: {'stage': 'test', 'team': 'risk'}",
    ]


def test_details_of_a_foundation_endpoint_are_shown(ran: dict[str, Ran]) -> None:
    show = ran["Get Serving Endpoint Details"].names["get_endpoint_details"]

    endpoint, said = said_by(show, "databricks-claude-sonnet-4")

    assert endpoint is not None
    (model,) = endpoint.config.served_models
    assert f"  Route: {model.name} -> 100%\nServed Models:\n  Model: {model.name}\n" in said


def test_a_signature_is_shown(ran: dict[str, Ran]) -> None:
    block = ran["Get Endpoint Signature"]
    show = block.names["get_endpoint_signature"]

    endpoint, said = said_by(show, "iris")

    assert endpoint.name == "iris"
    (line,) = [line for line in said.splitlines() if line.startswith("Model Signature: ")]
    (model,) = json.loads(line.removeprefix("Model Signature: "))
    columns = json.loads(model["signature"]["inputs"])
    assert [column["name"] for column in columns] == IRIS
    # Of the guide's own model, which has none, it tells that it was logged.
    assert "Model Signature: [{" in block.said


def test_a_chat_is_answered(ran: dict[str, Ran]) -> None:
    block = ran["Chat Models (Claude, GPT, etc.)"]
    result = block.names["result"]

    assert result["answer"]
    usage = result["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["completion_tokens"] <= 150
    assert f"Answer: {result['answer']}\nTokens used: {usage['total_tokens']}\n" == block.said


def test_a_classic_model_is_queried(ran: dict[str, Ran]) -> None:
    block = ran["Traditional ML Models"]
    names = block.names
    query = names["query_ml_endpoint"]

    assert names["result"].predictions == [10.0]
    assert "predictions=[10.0]" in block.said
    # The guide gives whole bodies as `inputs=`.
    assert query("my-model-endpoint", names["sklearn_input"]).predictions == [10.0]
    assert query("my-model-endpoint", names["df_input"]).predictions == [6.0, 15.0]
    assert query("my-model-endpoint", [[1.0, 2.0]]).predictions == [3.0]
    assert query("llama-chat-endpoint", names["chat_input"]).choices[0].message.content


def test_named_rows_go_to_a_model_with_a_signature(ran: dict[str, Ran]) -> None:
    names = ran["Batch Inference"].names
    flower = [5.1, 3.5, 1.4, 0.2]
    split = {"dataframe_split": {"columns": IRIS, "data": [flower]}}

    rows = [{"columns": IRIS, "data": flower}] * 2
    batch = names["batch_query_endpoint"]("iris", rows)

    assert batch == {"predictions": [0, 0]}
    assert names["query_ml_endpoint"]("iris", split).predictions == [0]
    assert names["query_endpoint"]("iris", split).predictions == [0]


def test_a_batch_is_answered(ran: dict[str, Ran]) -> None:
    assert ran["Batch Inference"].names["batch_result"] == {"predictions": [3.0, 7.0, 11.0]}


def test_errors_are_told_apart(ran: dict[str, Ran]) -> None:
    names = ran["Error Handling"].names
    query = names["safe_query_endpoint"]

    assert names["result"] == {"success": True, "result": {"predictions": [6.0]}}
    assert query("no-such-endpoint", {}) == {"error": "Endpoint 'no-such-endpoint' not found"}
    refused = query("iris", {"inputs": [["no number"] * 4]})
    assert refused["error"] == "Bad request - check input format"
    assert "error_code" in refused["details"]


def test_the_routes_work_in_an_app(ran: dict[str, Ran]) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()
    app.include_router(ran["FastAPI Integration"].names["router"])
    with TestClient(app) as client:
        every = client.get("/serving-endpoints").json()
        one = client.get("/serving-endpoints/my-model-endpoint").json()
        missing = client.get("/serving-endpoints/no-such-endpoint")
        path = "/serving-endpoints/my-model-endpoint"
        predicted = client.post(f"{path}/predict", json={"inputs": [[1, 2], [3, 4]]}).json()
        batch = client.post(
            f"{path}/batch-predict", json={"inputs": [[[1, 2]], [[3, 4, 5], [6, 7, 8]]]}
        ).json()

    assert {endpoint["state"] for endpoint in every} == {"READY"}
    assert {"my-model-endpoint", "fraud-detection", "iris"} <= {item["name"] for item in every}
    assert one["state"] == "READY"
    assert one["tags"] == {"stage": "test", "team": "risk"}
    assert one["url"].endswith(path)
    assert one["config"]["served_models"] == [
        {
            "name": "row_sums-1",
            "model_name": "row_sums",
            "model_version": "1",
            "workload_size": "Small",
            "scale_to_zero": False,
        }
    ]
    assert missing.status_code == 404
    assert predicted == {"predictions": [3.0, 7.0], "endpoint_name": "my-model-endpoint"}
    assert batch == {
        "results": [{"predictions": [3.0], "index": 0}, {"predictions": [12.0, 21.0], "index": 1}],
        "endpoint_name": "my-model-endpoint",
        "total_requests": 2,
    }


def test_the_common_cases_are_answered(ran: dict[str, Ran]) -> None:
    assert ran["Real-time Inference"].names["prediction"].predictions == pytest.approx([101.7])
    (choice,) = ran["Chat Model Inference"].names["response"].choices
    assert choice.message.content
    assert ran["Feature Store Integration"].names["predict_with_features"]("x", {}) is None
