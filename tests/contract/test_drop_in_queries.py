"""Queries of `lakeport.WorkspaceClient`, with both versions of the SDK."""

import json
import math
import threading
from datetime import date
from enum import Enum
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import requests
from databricks import sdk
from databricks.sdk.clock import RealClock
from databricks.sdk.core import Config
from databricks.sdk.errors import InternalError, TooManyRequests
from databricks.sdk.service.serving import (
    ChatMessage,
    ChatMessageRole,
    DataframeSplitInput,
)

from lakeport import Retry, WorkspaceClient, query_endpoint
from lakeport.integrations.databricks import body_form
from lakeport.integrations.databricks_calls import pause
from tests.contract.chats import CLAUDE
from tests.contract.drop_ins import GOOD, answer, config, replying
from tests.contract.endpoints import COLUMNS, FLOWER, SPLIT
from tests.contract.workspace import Workspace


@pytest.fixture(scope="module")
def drop_in(workspace: Workspace) -> WorkspaceClient:
    return WorkspaceClient(config=config(workspace.host, workspace.token))


@pytest.fixture(scope="module")
def chats(chat_workspace: Workspace) -> WorkspaceClient:
    return WorkspaceClient(config=config(chat_workspace.host, chat_workspace.token))


# --- their bodies -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["inputs", "instances", "dataframe_split", "dataframe_records"])
def test_a_whole_body_given_as_inputs_is_sent_as_one(
    drop_in: WorkspaceClient, iris: str, form: str
) -> None:
    record = dict(zip(COLUMNS, FLOWER, strict=True))
    body = {
        "inputs": {name: [value] for name, value in record.items()},
        "instances": [record],
        "dataframe_split": SPLIT["dataframe_split"],
        "dataframe_records": [record],
    }

    answer = drop_in.serving_endpoints.query(iris, inputs={form: body[form]})

    assert answer.predictions == [0]
    assert answer.served_model_name == "old"


def test_inputs_of_the_model_stay_inputs(drop_in: WorkspaceClient, iris: str) -> None:
    columns = {name: [value] for name, value in zip(COLUMNS, FLOWER, strict=True)}

    assert drop_in.serving_endpoints.query(iris, inputs=columns).predictions == [0]
    split = DataframeSplitInput(columns=COLUMNS, data=[FLOWER])
    assert drop_in.serving_endpoints.query(iris, dataframe_split=split).predictions == [0]


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ({"inputs": [[1.0]]}, "inputs"),
        ({"inputs": [[1.0]], "params": {"t": 1}}, "inputs"),
        ({"dataframe_split": {}}, "dataframe_split"),
        ({"messages": [{"role": "user", "content": "a"}], "max_tokens": 9}, "messages"),
        ({"prompt": "a", "temperature": 0}, "prompt"),
        ({"inputs": [1], "weight": [2]}, None),
        ({"inputs": [1], "instances": [2]}, None),
        ({"messages": ["a", "b"]}, None),
        ({"x": [1]}, None),
        ([[1.0]], None),
        (None, None),
    ],
)
def test_a_whole_body_is_known_by_its_form(given: Any, form: str | None) -> None:
    assert body_form(given) == form


def test_chats_are_asked_in_any_form(chats: WorkspaceClient) -> None:
    asked = {"role": "user", "content": "Say yes."}
    api = chats.serving_endpoints

    answers = [
        api.query(
            CLAUDE,
            messages=[ChatMessage(role=ChatMessageRole.USER, content="Say yes.")],
            max_tokens=4,
        ),
        api.query(CLAUDE, messages=[asked], max_tokens=4),
        api.query(CLAUDE, inputs={"messages": [asked], "max_tokens": 4}),
        query_endpoint(CLAUDE, {"messages": [asked], "max_tokens": 4}, client=chats),
    ]

    for found in answers:
        assert found.choices is not None
        assert found.choices[0].message is not None
        assert found.choices[0].message.content


def test_a_stream_is_refused_with_what_to_use(chats: WorkspaceClient) -> None:
    with pytest.raises(ValueError, match="stream_chat"):
        chats.serving_endpoints.query(CLAUDE, messages=[], stream=True)
    with pytest.raises(ValueError, match="stream_chat"):
        query_endpoint(CLAUDE, {"messages": [], "stream": True}, client=chats)


def test_query_endpoint_takes_its_workspace_from_the_environment(
    workspace: Workspace, iris: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", workspace.host)
    monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token)

    assert query_endpoint(iris, SPLIT).predictions == [0]


def test_query_endpoint_wants_a_body(drop_in: WorkspaceClient) -> None:
    wrong: Any = [[1.0]]

    with pytest.raises(TypeError, match="A request body is a dict"):
        query_endpoint("any", wrong, client=drop_in)


def page(*columns: str) -> dict[str, Any]:
    """The OpenAPI page of a model with these columns."""
    row = {"type": "object", "properties": {name: {"type": "number"} for name in columns}}
    records = {"dataframe_records": {"type": "array", "items": row}}
    schema = {"oneOf": [{"type": "object", "properties": records}]}
    body = {"content": {"application/json": {"schema": schema}}}
    return {"paths": {"/served-models/m-1/invocations": {"post": {"requestBody": body}}}}


@pytest.mark.parametrize(
    ("shown", "given", "whole"),
    [
        ({"/openapi": page("a", "b")}, {"inputs": [[1]]}, True),
        ({"/openapi": page("inputs", "b")}, {"inputs": [1]}, False),
        ({"/openapi": page("prompt", "b")}, {"prompt": ["hi"]}, False),
        ({}, {"inputs": [[1]]}, True),
        # A model without a signature may have a column of that name; a language model has not.
        ({"/m": {"name": "m"}}, {"prompt": ["hi"]}, False),
        ({"/m": {"name": "m", "task": "llm/v1/completions"}}, {"prompt": ["hi"]}, True),
    ],
)
def test_a_whole_body_is_one_unless_the_model_has_such_an_input(
    shown: dict[str, object], given: dict[str, Any], whole: bool
) -> None:
    with replying(lambda handler, _: answer(handler, 200, GOOD), shown) as (host, asked):
        client = WorkspaceClient(config=config(host))
        client.serving_endpoints.query("m", inputs=given)
        client.serving_endpoints.query("m", inputs=given)  # by what was learned

    assert [json.loads(body) for body in asked] == [given if whole else {"inputs": given}] * 2


class Size(Enum):
    LARGE = "large"


def test_values_that_json_has_no_word_for_are_sent() -> None:
    class Array:
        def tolist(self) -> list[float]:
            return [1.0, 2.0]

    split = DataframeSplitInput(columns=["a"], data=[[date(2026, 1, 2)], [Size.LARGE]])
    with replying(lambda handler, _: answer(handler, 200, GOOD)) as (host, asked):
        client = WorkspaceClient(config=config(host))
        query_endpoint("m", {"dataframe_split": split}, client=client)
        query_endpoint("m", {"inputs": Array()}, client=client)
        query_endpoint("m", {"inputs": [math.nan, 1.5]}, client=client)
        client.serving_endpoints.query("m", dataframe_split={"columns": ["a"], "data": [[1]]})
        with pytest.raises(TypeError, match="A set is no JSON"):
            query_endpoint("m", {"inputs": {1, 2}}, client=client)

    assert [json.loads(body) for body in asked] == [
        {"dataframe_split": {"columns": ["a"], "data": [["2026-01-02"], ["large"]]}},
        {"inputs": [1.0, 2.0]},
        {"inputs": [None, 1.5]},
        {"dataframe_split": {"columns": ["a"], "data": [[1]]}},
    ]


# --- what is sent again -------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "patience"), [({}, 600.0), ({"http_timeout_seconds": 5}, 5.0)])
def test_a_slow_model_has_its_time(
    given: dict[str, Any], patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[Any] = []
    request = requests.Session.request

    def watched(*arguments: Any, **options: Any) -> requests.Response:
        timeouts.append(options["timeout"])
        return request(*arguments, **options)

    with replying(lambda handler, _: answer(handler, 200, GOOD)) as (host, _):
        client = WorkspaceClient(config=Config(host=host, token="t", auth_type="pat", **given))
        monkeypatch.setattr(requests.Session, "request", watched)
        client.serving_endpoints.query("m", inputs=[1])

    assert timeouts == [(10.0, patience)]


class Hurried(RealClock):
    """Sleeps pass at once."""

    def __init__(self) -> None:
        self._slept = 0.0

    def time(self) -> float:
        return super().time() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds


def test_a_request_that_may_be_running_is_not_sent_again() -> None:
    ended = threading.Event()

    def slow(handler: BaseHTTPRequestHandler, _: int) -> None:
        ended.wait(10)

    with replying(slow) as (host, asked):
        slow_config = config(host, http_timeout_seconds=0.2, clock=Hurried())
        with pytest.raises(TimeoutError, match="may have been run"):
            WorkspaceClient(config=slow_config).serving_endpoints.query("m", inputs=[1])
        ours = len(asked)
        with pytest.raises(TimeoutError):
            sdk.WorkspaceClient(config=slow_config).serving_endpoints.query("m", inputs=[1])
        theirs = len(asked) - ours
        ended.set()

    assert ours == 1
    assert theirs > 1  # what it is for


@pytest.mark.parametrize("status", [429, 503])
def test_a_request_that_was_not_run_is_sent_again(status: int) -> None:
    def busy_once(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            answer(handler, status, {"error_code": "BUSY", "message": "later"}, Retry_After="0")
        else:
            answer(handler, 200, GOOD)

    with replying(busy_once) as (host, asked):
        found = WorkspaceClient(config=config(host)).serving_endpoints.query("m", inputs=[[1.5]])

    assert found.predictions == [1]
    assert [json.loads(body) for body in asked] == [{"inputs": [[1.5]]}] * 2


def test_an_end_is_put_to_it() -> None:
    def busy(handler: BaseHTTPRequestHandler, _: int) -> None:
        answer(handler, 429, {"error_code": "BUSY", "message": "later"}, Retry_After="0")

    with replying(busy) as (host, asked):
        client = WorkspaceClient(config=config(host))
        client.serving_endpoints.retry = Retry(attempts=3, base=0.01)
        with pytest.raises(TooManyRequests):
            client.serving_endpoints.query("m", inputs=[1])

    assert len(asked) == 3


@pytest.mark.parametrize("status", [500, 0])
def test_what_may_have_been_run_is_sent_again_when_asked(status: int) -> None:
    def broken_once(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 2:
            answer(handler, 200, GOOD)
        elif status:
            answer(handler, status, {"error_code": "INTERNAL_ERROR", "message": "broken"})
        else:
            handler.close_connection = True  # hangs up without an answer

    with replying(broken_once) as (host, asked):
        with pytest.raises((InternalError, requests.ConnectionError)):
            WorkspaceClient(config=config(host)).serving_endpoints.query("m", inputs=[1])
        assert len(asked) == 1
        asked.clear()
        client = WorkspaceClient(config=config(host))
        client.serving_endpoints.retry = Retry(unsafe=True, base=0.01)
        assert client.serving_endpoints.query("m", inputs=[1]).predictions == [1]

    assert len(asked) == 2


def test_a_host_that_is_not_there_is_tried_again() -> None:
    slept: list[float] = []
    with replying(lambda *_: None) as (host, _):
        client = WorkspaceClient(config=config(host))
        client.serving_endpoints._calls._sleep = slept.append

    with pytest.raises(requests.ConnectionError):
        client.serving_endpoints.query("m", inputs=[1])

    assert len(slept) == Retry().attempts - 1


def test_waits_grow_and_are_bounded() -> None:
    busy = TooManyRequests("later", retry_after_secs=2)
    rule = Retry(attempts=10, base=1, cap=5, deadline=60)

    assert [pause(rule, busy, tries, 0, 1.0) for tries in (1, 2, 3, 4)] == [2, 2, 4, 5]
    assert pause(rule, busy, 1, 0, 0.0) == 2  # never before Retry-After
    assert pause(rule, busy, 10, 0, 0.5) is None
    assert pause(rule, busy, 1, 59, 0.5) is None
    assert pause(rule, ValueError(), 1, 0, 0.5) is None
