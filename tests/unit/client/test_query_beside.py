"""What goes with asking an endpoint: the log, features, signatures of the registry."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lakeport.client import calls_features, calls_signature
from lakeport.client.calls_query import given_and_options
from lakeport.client.errors import (
    BadRequest,
    InvalidInput,
    NotFound,
    NotReady,
)
from lakeport.client.features import Features
from lakeport.client.flow import Request, Response
from lakeport.client.recording import PredictionEvent
from lakeport.client.retry import Retry
from tests.unit.client.asking import ANSWER, CHAT, CLASSIC, READY, SCHEMA, ask, page, sent
from tests.unit.client.flows import Log, World, by_path, reply

# --- the log --------------------------------------------------------------------------------------


def test_every_prediction_is_told_to_the_log() -> None:
    log = Log()
    world = World(by_path({"invocations": ANSWER}), takes=0.25)

    ask(world, world.context(log=log), inputs=[1], validate=False, client_request_id="c1")

    (event,) = log.events
    assert event.as_record() == {
        "time": "1970-01-01T00:16:40.000000+00:00",
        "endpoint": "iris",
        "served_entity": "iris-1",
        "request_id": "r1",
        "client_request_id": "c1",
        "status": "ok",
        "error": None,
        "seconds": 0.25,
        "attempts": 1,
        "request": {"inputs": [1], "client_request_id": "c1"},
        "response": {"predictions": [1]},
    }
    assert event.as_record(bodies=False)["request"] is None


def test_one_that_failed_too() -> None:
    log = Log()
    world = World([reply({"message": "no"}, 503, x_request_id="r2")] * 2)

    with pytest.raises(NotReady):
        ask(world, world.context(Retry(attempts=2), log=log), inputs=[1], validate=False)

    (event,) = log.events
    record = event.as_record()
    assert (record["status"], record["error"], record["request_id"]) == ("NotReady", "no", "r2")
    assert (record["attempts"], record["response"]) == (2, None)


def test_what_the_caller_changes_later_is_not_logged() -> None:
    log = Log()
    world = World(by_path({"invocations": ANSWER}))
    record = {"a": 1.0}

    ask(world, world.context(log=log), records=[record], validate=False)
    record["a"] = 2.0

    assert log.events[0].as_record()["request"] == {"dataframe_records": [{"a": 1.0}]}


def test_what_was_never_sent_is_not_logged() -> None:
    log = Log()
    world = World(by_path({"openapi": page("a", "b")}))

    with pytest.raises(InvalidInput):
        ask(world, world.context(log=log), records=[{"a": 1.0}])

    assert not log.events


def test_a_log_that_fails_does_not_fail_a_prediction(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Log):
        def record(self, event: PredictionEvent) -> None:
            raise OSError("disk full")

    world = World(by_path({"invocations": ANSWER}))

    assert ask(world, world.context(log=Broken()), inputs=[1], validate=False).attempts == 1
    assert "not logged" in caplog.text


# --- features -------------------------------------------------------------------------------------


class Source:
    """Knows the customers 7 and 9."""

    keys = ("customer",)

    def fetch(self, keys: Mapping[str, Sequence[Any]]) -> Features:
        known = {7: 0.7, 9: 0.9}
        values = [known.get(key) for key in keys["customer"]]
        missing = [n for n, value in enumerate(values) if value is None]
        return Features({"b": values, "a": values}, missing)


def test_features_are_joined_in_signature_order() -> None:
    world = World(by_path({"openapi": page("a", "b"), "invocations": ANSWER}))

    world.run(
        calls_features.predict_with_features(
            world.context(),
            "iris",
            {"customer": [9, 7]},
            source=Source(),
            missing="error",
            options={"client_request_id": "c1"},
        )
    )

    (document,) = sent(world)
    assert document["dataframe_split"] == {"columns": ["a", "b"], "data": [[0.9, 0.9], [0.7, 0.7]]}
    assert document["client_request_id"] == "c1"


def test_an_unknown_key_is_named_and_nothing_is_sent() -> None:
    world = World(by_path({"openapi": page("a", "b")}))

    with pytest.raises(InvalidInput, match="customer=8"):
        world.run(
            calls_features.predict_with_features(
                world.context(), "iris", {"customer": 8}, source=Source(), missing="error",
                options={},
            )
        )  # fmt: skip

    assert sent(world) == []


def test_a_param_that_no_model_has_is_told_once_and_sent(caplog: pytest.LogCaptureFixture) -> None:
    document = json.loads(page("a").body)
    operation = document["paths"]["/served-models/iris-1/invocations"]["post"]
    for form in operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"]:
        form["properties"]["params"] = {"type": "object", "properties": {"top_k": {}}}
    world = World(by_path({"openapi": reply(document), "invocations": ANSWER}))
    context = world.context()

    for params in ({"top_k": 1, "topk": 2}, {"topk": 3}, {"top_k": 4}):
        ask(world, context, records=[{"a": 1.0}], params=params)

    assert [body["params"] for body in sent(world)] == [
        {"top_k": 1, "topk": 2},
        {"topk": 3},
        {"top_k": 4},
    ]
    assert caplog.messages == [
        "Param 'topk' of 'iris': no param of the model; did you mean 'top_k'?"
    ]


# --- signatures -----------------------------------------------------------------------------------

MLMODEL = b"""
artifact_path: model
signature:
  inputs: '[{"type": "double", "name": "a", "required": true}]'
  outputs: '[{"type": "long"}]'
  params: null
saved_input_example_info:
  artifact_path: input_example.json
"""


def test_the_registry_is_asked_where_there_is_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    world = World(
        by_path(
            {
                "openapi": reply({"error_code": "NOT_FOUND", "message": "no signature"}, 404),
                "get-download-uri": reply({"artifact_uri": "models:/m-1"}),
                "logged-models/m-1": reply(
                    {"model": {"info": {"artifact_uri": "mlflow-artifacts:/0/models/m-1/a"}}}
                ),
                "artifacts/0/models/m-1/a/MLmodel": reply(MLMODEL),
                "serving_input_example.json": reply({"inputs": [1]}),
                "iris": CLASSIC,
            }
        )
    )

    signature = world.run(calls_signature.signature(world.context(), "iris"))

    assert signature.names == ("a",)
    assert (signature.entity, signature.example) == ("iris-1", {"inputs": [1]})


def test_an_outside_registry_gets_its_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pw@mlflow.example.com:5000/")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "theirs")

    def answer(request: Request) -> Response:
        if request.origin is None:
            return CLASSIC if request.path.endswith("iris") else reply(None, 404)
        if request.path.endswith("get-download-uri"):
            return reply({"artifact_uri": "runs:/r1/model"})
        if request.path.endswith("runs/get"):
            return reply({"run": {"info": {"artifact_uri": "mlflow-artifacts:/0/r1/artifacts"}}})
        return reply(MLMODEL) if request.path.endswith("MLmodel") else reply(None, 404)

    world = World(answer)

    signature = world.run(calls_signature.signature(world.context(), "iris"))

    assert signature.names == ("a",)
    outside = [request for request in world.requests if request.origin]
    assert {request.origin for request in outside} == {"https://mlflow.example.com:5000"}
    assert {request.headers["authorization"] for request in outside} == {"Bearer theirs"}


@pytest.mark.parametrize(
    "uri", ["s3://bucket/model", "file:///etc", "/etc", "models:/iris/1", "runs:/"]
)
def test_files_elsewhere_are_left_alone(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    known = {"get-download-uri": reply({"artifact_uri": uri}), "iris": CLASSIC}
    world = World(by_path(known))

    with pytest.raises(NotFound, match="has no signature"):
        world.run(calls_signature.signature(world.context(), "iris"))


def test_an_unknown_entity_names_those_that_there_are() -> None:
    world = World(by_path({"iris": CLASSIC}))

    with pytest.raises(NotFound, match="no served entity 'b'; it has iris-1"):
        world.run(calls_signature.signature(world.context(), "iris", entity="b"))


def test_an_endpoint_that_is_not_there() -> None:
    world = World(by_path({}))

    with pytest.raises(NotFound, match="No API found"):
        world.run(calls_signature.signature(world.context(), "iris"))


def test_unknown_options_are_type_errors() -> None:
    with pytest.raises(TypeError, match="colums"):
        given_and_options({"colums": {}})


# --- what was learned is out of date, or was not known --------------------------------------------


def test_a_signature_that_was_replaced_a_moment_ago_is_looked_up() -> None:
    pages = [page("a", "b"), page("c", "d")]
    world = World(
        lambda request: pages.pop(0) if request.path.endswith("openapi") else ANSWER, takes=0.01
    )
    context = world.context()
    ask(world, context, records=[{"a": 1.0, "b": 2.0}])

    ask(world, context, records=[{"c": 1.0, "d": 2.0}])

    assert [document["dataframe_records"] for document in sent(world)] == [
        [{"a": 1.0, "b": 2.0}], [{"c": 1.0, "d": 2.0}],
    ]  # fmt: skip


def test_many_bad_inputs_look_it_up_once() -> None:
    world = World(by_path({"openapi": page("a", "b"), "invocations": ANSWER}), takes=0.01)
    context = world.context()

    for _ in range(5):
        with pytest.raises(InvalidInput):
            ask(world, context, records=[{"c": 1.0}])
        world.time += 0.01

    assert len(world.requests) == 2
    world.time += 5
    with pytest.raises(InvalidInput):
        ask(world, context, records=[{"c": 1.0}])
    assert len(world.requests) == 3


AGENT = reply({"name": "iris", "state": READY, "task": "agent/v1/responses"})
HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("given", [{"messages": HI}, {"data": HI}])
def test_an_agent_of_the_responses_form_gets_messages_as_its_input(given: Any) -> None:
    said = reply({"output": [{"content": [{"text": "hello"}]}]})
    world = World(
        lambda request: (
            AGENT if request.path.endswith("/iris") else page() if not request.body
            else said if b'"input"' in request.body else SCHEMA
        )
    )  # fmt: skip
    context = world.context()

    answers = [ask(world, context, **given) for _ in range(2)]

    assert [str(answer) for answer in answers] == ["hello", "hello"]
    # Found out by the first refusal, and known from then on.
    assert sent(world) == [{"messages": HI}, {"input": HI}, {"input": HI}]


def test_a_chat_that_is_refused_is_refused_once() -> None:
    world = World(by_path({"iris": CHAT, "invocations": SCHEMA}))

    with pytest.raises(BadRequest, match="enforce schema"):
        ask(world, world.context(), messages=HI)

    assert sent(world) == [{"messages": HI}]
