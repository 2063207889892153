"""The unmodified `openai` SDK against a server: a small real model, embeddings and a script."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel, Field

from tests.integration.language import EMBEDDINGS, SCRIPTED, TINY
from tests.integration.server import ServerProcess

#: Its answer is longer than any bound that is set here.
STORY = "Tell me a long story about the sea."


def function(name: str) -> Any:
    parameters = {"type": "object", "properties": {"of": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


HEIGHT, AGE = function("height"), function("age")


def user(text: object) -> Any:
    return {"role": "user", "content": text}


@pytest.fixture(scope="module")
def url(chats: ServerProcess) -> str:
    return f"{str(chats.client.base_url).rstrip('/')}/serving-endpoints"


@pytest.fixture
def sdk(chats: ServerProcess, url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key=chats.token, max_retries=0) as client:
        yield client


@pytest.fixture
async def sdk_async(chats: ServerProcess, url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=url, api_key=chats.token, max_retries=0) as client:
        yield client


def tell(sdk: OpenAI, text: str = STORY, **more: Any) -> ChatCompletion:
    """The small model's answer, the same each time."""
    given: dict[str, Any] = {"max_tokens": 8, "temperature": 0} | more
    answer: ChatCompletion = sdk.chat.completions.create(model=TINY, messages=[user(text)], **given)
    return answer


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# --- chat -----------------------------------------------------------------------------------------


def test_a_chat_has_every_part_that_the_sdk_knows(sdk: OpenAI) -> None:
    answer = tell(sdk)

    (choice,) = answer.choices
    assert answer.id
    assert (answer.object, answer.model) == ("chat.completion", TINY)
    assert (choice.index, choice.message.role, choice.finish_reason) == (0, "assistant", "length")
    assert choice.message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


def test_a_stream_is_the_same_answer(sdk: OpenAI) -> None:
    whole = tell(sdk).choices[0].message.content

    with sdk.chat.completions.create(
        model=TINY, messages=[user(STORY)], max_tokens=8, temperature=0, stream=True
    ) as stream:
        chunks = list(stream)

    assert text_of(chunks) == whole
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks][-1] == "length"
    assert {chunk.model for chunk in chunks} == {TINY}
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_tells_its_usage_last_to_who_asks(sdk: OpenAI) -> None:
    with sdk.chat.completions.create(
        model=TINY,
        messages=[user(STORY)],
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        *chunks, last = stream

    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 8


def test_a_stream_may_be_left(sdk: OpenAI) -> None:
    with sdk.chat.completions.create(
        model=TINY, messages=[user(STORY)], max_tokens=512, stream=True
    ) as stream:
        next(iter(stream))

    assert tell(sdk, max_tokens=1).choices[0].finish_reason == "length"


async def test_chats_are_answered_at_once(sdk_async: AsyncOpenAI) -> None:
    async def one(number: int) -> ChatCompletion:
        answer: ChatCompletion = await sdk_async.chat.completions.create(
            model=TINY, messages=[user(f"Story number {number}.")], max_tokens=4
        )
        return answer

    answers = await asyncio.gather(*(one(number) for number in range(6)))

    assert all(answer.choices[0].message.content for answer in answers)
    assert len({answer.id for answer in answers}) == 6


async def test_a_stream_is_read_asynchronously(sdk_async: AsyncOpenAI) -> None:
    async with await sdk_async.chat.completions.create(
        model=TINY, messages=[user(STORY)], max_tokens=4, stream=True
    ) as stream:
        chunks = [chunk async for chunk in stream]

    assert text_of(chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_the_sdks_stream_helper_puts_an_answer_together(sdk: OpenAI) -> None:
    with sdk.chat.completions.stream(model=SCRIPTED, messages=[user("hi")]) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        answer = stream.get_final_completion()

    assert len(deltas) > 3
    assert "".join(deltas) == answer.choices[0].message.content == "Hello, how are you?"


def test_raw_answers_have_the_requests_id(sdk: OpenAI) -> None:
    raw = sdk.chat.completions.with_raw_response.create(model=SCRIPTED, messages=[user("once")])

    assert raw.headers["x-request-id"]
    assert raw.headers["served-model-name"] == SCRIPTED


# --- what bounds an answer ------------------------------------------------------------------------


def test_a_word_to_stop_at_ends_an_answer(sdk: OpenAI) -> None:
    whole = tell(sdk, max_tokens=16).choices[0].message.content or ""
    word = whole.split()[4]

    choice = tell(sdk, max_tokens=16, stop=word).choices[0]

    assert choice.finish_reason == "stop"
    assert choice.message.content == whole[: whole.index(word)]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_either_name_of_the_bound_counts(sdk: OpenAI, name: str) -> None:
    bound: dict[str, Any] = {name: 3}

    answer = sdk.chat.completions.create(model=TINY, messages=[user(STORY)], **bound)

    assert answer.usage.completion_tokens == 3


def test_a_seed_repeats_an_answer(sdk: OpenAI) -> None:
    def said(seed: int) -> str | None:
        return tell(sdk, temperature=1.5, seed=seed, max_tokens=12).choices[0].message.content

    assert said(7) == said(7)
    assert len({said(seed) for seed in range(4)}) > 1


def test_log_probabilities_come_with_each_token(sdk: OpenAI) -> None:
    choice = tell(sdk, max_tokens=3, logprobs=True, top_logprobs=2).choices[0]

    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert len(tokens) == 3
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)


def test_a_script_ends_as_it_says(sdk: OpenAI) -> None:
    answer = sdk.chat.completions.create(model=SCRIPTED, messages=[user("cut")])

    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.model_extra == {"estimated": True}


def test_a_script_answers_in_turn(sdk: OpenAI) -> None:
    answers = [
        sdk.chat.completions.create(model=SCRIPTED, messages=[user("once")]) for _ in range(2)
    ]

    assert {answer.choices[0].message.content for answer in answers} == {"first", "second"}
    assert answers[0].usage is not None
    assert (answers[0].usage.prompt_tokens, answers[0].usage.model_extra) == (7, {})


# --- JSON by a schema -----------------------------------------------------------------------------


class Ship(BaseModel):
    kind: Literal["boat", "ship", "raft"]
    afloat: bool
    masts: int = Field(ge=0, le=9)


def test_an_answer_has_the_form_that_is_asked_for(sdk: OpenAI) -> None:
    answer = sdk.chat.completions.parse(
        model=TINY,
        messages=[user("Describe a ship as JSON.")],
        response_format=Ship,
        max_tokens=64,
        temperature=0,
    )

    assert isinstance(answer.choices[0].message.parsed, Ship)
    assert answer.choices[0].finish_reason == "stop"


def test_a_stream_has_that_form_too(sdk: OpenAI) -> None:
    with sdk.chat.completions.stream(
        model=TINY,
        messages=[user("Describe a ship as JSON.")],
        response_format=Ship,
        max_tokens=64,
        temperature=0,
    ) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_completion()

    assert isinstance(answer.choices[0].message.parsed, Ship)


def test_a_form_that_is_cut_is_the_sdks_error(sdk: OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        sdk.chat.completions.parse(
            model=TINY, messages=[user(STORY)], response_format=Ship, max_tokens=2
        )


def test_a_schema_that_is_none_is_refused(sdk: OpenAI) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "boat"}}}

    with pytest.raises(openai.BadRequestError, match=r'"response_format".* unrecognized type boat'):
        tell(sdk, response_format=schema)


# --- tools ----------------------------------------------------------------------------------------


def test_an_agents_loop_runs_to_its_end(sdk: OpenAI) -> None:
    heights = {"tower": 330}
    messages = [user("How high is the tower?")]
    reasons = []
    for _ in range(5):
        choice = sdk.chat.completions.create(
            model=SCRIPTED, messages=messages, tools=[HEIGHT]
        ).choices[0]
        reasons.append(choice.finish_reason)
        messages.append(choice.message)
        if not choice.message.tool_calls:
            break
        for call in choice.message.tool_calls:
            assert call.type == "function"
            found = heights[json.loads(call.function.arguments)["of"]]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": str(found)})

    assert reasons == ["tool_calls", "stop"]
    assert messages[-1].content == "The tower is 330 metres high."


async def test_an_agents_loop_runs_in_streams(sdk_async: AsyncOpenAI) -> None:
    messages = [user("How high is the tower?")]
    texts = []
    for _ in range(5):
        async with sdk_async.chat.completions.stream(
            model=SCRIPTED, messages=messages, tools=[HEIGHT]
        ) as stream:
            message = (await stream.get_final_completion()).choices[0].message
        messages.append(message)
        texts.append(message.content)
        if not message.tool_calls:
            break
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": "330"}
            for call in message.tool_calls
        ]

    assert len(texts) == 2
    assert texts[-1] == "The tower is 330 metres high."


def test_several_calls_come_in_one_answer(sdk: OpenAI) -> None:
    message = (
        sdk.chat.completions.create(
            model=SCRIPTED, messages=[user("Both of them?")], tools=[HEIGHT, AGE]
        )
        .choices[0]
        .message
    )

    calls = message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == ["height", "age"]
    assert len({call.id for call in calls}) == 2


# --- completions and embeddings -------------------------------------------------------------------


def test_a_prompt_is_completed_whole_and_in_a_stream(sdk: OpenAI) -> None:
    asked: dict[str, Any] = {"model": TINY, "prompt": "Once upon a time", "temperature": 0}
    whole = sdk.completions.create(max_tokens=4, **asked)

    with sdk.completions.create(max_tokens=4, stream=True, **asked) as stream:
        chunks = list(stream)

    assert whole.choices[0].text
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 4
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_embeddings_are_the_same_in_both_forms(sdk: OpenAI) -> None:
    texts = ["a red ship", "a blue ship", "tax law"]

    packed = sdk.embeddings.create(model=EMBEDDINGS, input=texts)  # base64: the SDK's own choice
    plain = sdk.embeddings.create(model=EMBEDDINGS, input=texts, encoding_format="float")

    assert [item.index for item in packed.data] == [0, 1, 2]
    assert [len(item.embedding) for item in packed.data] == [384, 384, 384]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert (packed.model, packed.object) == (EMBEDDINGS, "list")
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0


async def test_many_texts_are_embedded_in_their_order(sdk_async: AsyncOpenAI) -> None:
    texts = [f"text number {number}" for number in range(40)]

    whole = await sdk_async.embeddings.create(model=EMBEDDINGS, input=texts)
    one = await sdk_async.embeddings.create(model=EMBEDDINGS, input=texts[33])

    assert len(whole.data) == 40
    assert whole.data[33].embedding == pytest.approx(one.data[0].embedding, abs=0.02)


# --- models ---------------------------------------------------------------------------------------


def test_models_are_listed_and_found(sdk: OpenAI) -> None:
    assert {TINY, EMBEDDINGS, SCRIPTED} == {model.id for model in sdk.models.list()}
    assert sdk.models.retrieve(TINY).id == TINY
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        sdk.models.retrieve("none")


# --- errors ---------------------------------------------------------------------------------------

Ask = Callable[[OpenAI], object]
#: What the small model cannot do, to the words that say so.
BEYOND: dict[str, tuple[dict[str, Any], str]] = {
    "n": ({"n": 2}, '"n": this model gives one answer a request'),
    "tools": ({"tools": [HEIGHT]}, '"tools": this model cannot call tools'),
    "a tool's answer": (
        {"messages": [user("x"), {"role": "tool", "tool_call_id": "c", "content": "1"}]},
        r'"messages\[1\].role": this model cannot call tools',
    ),
    "images": (
        {"messages": [user([{"type": "image_url", "image_url": {"url": "data:image/png;,"}}])]},
        r'"messages\[0\].content\[0\]": this model takes text only',
    ),
    "an unknown field": ({"extra_body": {"colour": "red"}}, 'unknown field "colour".*It takes:'),
    "store": ({"store": True}, '"store" is not possible'),
    "more than fits": (
        {"messages": [user("word " * 3000)]},
        r'"messages" has \d+ tokens, and this model takes at most 2048',
    ),
    "more than fits, as a stream": (
        {"messages": [user("word " * 3000)], "stream": True},
        r'"messages" has \d+ tokens, and this model takes at most 2048',
    ),
    "nothing to stop at": ({"stop": ""}, '"stop" must be a string that is not empty'),
    "no messages": ({"messages": []}, '"messages" must be a list of at least one message'),
    "a negative bound": ({"max_tokens": -1}, '"max_tokens" must be a whole number'),
    "two bounds": ({"max_tokens": 1, "max_completion_tokens": 2}, "must not differ"),
    "a choice without tools": ({"tool_choice": "required"}, '"tool_choice"'),
}


@pytest.mark.parametrize(("asked", "words"), BEYOND.values(), ids=BEYOND)
def test_what_a_model_cannot_do_is_refused_by_name(
    sdk: OpenAI, asked: dict[str, Any], words: str
) -> None:
    given = {"model": TINY, "messages": [user("hi")], **asked}

    with pytest.raises(openai.BadRequestError, match=words):
        sdk.chat.completions.create(**given)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"echo": True}, '"echo"'),
        ({"suffix": "end"}, '"suffix"'),
        ({"logprobs": 2}, '"logprobs"'),
        ({"best_of": 3}, '"best_of"'),
        ({"prompt": ["a", "b"]}, '"prompt": this model completes one text a request'),
        ({"prompt": [1, 2]}, '"prompt" has token ids'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_completion_cannot_have_is_refused_by_name(
    sdk: OpenAI, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        sdk.completions.create(**{"model": TINY, "prompt": "hi", **asked})


ERRORS: dict[str, tuple[Ask, type[openai.APIStatusError], str]] = {
    "no such endpoint": (
        lambda sdk: sdk.chat.completions.create(model="none", messages=[user("hi")]),
        openai.NotFoundError,
        "The given endpoint does not exist",
    ),
    "another task": (
        lambda sdk: sdk.embeddings.create(model=TINY, input="hi"),
        openai.BadRequestError,
        "does not do embeddings",
    ),
    "empty input": (
        lambda sdk: sdk.embeddings.create(model=EMBEDDINGS, input=""),
        openai.BadRequestError,
        '"input" must be a string that is not empty',
    ),
    "one vector's length": (
        lambda sdk: sdk.embeddings.create(model=EMBEDDINGS, input="hi", dimensions=64),
        openai.BadRequestError,
        '"dimensions"',
    ),
    "busy": (
        lambda sdk: sdk.chat.completions.create(model=SCRIPTED, messages=[user("busy")]),
        openai.RateLimitError,
        r"Come back later\.",
    ),
    "busy, as a stream": (
        lambda sdk: sdk.chat.completions.create(
            model=SCRIPTED, messages=[user("busy")], stream=True
        ),
        openai.RateLimitError,
        r"Come back later\.",
    ),
    "not there yet": (
        lambda sdk: sdk.responses.create(model=TINY, input="hi"),
        openai.NotFoundError,
        "No API found",
    ),
    "broken": (
        lambda sdk: sdk.chat.completions.create(model=SCRIPTED, messages=[user("broken")]),
        openai.InternalServerError,
        r"It is out of order\.",
    ),
    "a wrong token": (
        lambda sdk: sdk.with_options(api_key="wrong").models.list(),
        openai.AuthenticationError,
        "token",
    ),
}


@pytest.mark.parametrize(("ask", "kind", "words"), ERRORS.values(), ids=ERRORS)
def test_each_error_is_of_its_class_and_can_be_read(
    sdk: OpenAI, ask: Ask, kind: type[openai.APIStatusError], words: str
) -> None:
    with pytest.raises(kind, match=words) as refused:
        ask(sdk)

    assert refused.value.request_id


def test_who_is_told_to_wait_waits_and_asks_again(chats: ServerProcess, url: str) -> None:
    sent: list[Any] = []
    with OpenAI(base_url=url, api_key=chats.token, max_retries=1) as client:
        client._client.event_hooks = {"response": [sent.append]}

        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model=SCRIPTED, messages=[user("busy")])

    assert [answer.headers["retry-after"] for answer in sent] == ["1", "1"]
    assert sent[1].request.headers["x-stainless-retry-count"] == "1"
