"""Invocations as curl sends them: other content types, other bodies, one served entity."""

import gzip
import json
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.contract.endpoints import COLUMNS, FLOWER, SPLIT, Deploy
from tests.contract.workspace import Workspace

JSON = {"Content-Type": "application/json"}


def _path(endpoint: str, entity: str | None = None) -> str:
    middle = f"/served-models/{entity}" if entity else ""
    return f"/serving-endpoints/{endpoint}{middle}/invocations"


@pytest.mark.operation("invocations")
def test_an_answer_says_which_served_entity_gave_it(http: httpx.Client, iris: str) -> None:
    answer = http.post(_path(iris), json=SPLIT)

    assert answer.status_code == 200
    assert answer.json() == {"predictions": [0]}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["served-model-name"] == "old"


@pytest.mark.operation("invocations")
def test_an_error_of_the_model_says_so_too(http: httpx.Client, iris: str) -> None:
    refused = http.post(_path(iris), json={"dataframe_records": [{"x": 1}]})

    assert refused.status_code == 400
    assert refused.headers["served-model-name"] == "old"


@pytest.mark.operation("served-models")
def test_one_served_entity_answers_whatever_its_share(http: httpx.Client, iris: str) -> None:
    answers = Counter(
        (answer.headers["served-model-name"], str(answer.json()["predictions"]))
        for answer in (http.post(_path(iris, "new"), json=SPLIT) for _ in range(5))
    )

    assert answers == {("new", "[2]"): 5}


@pytest.mark.operation("served-models")
def test_an_unknown_served_entity_is_not_found(http: httpx.Client, iris: str) -> None:
    refused = http.post(_path(iris, "unknown"), json=SPLIT)

    assert refused.status_code == 404


@pytest.mark.operation("invocations")
def test_csv_with_a_header_is_a_frame(http: httpx.Client, iris: str) -> None:
    text = ",".join(COLUMNS) + "\n" + ",".join(map(str, FLOWER)) + "\n"

    answer = http.post(_path(iris), content=text, headers={"Content-Type": "text/csv"})

    assert answer.json() == {"predictions": [0]}


@pytest.mark.operation("invocations")
@pytest.mark.parametrize("type", ["application/json; charset=utf-8", "Application/JSON"])
def test_a_content_type_may_be_written_in_other_ways(
    http: httpx.Client, iris: str, type: str
) -> None:
    answer = http.post(_path(iris), content=json.dumps(SPLIT), headers={"Content-Type": type})

    assert answer.status_code == 200


@pytest.mark.operation("invocations")
def test_a_gzipped_body_is_inflated(http: httpx.Client, iris: str) -> None:
    body = gzip.compress(json.dumps(SPLIT).encode())

    answer = http.post(_path(iris), content=body, headers=JSON | {"Content-Encoding": "gzip"})

    assert answer.json() == {"predictions": [0]}


@pytest.mark.operation("invocations")
@pytest.mark.lakeport  # ours: MLflow's own limit is another
def test_more_than_16_mib_is_too_large_also_once_inflated(http: httpx.Client, iris: str) -> None:
    big = b" " * (16 * 2**20) + json.dumps(SPLIT).encode()

    for body, encoding in ((big, "identity"), (gzip.compress(big), "gzip")):
        headers = JSON | {"Content-Encoding": encoding}
        refused = http.post(_path(iris), content=body, headers=headers)
        assert refused.status_code == 413
        assert refused.json()["error_code"] == "REQUEST_TOO_LARGE"


@pytest.mark.operation("invocations")
def test_nan_and_infinity_are_read_as_mlflow_reads_them(http: httpx.Client, params: str) -> None:
    body = '{"dataframe_records": [{"x": NaN}, {"x": -Infinity}, {"x": 1.5}]}'

    answer = http.post(_path(params), content=body, headers=JSON)

    assert answer.json() == {"predictions": ["nan at 0.5", "-inf at 0.5", "1.5 at 0.5"]}


@pytest.mark.operation("invocations")
def test_params_reach_the_model_and_are_checked(http: httpx.Client, params: str) -> None:
    body: dict[str, Any] = {"dataframe_records": [{"x": 1.0}]}

    given = http.post(_path(params), json=body | {"params": {"temperature": 0.9}})
    unknown = http.post(_path(params), json=body | {"params": {"humidity": 0.9}})
    wrong = http.post(_path(params), json=body | {"params": {"temperature": "hot"}})

    assert given.json() == {"predictions": ["1 at 0.9"]}
    assert unknown.json() == {"predictions": ["1 at 0.5"]}
    assert (wrong.status_code, wrong.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.operation("invocations")
def test_a_model_of_messages_gives_its_answer_unwrapped(http: httpx.Client, chat: str) -> None:
    messages = [{"role": "user", "content": "hello"}]
    taken_out = {"client_request_id": "mine", "usage_context": {"project": "plants"}}

    answer = http.post(_path(chat), json={"messages": messages, "max_tokens": 9} | taken_out)

    assert answer.json()["choices"][0]["message"]["content"] == "You said: hello"
    assert answer.json()["asked"] == ["max_tokens", "messages"]


@pytest.mark.operation("invocations")
def test_a_stream_is_server_sent_events_and_ends_with_done(
    http: httpx.Client, streams: str
) -> None:
    body = {"inputs": {"count": 3}, "stream": True}

    with http.stream("POST", _path(streams), json=body) as answer:
        text = answer.read().decode()

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["served-model-name"] == "streams-1"
    *events, last, empty = text.split("\n\n")
    assert [json.loads(event.removeprefix("data: "))["number"] for event in events] == [0, 1, 2]
    assert (last, empty) == ("data: [DONE]", "")


@pytest.mark.operation("invocations")
def test_a_stream_that_breaks_ends_with_an_error_and_not_with_done(
    http: httpx.Client, streams: str
) -> None:
    answer = http.post(_path(streams), json={"inputs": {"count": 3, "fail": 1}, "stream": True})

    events = answer.text.strip().split("\n\n")
    assert len(events) == 2
    error = json.loads(events[-1].removeprefix("data: "))["error"]
    assert error["code"] == "BAD_REQUEST"
    assert "/secret/path" not in answer.text


REFUSED = {
    "nothing": (b"", {"Content-Type": "application/json"}, 400, "BAD_REQUEST"),
    "no JSON": (b"{", {"Content-Type": "application/json"}, 400, "BAD_REQUEST"),
    "a list": (b"[]", {"Content-Type": "application/json"}, 400, "BAD_REQUEST"),
    "two forms": (
        b'{"inputs": [], "instances": []}',
        {"Content-Type": "application/json"},
        400,
        "BAD_REQUEST",
    ),
    "no content type": (b"{}", {}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    "another content type": (b"x", {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    "another charset": (
        b"{}",
        {"Content-Type": "application/json; charset=latin-1"},
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    ),
    "no gzip": (
        b"{}",
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        400,
        "BAD_REQUEST",
    ),
}


@pytest.mark.operation("invocations")
@pytest.mark.parametrize("asked", REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_is_refused(
    http: httpx.Client, iris: str, asked: tuple[bytes, dict[str, str], int, str]
) -> None:
    body, headers, status, code = asked

    refused = http.post(_path(iris), content=body, headers=headers)

    assert (refused.status_code, refused.json()["error_code"]) == (status, code)


@pytest.mark.operation("invocations")
def test_an_endpoint_without_entities_refuses(http: httpx.Client, deploy: Deploy) -> None:
    refused = http.post(_path(deploy("empty")), json=SPLIT)

    assert (refused.status_code, refused.json()["error_code"]) == (400, "INVALID_STATE")


@pytest.mark.operation("invocations")
def test_an_unknown_endpoint_is_not_found(http: httpx.Client, workspace: Workspace) -> None:
    refused = http.post(_path(workspace.new_name("unknown")), json=SPLIT)

    assert (refused.status_code, refused.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.operation("invocations")
def test_only_post_invokes(http: httpx.Client, iris: str) -> None:
    assert http.get(_path(iris)).status_code == 405
