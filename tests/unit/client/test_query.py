"""Asking an endpoint, as a flow: what is learned, what is sent, what comes back."""

from collections.abc import Mapping
from typing import Any

import pytest

from lakeport.client import calls_query, calls_signature
from lakeport.client.answers import Chat, Prediction
from lakeport.client.calls_query import Options
from lakeport.client.encode import Given
from lakeport.client.errors import (
    BadAnswer,
    BadRequest,
    ConnectionFailed,
    InvalidInput,
    LakeportError,
    NotFound,
    NotReady,
    Unauthenticated,
)
from lakeport.client.flow import Request, Response
from lakeport.client.retry import Retry
from tests.unit.client.asking import ANSWER, CHAT, CLASSIC, SCHEMA, ask, page, sent
from tests.unit.client.flows import Log, World, by_path, reply


def test_an_answer_tells_all_about_itself() -> None:
    world = World(by_path({"invocations": ANSWER}), takes=0.5)

    answer = ask(world, world.context(), records=[{"a": 1.0}], validate=False)

    assert isinstance(answer, Prediction)
    assert (answer.predictions, answer.endpoint) == ([1], "iris")
    assert (answer.served_entity, answer.request_id) == ("iris-1", "r1")
    assert (answer.seconds, answer.attempts) == (0.5, 1)


def test_a_body_goes_as_it_is_in_one_request() -> None:
    world = World(by_path({"invocations": ANSWER}))
    body = {"dataframe_records": [{"nonsense": "x"}]}

    ask(world, world.context(), body=body)

    assert sent(world) == [body]
    assert len(world.requests) == 1


def test_rows_without_names_go_in_signature_order() -> None:
    world = World(by_path({"openapi": page("b", "a"), "invocations": ANSWER, "iris": CLASSIC}))

    ask(world, world.context(), rows=[[1.0, 2.0]])

    assert sent(world) == [{"dataframe_split": {"columns": ["b", "a"], "data": [[1.0, 2.0]]}}]


def test_what_was_learned_is_kept() -> None:
    world = World(by_path({"openapi": page("a", "b"), "invocations": ANSWER}))
    context = world.context()

    for _ in range(3):
        ask(world, context, rows=[[1.0, 2.0]])

    assert [request.path.rpartition("/")[2] for request in world.requests] == [
        "openapi", "invocations", "invocations", "invocations",
    ]  # fmt: skip


def test_a_misspelt_column_is_found_before_sending() -> None:
    world = World(by_path({"openapi": page("length", "width")}))

    with pytest.raises(InvalidInput, match="length") as caught:
        ask(world, world.context(), records=[{"lenght": 1.0, "width": 2.0}])

    assert caught.value.endpoint == "iris"
    assert caught.value.problems
    assert sent(world) == []


def test_validation_can_be_left_out() -> None:
    for context_says, call_says in [(False, None), (True, False)]:
        world = World(by_path({"openapi": page("a", "b"), "invocations": ANSWER}))

        ask(
            world,
            world.context(validate=context_says),
            inputs=[1],
            validate=call_says,
        )

        assert len(world.requests) == 1


def test_a_signature_of_old_does_not_refuse_what_fits_the_new_one() -> None:
    pages = [page("a", "b"), page("a", "c")]

    def answer(request: Request) -> Response:
        return pages.pop(0) if request.path.endswith("openapi") else ANSWER

    world = World(answer)
    context = world.context()
    ask(world, context, records=[{"a": 1.0, "b": 1.0}])
    world.time += 10

    ask(world, context, records=[{"a": 1.0, "c": 1.0}])

    assert len(sent(world)) == 2


def test_what_any_of_the_served_entities_takes_is_sent() -> None:
    """Traffic may go to any of them: one that takes less refuses nothing for the others."""
    world = World(by_path({"openapi": page("a", "b", two=["a", "c"]), "invocations": ANSWER}))
    context = world.context()

    ask(world, context, records=[{"a": 1.0, "c": 1.0}])
    with pytest.raises(InvalidInput, match="'b'"):
        ask(world, context, records=[{"a": 1.0}])
    with pytest.raises(InvalidInput, match="'c'"):
        ask(world, context, records=[{"a": 1.0, "b": 1.0}], entity="two")

    assert len(sent(world)) == 1


def test_rows_go_to_the_entity_whose_width_they_have() -> None:
    world = World(by_path({"openapi": page("a", "b", two=["a", "b", "c"]), "invocations": ANSWER}))

    ask(world, world.context(), rows=[[1.0, 2.0, 3.0]])

    assert sent(world)[0]["dataframe_split"]["columns"] == ["a", "b", "c"]


def test_rows_that_a_new_model_refuses_are_made_anew() -> None:
    pages = [page("a", "b"), page("b", "a")]
    answers = [ANSWER, SCHEMA, ANSWER]

    def answer(request: Request) -> Response:
        return (pages if request.path.endswith("openapi") else answers).pop(0)

    world = World(answer)
    context = world.context()
    ask(world, context, rows=[[1.0, 2.0]])
    world.time += 10

    ask(world, context, rows=[[1.0, 2.0]])

    assert [document["dataframe_split"]["columns"] for document in sent(world)] == [
        ["a", "b"], ["a", "b"], ["b", "a"],
    ]  # fmt: skip


def test_a_refusal_stands_when_the_signature_is_the_same() -> None:
    world = World(by_path({"openapi": page("a", "b"), "invocations": SCHEMA}))

    with pytest.raises(BadRequest, match="enforce schema"):
        ask(world, world.context(), rows=[[1.0, 2.0]])

    assert len(sent(world)) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        reply({"error_code": "PERMISSION_DENIED", "message": "no"}, 403),
        reply({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}, 404),
        reply(None, 500),
        reply(b"<html>"),
        ConnectionFailed("reset", sent=True),
    ],
    ids=["403", "404", "500", "no JSON", "reset"],
)
def test_who_cannot_learn_the_signature_goes_on_without(
    refusal: Response | LakeportError,
) -> None:
    world = World(by_path({"invocations": ANSWER, "": refusal}))
    context = world.context(Retry(attempts=5))

    answer = ask(world, context, rows=[[1.0, 2.0]])
    asked = len(world.requests)
    ask(world, context, rows=[[1.0, 2.0]])

    assert isinstance(answer, Prediction)
    assert sent(world) == [{"inputs": [[1.0, 2.0]]}] * 2
    assert world.slept == []
    assert len(world.requests) == asked + 1


def test_a_refused_token_is_told_at_once() -> None:
    world = World(lambda _: reply(None, 401))

    with pytest.raises(Unauthenticated):
        ask(world, world.context(), rows=[[1.0]])

    assert sent(world) == []


def test_a_string_is_what_the_task_says() -> None:
    answer = reply({"choices": [{"message": {"content": "Hi."}}]})
    world = World(by_path({"invocations": answer, "bot": CHAT}))

    chat = ask(world, world.context(), "bot", data="Hello")

    assert isinstance(chat, Chat)
    assert sent(world) == [{"messages": [{"role": "user", "content": "Hello"}]}]


def test_messages_ask_for_nothing_but_the_answer() -> None:
    answer = reply({"choices": [{"message": {"content": "Hi."}}]})
    world = World(by_path({"invocations": answer}))

    ask(world, world.context(), "bot", messages=[{"role": "user", "content": "Hello"}])

    assert len(world.requests) == 1


def test_ids_fields_and_params_are_in_the_body() -> None:
    world = World(by_path({"invocations": ANSWER}))

    ask(
        world,
        world.context(validate=False),
        inputs=[1],
        params={"top": 2},
        client_request_id="c1",
        usage_context={"project": "p"},
        entity="iris-1",
        headers={"X-Trace": "t"},
        timeout=9.0,
    )

    assert sent(world) == [
        {
            "inputs": [1],
            "params": {"top": 2},
            "client_request_id": "c1",
            "usage_context": {"project": "p"},
        }
    ]
    (request,) = world.requests
    assert request.path == "/serving-endpoints/iris/served-models/iris-1/invocations"
    assert (request.headers, request.timeout) == ({"X-Trace": "t"}, 9.0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1.0}, "timeout"),
        ({"headers": {"Authorization": "Bearer x"}}, "Authorization"),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "X-A"),
        ({"headers": {"X A": "1"}}, "X A"),
        ({"headers": {"X-A": 1}}, "X-A"),
        ({"fields": {"stream": True}}, "stream_chat"),
    ],
)
def test_options_are_refused_by_name(options: Mapping[str, Any], named: str) -> None:
    world = World()

    with pytest.raises(InvalidInput, match=named):
        ask(world, world.context(), messages=[{"role": "user", "content": "x"}], **options)


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_names_that_are_none(name: Any) -> None:
    world = World()

    with pytest.raises(InvalidInput, match="name"):
        ask(world, world.context(), name, inputs=[1])


def test_the_state_is_looked_at_when_asked_for() -> None:
    stopped = {"name": "iris", "state": {"ready": "NOT_READY", "config_update": "NOT_UPDATING"}}
    world = World(by_path({"iris": reply(stopped)}))

    with pytest.raises(NotReady, match="NOT_READY"):
        ask(world, world.context(), inputs=[1], check_state=True)

    assert sent(world) == []


def test_an_endpoint_that_is_gone_is_forgotten() -> None:
    known: dict[str, Response | LakeportError] = {"openapi": page("a", "b"), "invocations": ANSWER}
    world = World(by_path(known))
    context = world.context()
    ask(world, context, rows=[[1.0, 2.0]])
    del known["invocations"]

    with pytest.raises(NotFound):
        ask(world, context, rows=[[1.0, 2.0]])

    assert context.cache.get("signature", "iris", None) is None


def test_an_answer_of_another_kind_is_told() -> None:
    world = World(by_path({"invocations": ANSWER}))
    given = Given(messages=[{"role": "user", "content": "x"}])
    flow = calls_query.query(world.context(), "iris", given, Options())

    with pytest.raises(BadAnswer, match="a chat but with an object of predictions"):
        world.run(calls_query.expect(flow, Chat, "a chat"))


def test_an_answer_that_is_no_json_was_sent_all_the_same() -> None:
    log = Log()
    world = World(by_path({"invocations": reply(b"<html>", x_request_id="r3")}))

    with pytest.raises(BadAnswer, match="html") as caught:
        ask(world, world.context(log=log), inputs=[1], validate=False)

    assert (caught.value.attempts, caught.value.request_id) == (1, "r3")
    assert log.events[0].attempts == 1


def test_the_signature_of_an_endpoint_that_starts_is_not_there_yet() -> None:
    starting = {"ready": "NOT_READY", "config_update": "IN_PROGRESS"}
    world = World(by_path({"iris": reply({"name": "iris", "state": starting})}))

    with pytest.raises(NotReady, match="NOT_READY, IN_PROGRESS"):
        world.run(calls_signature.signature(world.context(), "iris"))


@pytest.mark.parametrize(
    ("refusal", "raised"),
    [
        (reply({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}, 404), NotFound),
        (reply(None, 401), Unauthenticated),
        (ConnectionFailed("refused", sent=False), ConnectionFailed),
        (reply({"error_code": "PERMISSION_DENIED", "message": "no"}, 403), InvalidInput),
    ],
    ids=["404", "401", "refused", "403"],
)
def test_a_string_for_an_endpoint_that_tells_no_task(
    refusal: Response | LakeportError, raised: type[LakeportError]
) -> None:
    """What went wrong is told; only who may not look has to say what the string is."""
    world = World(lambda _: refusal)

    with pytest.raises(raised):
        ask(world, world.context(), "bot", data="Hello")
