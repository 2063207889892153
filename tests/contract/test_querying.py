"""Invocations through the SDK: every form of request, and who answered."""

from typing import Any

import pytest
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound
from databricks.sdk.service.serving import (
    ChatMessage,
    ChatMessageRole,
    DataframeSplitInput,
    ServingEndpointsAPI,
)

from tests.contract.endpoints import COLUMNS, FLOWER
from tests.contract.workspace import Workspace

RECORD = dict(zip(COLUMNS, FLOWER, strict=True))

FORMS: dict[str, dict[str, Any]] = {
    "dataframe_split": {"dataframe_split": DataframeSplitInput(columns=COLUMNS, data=[FLOWER])},
    "dataframe_split with an index": {
        "dataframe_split": DataframeSplitInput(columns=COLUMNS, data=[FLOWER], index=[7])
    },
    "dataframe_records": {"dataframe_records": [RECORD]},
    "instances": {"instances": [RECORD]},
    "inputs": {"inputs": {name: [value] for name, value in RECORD.items()}},
    "records with extra_params": {"dataframe_records": [RECORD], "extra_params": {"a": "b"}},
}


@pytest.mark.operation("query")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_each_form_is_answered(api: ServingEndpointsAPI, iris: str, form: dict[str, Any]) -> None:
    answer = api.query(iris, **form)

    assert answer.predictions == [0]
    assert answer.served_model_name == "old"


@pytest.mark.operation("query")
def test_each_row_has_its_answer_in_order(api: ServingEndpointsAPI, iris: str) -> None:
    other = [6.3, 3.3, 6.0, 2.5]
    rows = [FLOWER, other, FLOWER] * 20

    answer = api.query(iris, dataframe_split=DataframeSplitInput(columns=COLUMNS, data=rows))

    assert answer.predictions == [0, 2, 0] * 20


@pytest.mark.operation("query")
def test_ids_and_usage_never_reach_the_model(api: ServingEndpointsAPI, chat: str) -> None:
    if _old_sdk():
        pytest.skip("this SDK has no client_request_id")

    answer = api.query(
        chat,
        messages=[ChatMessage(role=ChatMessageRole.USER, content="hello")],
        client_request_id="mine",
        usage_context={"project": "plants"},
    )

    assert answer.choices is not None


@pytest.mark.operation("query")
def test_a_model_of_messages_answers_a_chat(api: ServingEndpointsAPI, chat: str) -> None:
    answer = api.query(
        chat,
        messages=[
            ChatMessage(role=ChatMessageRole.SYSTEM, content="Be brief."),
            ChatMessage(role=ChatMessageRole.USER, content="hello"),
        ],
        max_tokens=5,
        temperature=0.5,
        extra_params={"colour": "green"},
    )

    assert answer.choices is not None
    (choice,) = answer.choices
    assert choice.message is not None
    assert choice.message.content == "You said: hello"
    assert answer.served_model_name == "chat-1"


@pytest.mark.operation("openai chat", "get_open_ai_client")
@pytest.mark.filterwarnings("ignore:get_open_ai_client")
def test_a_model_of_messages_answers_the_openai_client(api: ServingEndpointsAPI, chat: str) -> None:
    with api.get_open_ai_client() as sdk:  # type: ignore[attr-defined]
        answer = sdk.chat.completions.create(
            model=chat, messages=[{"role": "user", "content": "hello"}], max_tokens=5
        )
        names = [model.id for model in sdk.models.list()]

    assert answer.choices[0].message.content == "You said: hello"
    assert chat in names


@pytest.mark.operation("query")
def test_a_frame_that_does_not_fit_the_signature_is_refused(
    api: ServingEndpointsAPI, iris: str
) -> None:
    with pytest.raises(InvalidParameterValue, match="Failed to enforce schema"):
        api.query(iris, dataframe_records=[{"length": 1.0}])
    with pytest.raises(BadRequest, match="Failed to convert column"):
        api.query(iris, dataframe_records=[RECORD | {COLUMNS[0]: "long"}])


@pytest.mark.operation("query")
def test_a_request_without_any_form_says_which_there_are(
    api: ServingEndpointsAPI, iris: str
) -> None:
    with pytest.raises(BadRequest, match="exactly one of the input fields"):
        api.query(iris)


@pytest.mark.operation("query")
def test_what_the_model_raises_is_a_bad_request(api: ServingEndpointsAPI, streams: str) -> None:
    with pytest.raises(BadRequest, match="unexpected error while evaluating the model") as refused:
        api.query(streams, inputs={"nothing": 1})

    assert refused.value.error_code == "BAD_REQUEST"


@pytest.mark.operation("query")
def test_an_unknown_endpoint_is_not_found(api: ServingEndpointsAPI, workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="The given endpoint does not exist") as refused:
        api.query(workspace.new_name("unknown"), dataframe_records=[RECORD])

    assert refused.value.error_code == "ENDPOINT_NOT_FOUND"


def _old_sdk() -> bool:
    from databricks.sdk.version import __version__

    return tuple(map(int, __version__.split(".")[:2])) < (0, 156)
