"""What a script answers, rule by rule."""

import asyncio
import json
from typing import Any

import orjson
import pytest

from lakeport.providers import script
from lakeport.providers.scripted import ScriptedLink, chunks, whole
from lakeport.runtimes.base import Answer, Call
from lakeport.wire.chat import Operation
from tests.sending import Sent


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


TOWER = r"""
rules:
  - match: "how high is the (\\w+)"
    tool_calls: [{name: height, arguments: {of: tower}}]
  - after_tool: true
    reply: It is 330 metres high.
  - match: "hello (?P<who>\\w+)"
    replies: ["Hello, \\1.", "Hello again, \\g<who>."]
    usage: {prompt_tokens: 7}
  - match: busy
    status: 429
    retry_after: 3
default: No words for that.
"""


def test_the_first_rule_that_fits_answers() -> None:
    rules = "[{match: a, reply: one}, {match: ab, reply: two}]"
    answers = script.parse(f"rules: {rules}\ndefault: nothing")

    assert script.answer(answers, [user("ab")]).text == "one"
    assert script.answer(answers, [user("b")]).text == "nothing"


def test_groups_of_the_match_fill_the_reply_and_replies_come_in_turn() -> None:
    answers = script.parse(TOWER)

    said = [script.answer(answers, [user("hello Ada")]).text for _ in range(3)]

    assert said == ["Hello, Ada.", "Hello again, Ada.", "Hello, Ada."]


def test_an_agents_loop_runs_to_its_end() -> None:
    answers = script.parse(TOWER)
    conversation = [user("how high is the tower")]

    first = script.answer(answers, conversation)
    conversation += [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "tool_call_id": "1", "content": "330"},
    ]
    second = script.answer(answers, conversation)

    assert [(call.name, call.arguments) for call in first.tool_calls] == [
        ("height", {"of": "tower"})
    ]
    assert first.finish_reason == "tool_calls"
    assert second.text == "It is 330 metres high."
    assert not second.tool_calls
    # A new question begins anew.
    again = script.answer(answers, [*conversation, user("how high is the tower")])
    assert again.tool_calls


def test_a_rule_may_refuse() -> None:
    turn = script.answer(script.parse(TOWER), [user("are you busy?")])

    assert (turn.status, turn.retry_after) == (429, 3)


def test_parts_of_a_message_are_read_as_its_text() -> None:
    answers = script.parse("rules: [{match: '^a\\nb$', reply: both}]")
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert script.answer(answers, [{"role": "user", "content": parts}]).text == "both"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "expected a mapping"),
        ("rule: []", "rule: unknown; expected one of default, dimensions, rules"),
        ("rules: 3", "rules: expected a list"),
        ("rules: [3]", "rules[0]: expected a mapping"),
        ("rules: [{match: a}]", "rules[0]: expected one of reply"),
        ("rules: [{match: '(', reply: a}]", "rules[0].match: not a regular expression"),
        ("rules: [{matches: a, reply: b}]", "rules[0].matches: unknown"),
        ("rules: [{reply: a, replies: [b]}]", "either reply or replies"),
        ("rules: [{reply: 3}]", "rules[0].replies: expected a list of texts"),
        ("rules: [{match: a, reply: '\\1'}]", "rules[0].reply: its match has no group 1"),
        ("rules: [{status: 200}]", "rules[0].status: 200; expected a whole number from 400"),
        ("rules: [{status: 429, retry_after: 0}]", "rules[0].retry_after: 0"),
        ("rules: [{reply: a, delay_ms: -1}]", "rules[0].delay_ms: -1"),
        ("rules: [{tool_calls: [{arguments: {}}]}]", "rules[0].tool_calls[0]: expected a mapping"),
        ("rules: [{reply: a, usage: {tokens: 3}}]", "rules[0].usage.tokens: unknown"),
        ("rules: [{embedding: [a]}]", "rules[0].embedding: expected a list of numbers"),
        ("default: 3", "default: expected text"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(script.BadScript) as refused:
        script.parse(text)

    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["", "one", "two words", "  leading", "a\n\nb  c ", "é ü ☃"])
def test_words_make_the_text_again(text: str) -> None:
    assert "".join(script.words(text)) == text


def test_a_stream_says_what_one_answer_says() -> None:
    turn = script.answer(script.parse(TOWER), [user("hello Ada")])
    request = {
        "model": "m",
        "messages": [user("hello Ada")],
        "stream_options": {"include_usage": True},
    }

    events = [json.loads(event) for event in chunks(turn, request, Operation.CHAT)]
    answer = whole(turn, request, Operation.CHAT)

    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    assert "".join(d.get("content") or "" for d in deltas) == "Hello, Ada."
    assert answer["choices"][0]["message"]["content"] == "Hello, Ada."
    assert events[-1]["usage"] == answer["usage"]
    assert answer["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "estimated": True,
    }


async def test_embeddings_depend_on_the_text_alone_and_come_in_both_encodings() -> None:
    link = ScriptedLink(script.parse("rules: [{match: north, embedding: [0, 1]}]\ndimensions: 4"))

    async def ask(**body: Any) -> list[Any]:
        call = Call(orjson.dumps(body), None, None, 0.0, Operation.EMBEDDINGS)
        answer = await Sent(link, call)
        assert isinstance(answer, Answer)
        return [item["embedding"] for item in orjson.loads(answer.body)["data"]]

    first = await ask(input=["north", "a", "b"])
    again = await ask(input="a")
    encoded = await ask(input="a", encoding_format="base64")

    assert first[0] == [0, 1]
    assert first[1] == again[0] != first[2]
    assert len(first[1]) == 4
    assert isinstance(encoded[0], str)
    assert link.outstanding == 0


@pytest.mark.parametrize("begun", [False, True])
async def test_a_call_that_is_cancelled_gives_its_place_back(begun: bool) -> None:
    link = ScriptedLink(script.parse("rules: [{reply: late, delay_ms: 60000}]"))
    call = Call(orjson.dumps({"messages": [user("hello")]}), None, None, 0.0, Operation.CHAT)
    told: list[object] = []
    sending = link.send(call, told.append)
    if begun:
        await asyncio.sleep(0)

    assert not sending.cancel()
    assert not sending.cancel()

    assert link.outstanding == 0
    await asyncio.sleep(0)
    assert (link.outstanding, told) == (0, [])


async def test_a_call_that_no_script_can_answer_is_told_so() -> None:
    link = ScriptedLink(script.parse("default: fine"))

    async with asyncio.timeout(10):
        answer = await Sent(link, Call(b"no JSON", None, None, 0.0, Operation.CHAT))

    assert isinstance(answer, Answer)
    assert answer.error == ("INTERNAL_ERROR", "The script could not be played.")
    assert link.outstanding == 0
