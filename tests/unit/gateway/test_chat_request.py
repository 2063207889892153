"""What may be asked, and the words for what may not."""

from typing import Any

import orjson
import pytest

from lakeport.errors import ApiError, BadRequest, InvalidParameter
from lakeport.gateway.chat import begin
from lakeport.gateway.chat_messages import MAX_INPUTS
from lakeport.wire.chat import ChatTarget, Operation, Task
from tests.unit.gateway.targets import (
    ALL,
    CALL,
    PLAIN,
    SCHEMA,
    TOOL,
    USER,
    chat,
    hosted,
    outside,
)

CHAT, COMPLETIONS, EMBEDDINGS = Operation.CHAT, Operation.COMPLETIONS, Operation.EMBEDDINGS
ASSISTANT = {"role": "assistant", "content": None}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}


def sent(target: ChatTarget, operation: Operation | None, document: dict[str, Any]) -> Any:
    """What the replica gets."""
    return orjson.loads(begin(target, operation, document).body)


# --- which operation ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "document", "operation"),
    [
        (hosted(), chat(), CHAT),
        (hosted(), {"prompt": "Once"}, COMPLETIONS),
        (hosted(Task.EMBEDDINGS), {"input": ["a"]}, EMBEDDINGS),
        (outside(), chat(), CHAT),
        (outside(Task.COMPLETIONS), {"prompt": "Once"}, COMPLETIONS),
        (outside(Task.EMBEDDINGS), {"input": "a"}, EMBEDDINGS),
    ],
)
def test_the_keys_of_a_body_say_what_is_asked(
    target: ChatTarget, document: dict[str, Any], operation: Operation
) -> None:
    assert begin(target, None, document).operation is operation


@pytest.mark.parametrize("target", [hosted(), outside()])
@pytest.mark.parametrize(
    ("document", "unknown"),
    [
        ({"inputs": ["hi"]}, 'unknown field "inputs"'),
        ({"dataframe_split": {"columns": [], "data": []}}, 'unknown field "dataframe_split"'),
        ({"instances": [1]}, 'unknown field "instances"'),
        ({"input": "hi"}, 'unknown field "input"'),
        ({"question": "hi"}, 'unknown field "question"'),
        ({"inputs": [1], "messages": [USER]}, 'unknown field "inputs"'),
        ({}, 'takes "messages"'),
    ],
)
def test_a_body_of_another_protocol_is_told_what_this_one_takes(
    target: ChatTarget, document: dict[str, Any], unknown: str
) -> None:
    with pytest.raises(BadRequest, match=unknown) as refusal:
        begin(target, None, document)

    assert '"messages" (a list of {"role": ..., "content": ...})' in refusal.value.message


@pytest.mark.parametrize(
    ("target", "operation"),
    [
        (hosted(), EMBEDDINGS),
        (hosted(Task.EMBEDDINGS), CHAT),
        (outside(), COMPLETIONS),
        (outside(Task.COMPLETIONS), CHAT),
    ],
)
def test_an_operation_that_an_endpoint_does_not_do_is_refused(
    target: ChatTarget, operation: Operation
) -> None:
    with pytest.raises(BadRequest, match=f"does not do {operation.value}. It takes"):
        begin(target, operation, {"messages": [USER], "input": "a", "prompt": "a"})


@pytest.mark.parametrize(
    ("target", "operation", "subject"),
    [
        (hosted(), CHAT, "messages"),
        (hosted(), COMPLETIONS, "prompt"),
        (outside(), CHAT, "messages"),
        (hosted(Task.EMBEDDINGS), EMBEDDINGS, "input"),
    ],
)
def test_a_request_needs_its_subject(
    target: ChatTarget, operation: Operation, subject: str
) -> None:
    with pytest.raises(InvalidParameter, match=f'"{subject}" is required'):
        begin(target, operation, {"model": "x"})


# --- plainly wrong, whoever answers -------------------------------------------------------------


@pytest.mark.parametrize("target", [hosted(can=ALL), outside()])
@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"messages": []}, '"messages" must be a list of at least one message, not an empty list'),
        ({"messages": None}, '"messages" must be a list of at least one message, not null'),
        ({"messages": "hi"}, 'not "hi"'),
        ({"messages": {}}, "not an object"),
        ({"messages": ["hi"]}, '"messages[0]" must be an object'),
        ({"messages": [{"content": "hi"}]}, '"messages[0].role" must be'),
        ({"messages": [USER, {"role": 1, "content": "hi"}]}, '"messages[1].role"'),
        ({"messages": [{"role": "user"}]}, '"messages[0].content" must be a string or a list of'),
        ({"messages": [{"role": "user", "content": None}]}, '"messages[0].content"'),
        ({"messages": [{"role": "user", "content": 5}]}, '"messages[0].content"'),
        (
            {"messages": [{"role": "user", "content": ["hi"]}]},
            '"messages[0].content[0]" must be an',
        ),
        ({"messages": [{"role": "user", "content": [{}]}]}, '"messages[0].content[0].type"'),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            '"messages[0].content[0].text"',
        ),
        ({"messages": [{**ASSISTANT, "tool_calls": "f"}]}, '"messages[0].tool_calls" must be a'),
        ({"messages": [{**ASSISTANT, "tool_calls": ["f"]}]}, '"messages[0].tool_calls[0]"'),
        (chat(max_tokens=-1), '"max_tokens" must be a whole number of at least'),
        (chat(max_tokens="5"), '"max_tokens" must be a whole number'),
        (chat(max_tokens=5.5), "not 5.5"),
        (chat(max_tokens=True), "not true"),
        (chat(max_completion_tokens=-1), '"max_completion_tokens"'),
        (chat(temperature="hot"), '"temperature" must be a number'),
        (chat(temperature=-0.1), '"temperature"'),
        (chat(top_p=[]), '"top_p"'),
        (chat(n=0), '"n" must be a whole number of at least 1, not 0'),
        (chat(stop=5), '"stop" must be a string or a list of strings'),
        (chat(stop=["a", 5]), '"stop[1]" must be a string, not 5'),
        (chat(stream="yes"), '"stream" must be true or false, not "yes"'),
        (chat(stream=True, stream_options=[]), '"stream_options" must be an object'),
        (
            chat(stream=True, stream_options={"include_usage": 1}),
            '"stream_options.include_usage" must be true or false, not 1',
        ),
        (chat(tools={}), '"tools" must be a list'),
        (chat(client_request_id=5), "client_request_id must be a string"),
        (chat(usage_context={"a": 1}), "usage_context must be a map"),
        (chat(extra_params="x"), '"extra_params" must be an object'),
        (chat(n=1, extra_params={"n": "2"}), '"extra_params" must not give "n" a second'),
        (chat(extra_params={"temperature": "hot"}), '"temperature" must be a number'),
    ],
)
def test_what_is_plainly_wrong_is_refused_by_name(
    target: ChatTarget, document: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        begin(target, CHAT, document)

    assert words in refusal.value.message


# --- hosted: checked in full --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (chat(max_tokens=0), '"max_tokens" must be a whole number of at least 1, not 0'),
        (chat(temperature=2.1), '"temperature" must be a number between 0 and 2, not 2.1'),
        (chat(top_p=1.5), '"top_p" must be a number between 0 and 1'),
        (chat(top_k=-2), '"top_k"'),
        (chat(min_p=2), '"min_p"'),
        (chat(frequency_penalty=3), '"frequency_penalty"'),
        (chat(presence_penalty="a"), '"presence_penalty"'),
        (chat(logit_bias={"5": 101}), '"logit_bias.5" must be a number between -100 and 100'),
        (chat(logit_bias=[]), '"logit_bias"'),
        (chat(seed=1.5), '"seed" must be a whole number, not 1.5'),
        (chat(user=5), '"user" must be a string'),
        (chat(metadata="m"), '"metadata" must be an object'),
        (chat(stream_options={}), '"stream_options" is only for "stream": true'),
        (chat(stream=False, stream_options={}), '"stream_options" is only for "stream": true'),
        (chat(max_tokens=5, max_completion_tokens=6), "must not differ"),
        (chat(top_logprobs=2), '"top_logprobs" needs "logprobs": true'),
        (chat(logprobs=True, top_logprobs=21), '"top_logprobs" must be a whole number between 0'),
        (chat(logprobs=1), '"logprobs" must be true or false'),
        (chat(tools=["f"]), '"tools[0]" must be an object'),
        (chat(tools=[{"type": "code"}]), '"tools[0].type" must be "function", not "code"'),
        (chat(tools=[{"type": "function"}]), '"tools[0].function" must be an object, not null'),
        (
            chat(tools=[{"type": "function", "function": {}}]),
            '"name" is a required property for "function" object in parameter "tools[0]"',
        ),
        (
            chat(tools=[{"type": "function", "function": {"name": "f", "parameters": "x"}}]),
            '"tools[0].function.parameters" must be an object',
        ),
        (chat(tools=[TOOL], tool_choice="any"), '"tool_choice" must be "none", "auto"'),
        (chat(tools=[TOOL], tool_choice={"type": "function"}), '"tool_choice.function"'),
        (
            chat(
                tools=[TOOL],
                tool_choice={"type": "function", "function": {"name": "g"}},
            ),
            '"tool_choice" names "g", which is not one of "tools"',
        ),
        (chat(tool_choice="required"), '"tool_choice" needs "tools"'),
        (chat(response_format="json"), '"response_format" must be an object'),
        (chat(response_format={"type": "xml"}), '"response_format.type" must be "text" or'),
        (chat(response_format={"type": "json_schema"}), '"response_format.json_schema" must be'),
        (
            chat(response_format={"type": "json_schema", "json_schema": {"name": "s"}}),
            '"response_format.json_schema.schema" must be an object',
        ),
        ({"messages": [{"role": "bot", "content": "x"}]}, "must be one of system, developer"),
        ({"messages": [ASSISTANT]}, '"messages[0].content" must be'),
        (
            {"messages": [USER, {"role": "tool", "content": "x"}]},
            '"messages[1].tool_call_id" is required',
        ),
    ],
)
def test_a_hosted_model_is_asked_with_right_values_only(
    document: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        begin(hosted(can=ALL), CHAT, document)

    assert words in refusal.value.message


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (chat(tools=[TOOL]), '"tools": this model cannot call tools. It takes: messages, model'),
        (chat(tool_choice="required"), '"tool_choice"'),
        (chat(response_format=SCHEMA), '"response_format": this model answers in plain text'),
        (chat(n=2), '"n": this model gives one answer'),
        (chat(logprobs=True), '"logprobs": this model gives no log'),
        (chat(seed=1), '"seed"'),
        (chat(stop="."), '"stop"'),
        (chat(store=True), '"store" is not possible'),
        (chat(colour="red"), 'Bad request: json: unknown field "colour". It takes: messages'),
        (chat(functions=[]), 'unknown field "functions"'),
        (chat(prompt="x"), 'unknown field "prompt"'),
        (
            {"messages": [{"role": "user", "content": [IMAGE]}]},
            '"messages[0].content[0]": this model takes text only',
        ),
        (
            {"messages": [USER, {**ASSISTANT, "tool_calls": [CALL]}]},
            '"messages[1].tool_calls": this model cannot call tools',
        ),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c1"}]},
            '"messages[0].role": this model cannot call tools',
        ),
    ],
)  # fmt: skip
def test_what_a_hosted_model_cannot_do_is_refused_and_not_dropped(
    document: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest) as refusal:
        begin(hosted(can=type(ALL)()), CHAT, document)

    assert words in refusal.value.message


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"prompt": ["a", "b"]}, '"prompt": this model completes one text'),
        ({"prompt": [1, 2]}, '"prompt" has token ids'),
        ({"prompt": [[1], [2]]}, '"prompt" has token ids'),
        ({"prompt": "a", "echo": True}, '"echo"'),
        ({"prompt": "a", "suffix": "z"}, '"suffix"'),
        ({"prompt": "a", "best_of": 2}, '"best_of"'),
        ({"prompt": "a", "logprobs": 0}, '"logprobs"'),
        ({"prompt": "a", "n": 2}, '"n"'),
        ({"prompt": "a", "tools": [TOOL]}, 'unknown field "tools"'),
    ],
)
def test_a_completion_that_a_hosted_model_cannot_do_is_refused(
    document: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest) as refusal:
        begin(hosted(), COMPLETIONS, document)

    assert words in refusal.value.message


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "a", "stop": ""}, "stop"),
        ({"prompt": "a", "stop": ["a", ""]}, "stop[1]"),
    ],
)
def test_an_empty_text_is_refused_by_hosted_models_alone(
    document: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidParameter) as refused:
        begin(hosted(), COMPLETIONS, document)

    assert f'"{field}" must be a string that is not empty' in refused.value.message
    sent(outside(Task.COMPLETIONS), COMPLETIONS, document)


@pytest.mark.parametrize("prompt", [None, 5, [], [None], {}, [""]])
def test_a_completion_needs_a_text(prompt: Any) -> None:
    with pytest.raises(InvalidParameter, match='"prompt" must be a string or a list of strings'):
        begin(hosted(), COMPLETIONS, {"prompt": prompt})


@pytest.mark.parametrize(
    ("document", "refused", "words"),
    [
        ({"input": []}, InvalidParameter, '"input" must be a string or a list of strings'),
        ({"input": None}, InvalidParameter, '"input"'),
        ({"input": ""}, InvalidParameter, '"input" must be a string that is not empty'),
        ({"input": ["a", ""]}, InvalidParameter, '"input[1]" must be a string that is not empty'),
        ({"input": ["a", None]}, InvalidParameter, '"input[1]"'),
        ({"input": [1, 2]}, BadRequest, "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, BadRequest, "check_embedding_ctx_length=False"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, InvalidParameter, "2049 texts"),
        ({"input": "a", "encoding_format": "hex"}, InvalidParameter, '"encoding_format" must be'),
        ({"input": "a", "dimensions": 8}, BadRequest, '"dimensions": this model'),
        ({"input": "a", "stream": True}, InvalidParameter, '"stream" must be false, not true'),
        ({"input": "a", "max_tokens": 5}, BadRequest, 'unknown field "max_tokens"'),
    ],
)
def test_embeddings_of_a_hosted_model_are_of_texts(
    document: dict[str, Any], refused: type[ApiError], words: str
) -> None:
    with pytest.raises(refused) as refusal:
        begin(hosted(Task.EMBEDDINGS), EMBEDDINGS, document)

    assert words in refusal.value.message


def test_a_message_without_a_part_is_empty_unless_it_calls_tools() -> None:
    empty = {"role": "user", "content": []}
    calling = {"role": "assistant", "content": [], "tool_calls": [CALL]}

    with pytest.raises(InvalidParameter, match=r'"messages\[0\]\.content" .*, not an empty list'):
        begin(hosted(), CHAT, {"messages": [empty]})
    conversation = {"messages": [USER, calling]}
    assert sent(hosted(can=ALL), CHAT, conversation)["messages"] == conversation["messages"]
    assert sent(outside(), CHAT, {"messages": [empty]})["messages"] == [empty]


def test_a_model_that_can_is_given_what_was_asked() -> None:
    document = chat(
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
        response_format=SCHEMA,
        n=2,
        seed=7,
        stop=["."],
        logprobs=True,
        top_logprobs=3,
        temperature=0,
        top_p=1,
        top_k=5,
        min_p=0.1,
        logit_bias={"5": -100},
        max_tokens=9,
    )

    assert sent(hosted(can=ALL), CHAT, document) == {**document, "model": "engine"}


@pytest.mark.parametrize("seed", [-1, -5, 0, 7, 2**31, 2**32 - 1, 2**63 - 1])
def test_every_seed_is_one(seed: int) -> None:
    """llama.cpp draws one of its own for -1 and for 2**32 - 1."""
    passed_on = sent(hosted(), CHAT, chat(seed=seed))["seed"]

    assert 0 <= passed_on < 2**31
    assert passed_on == sent(hosted(), CHAT, chat(seed=seed))["seed"]
    assert sent(outside(), CHAT, chat(seed=seed))["seed"] == seed


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "ann"},
        {"metadata": {"a": "b"}},
        {"store": False},
        {"stream": False},
        {"n": 1},
        {"parallel_tool_calls": True},
        {"tools": []},
        {"tools": None},
        {"tool_choice": "auto"},
        {"tool_choice": "none"},
        {"logprobs": False},
        {"logprobs": False, "top_logprobs": 0},
        {"response_format": {"type": "text"}},
        {"stop": []},
        {"stop": None},
        {"seed": None},
        {"databricks_options": {"return_trace": True}},
        {"service_tier": "auto"},
        {"client_request_id": "r"},
        {"usage_context": {"a": "b"}},
    ],
)
def test_what_changes_no_answer_is_taken_and_dropped(harmless: dict[str, Any]) -> None:
    document = chat(**harmless)

    assert sent(hosted(can=type(ALL)()), CHAT, document) == {"messages": [USER], "model": "engine"}


@pytest.mark.parametrize(
    "harmless", [{"echo": False}, {"suffix": ""}, {"best_of": 1}, {"logprobs": None}, {"n": 1}]
)
def test_a_completion_may_say_that_it_wants_nothing_more(harmless: dict[str, Any]) -> None:
    got = sent(hosted(), COMPLETIONS, {"prompt": ["Once"], **harmless})

    assert got == {"prompt": "Once", "model": "engine"}


def test_fields_that_sampling_knows_reach_a_plain_model() -> None:
    document = chat(frequency_penalty=0.5, presence_penalty=-1, top_k=3, seed=4, stop=".")

    assert sent(hosted(can=PLAIN), CHAT, document) == {**document, "model": "engine"}


def test_a_developer_speaks_as_the_system_to_a_hosted_model() -> None:
    document = {"messages": [{"role": "developer", "content": "be brief"}, USER]}

    got = sent(hosted(), CHAT, document)

    assert [message["role"] for message in got["messages"]] == ["system", "user"]
    assert document["messages"][0]["role"] == "developer"


def test_a_text_in_parts_is_a_text() -> None:
    document = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}

    assert sent(hosted(), CHAT, document)["messages"] == document["messages"]


# --- databricks-sdk -----------------------------------------------------------------------------


def test_extra_params_of_databricks_sdk_are_read_as_what_they_are() -> None:
    extra = {
        "top_p": "0.5",
        "seed": "7",
        "user": "12",
        "stop": "4",
        "response_format": '{"type": "json_object"}',
        "parallel_tool_calls": "true",
        "unknown": "text",
    }

    got = sent(outside(), None, chat(max_tokens=5, extra_params=extra))

    assert got == chat(
        max_tokens=5,
        top_p=0.5,
        seed=7,
        user="12",
        stop="4",
        response_format={"type": "json_object"},
        parallel_tool_calls=True,
        unknown="text",
        model="gpt-x",
    )
