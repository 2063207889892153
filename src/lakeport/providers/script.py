"""Scripted answers: what a YAML file says, as pure rules.

    rules:
      - match: "how high is (\\w+)"        # a regular expression on the last user message
        tool_calls: [{name: height, arguments: {of: tower}}]
      - after_tool: true                   # fits once a tool has answered
        reply: "It is 330 metres high."
      - match: "busy"
        status: 429
        retry_after: 1
      - match: "hello (\\w+)"
        replies: ["Hello, \\1.", "Hello again, \\1."]   # in turn
        delay_ms: 20                       # before the answer, and between the words of a stream
        usage: {prompt_tokens: 7, completion_tokens: 2}
    default: "I have no words for that."

The first rule that fits answers. A rule with `tool_calls` does not fit once a tool has answered, so
that an agent's loop runs to its end.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakeport.models.mlmodel import load_yaml

DEFAULT_REPLY = "This endpoint is scripted, and its script has no answer to that."
#: Numbers of a scripted embedding, where the script does not say.
DIMENSIONS = 8

_RULE_FIELDS = {
    "match", "reply", "replies", "tool_calls", "after_tool", "status", "retry_after", "message",
    "delay_ms", "usage", "embedding", "finish_reason",
}  # fmt: skip
_TOP_FIELDS = {"rules", "default", "dimensions"}
_GROUP = re.compile(r"\\(\d)|\\g<(\w+)>")


class BadScript(Exception):
    """A script that cannot be used; the message names the field and what was expected."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: Mapping[str, Any]


@dataclass(slots=True)
class Rule:
    match: "re.Pattern[str] | None" = None
    replies: Sequence[str] = ()
    tool_calls: Sequence[ToolCall] = ()
    after_tool: bool | None = None
    status: int | None = None
    retry_after: int | None = None
    #: What an error says.
    message: str = ""
    delay: float = 0.0
    usage: Mapping[str, int] = field(default_factory=dict)
    embedding: Sequence[float] | None = None
    finish_reason: str | None = None
    #: Answers given so far: `replies` come in turn.
    given: int = 0


@dataclass(slots=True)
class Script:
    rules: Sequence[Rule]
    default: str = DEFAULT_REPLY
    dimensions: int = DIMENSIONS


@dataclass(frozen=True, slots=True)
class Turn:
    """What a rule answers to one request."""

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    status: int = 200
    retry_after: int | None = None
    delay: float = 0.0
    usage: Mapping[str, int] = field(default_factory=dict)
    finish_reason: str = "stop"


def parse(text: str) -> Script:
    """A script from its YAML. Raises BadScript."""
    try:
        document = load_yaml(text)
    except ValueError as error:
        raise BadScript(f"the script {error}") from error
    return in_document(document)


def in_document(document: object) -> Script:
    """A script from what its YAML means. Raises BadScript."""
    if not isinstance(document, dict):
        raise BadScript("expected a mapping with `rules` and `default`")
    _refuse_unknown(document, _TOP_FIELDS, "")
    rules = document.get("rules") or []
    if not isinstance(rules, list):
        raise BadScript("rules: expected a list")
    default = document.get("default", DEFAULT_REPLY)
    if not isinstance(default, str):
        raise BadScript("default: expected text")
    dimensions = _number(document, "dimensions", "", low=1, high=4096) or DIMENSIONS
    return Script([_rule(rule, f"rules[{i}]") for i, rule in enumerate(rules)], default, dimensions)


def _rule(given: Any, at: str) -> Rule:
    if not isinstance(given, dict):
        raise BadScript(f"{at}: expected a mapping")
    _refuse_unknown(given, _RULE_FIELDS, f"{at}.")
    pattern = None
    if "match" in given:
        try:
            pattern = re.compile(str(given["match"]))
        except re.error as error:
            raise BadScript(f"{at}.match: not a regular expression: {error}") from error
    replies = given.get("replies", [given["reply"]] if "reply" in given else [])
    if not isinstance(replies, list) or not all(isinstance(text, str) for text in replies):
        raise BadScript(f"{at}.replies: expected a list of texts")
    if "reply" in given and "replies" in given:
        raise BadScript(f"{at}: give either reply or replies, not both")
    for text in replies:
        _check_groups(text, pattern, at)
    calls = given.get("tool_calls") or []
    if not isinstance(calls, list):
        raise BadScript(f"{at}.tool_calls: expected a list")
    embedding = given.get("embedding")
    if embedding is not None and not _is_vector(embedding):
        raise BadScript(f"{at}.embedding: expected a list of numbers")
    after_tool = given.get("after_tool")
    if after_tool is not None and not isinstance(after_tool, bool):
        raise BadScript(f"{at}.after_tool: expected true or false")
    rule = Rule(
        match=pattern,
        replies=replies,
        tool_calls=[_tool_call(call, f"{at}.tool_calls[{i}]") for i, call in enumerate(calls)],
        after_tool=after_tool,
        status=_number(given, "status", f"{at}.", low=400, high=599),
        retry_after=_number(given, "retry_after", f"{at}.", low=1, high=3600),
        message=str(given.get("message", "")),
        delay=(_number(given, "delay_ms", f"{at}.", low=0, high=600_000) or 0) / 1000,
        usage=_usage(given.get("usage") or {}, f"{at}.usage"),
        embedding=embedding,
        finish_reason=given.get("finish_reason"),
    )
    if not replies and not calls and rule.status is None and embedding is None:
        raise BadScript(f"{at}: expected one of reply, replies, tool_calls, status, embedding")
    return rule


def _tool_call(given: Any, at: str) -> ToolCall:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise BadScript(f"{at}: expected a mapping with `name` and `arguments`")
    arguments = given.get("arguments", {})
    if not isinstance(arguments, dict):
        raise BadScript(f"{at}.arguments: expected a mapping")
    return ToolCall(given["name"], arguments)


def _usage(given: Any, at: str) -> dict[str, int]:
    if not isinstance(given, dict):
        raise BadScript(f"{at}: expected a mapping")
    _refuse_unknown(given, {"prompt_tokens", "completion_tokens"}, f"{at}.")
    found = {name: _number(given, name, f"{at}.", low=0, high=2**31) for name in given}
    return {name: value for name, value in found.items() if value is not None}


def _check_groups(text: str, pattern: "re.Pattern[str] | None", at: str) -> None:
    groups = pattern.groups if pattern else 0
    names = pattern.groupindex if pattern else {}
    for number, name in _GROUP.findall(text):
        if (number and int(number) > groups) or (name and name not in names):
            raise BadScript(f"{at}.reply: its match has no group {number or name}")


def _refuse_unknown(given: Mapping[Any, Any], known: set[str], at: str) -> None:
    for name in given:
        if name not in known:
            raise BadScript(f"{at}{name}: unknown; expected one of {', '.join(sorted(known))}")


def _number(given: Mapping[str, Any], name: str, at: str, *, low: int, high: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadScript(f"{at}{name}: {value!r}; expected a whole number from {low} to {high}")
    return value


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value
    )


# --- answering ----------------------------------------------------------------------------------


def answer(script: Script, messages: Sequence[Mapping[str, Any]]) -> Turn:
    """The first rule's answer that fits a conversation."""
    said, answered = _last_user(messages)
    for rule in script.rules:
        found = rule.match.search(said) if rule.match else None
        if rule.match is not None and found is None:
            continue
        if rule.after_tool is not None and rule.after_tool is not answered:
            continue
        if (rule.tool_calls and answered) or rule.embedding is not None:
            continue
        return _turn(rule, found)
    return Turn(script.default)


def _turn(rule: Rule, found: "re.Match[str] | None") -> Turn:
    text = ""
    if rule.replies:
        text = _filled(rule.replies[rule.given % len(rule.replies)], found)
        rule.given += 1
    if rule.status is not None:
        text = rule.message or text or f"Scripted to answer {rule.status}."
    return Turn(
        text,
        rule.tool_calls,
        rule.status or 200,
        rule.retry_after,
        rule.delay,
        rule.usage,
        rule.finish_reason or ("tool_calls" if rule.tool_calls else "stop"),
    )


def _last_user(messages: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """The last user message's text, and whether a tool has answered since."""
    answered = False
    for message in reversed(messages):
        if message.get("role") == "tool":
            answered = True
        if message.get("role") == "user":
            return text_of(message.get("content")), answered
    return "", answered


def text_of(content: Any) -> str:
    """A message's text: its own, or its text parts'."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(part for part in parts if isinstance(part, str))


def _filled(text: str, found: "re.Match[str] | None") -> str:
    if found is None:
        return text
    return _GROUP.sub(lambda group: found[int(group[1]) if group[1] else group[2]] or "", text)


def embedding(script: Script, text: str) -> Sequence[float]:
    """A rule's vector, or one of length 1 that depends on the text alone."""
    for rule in script.rules:
        if rule.embedding is not None and (rule.match is None or rule.match.search(text)):
            return rule.embedding
    digest = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(2 * script.dimensions)
    raw = [int.from_bytes(digest[i : i + 2], "big") / 32767.5 - 1 for i in range(0, len(digest), 2)]
    length = math.sqrt(sum(x * x for x in raw)) or 1.0
    return [x / length for x in raw]


def words(text: str) -> list[str]:
    """A text in the pieces of its stream: a word each, with the space before it."""
    return re.findall(r"\s*\S+(?:\s+\Z)?|\s+", text)


def arguments(call: ToolCall) -> str:
    return json.dumps(call.arguments, ensure_ascii=False)
