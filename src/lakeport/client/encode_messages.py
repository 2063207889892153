"""Chat messages, whatever they come as → dicts of the OpenAI wire."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any

from lakeport.client.answers import Chat
from lakeport.client.errors import InvalidInput, Problem

#: What langchain calls the authors of messages.
_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
#: Methods that give an object's fields: databricks-sdk's, MLflow's and OpenAI's (pydantic).
_AS_DICT = ("as_dict", "to_dict", "model_dump")


def messages_of(given: Any) -> list[dict[str, Any]]:
    """A conversation: a string is one message of the user, an object or dict is one message, a
    sequence several. Raises InvalidInput that names the message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if is_message(given):
        return [message_of(given, 0)]
    if not isinstance(given, Sequence) or isinstance(given, (bytes, bytearray)):
        raise InvalidInput(f"messages: expected a list of messages, got {type(given).__name__}.")
    if not given:
        raise InvalidInput("messages: there is none.")
    return [message_of(message, place) for place, message in enumerate(given)]


def is_message(value: Any) -> bool:
    """Whether it looks like one message: a role of chats, and content or calls of tools."""
    if isinstance(value, Mapping):
        role = value.get("role")
        role = role.value if isinstance(role, Enum) else role
        return role in _AUTHORS and not value.keys().isdisjoint(_CONTENTS)
    if isinstance(value, Chat) or _langchain(value):
        return True
    return hasattr(value, "role") and hasattr(value, "content")


_AUTHORS = ("system", "developer", "user", "assistant", "tool", "function")
_CONTENTS = frozenset(("content", "tool_calls"))


def message_of(message: Any, place: int) -> dict[str, Any]:
    """One message as a dict. Raises InvalidInput."""
    if isinstance(message, Chat):  # an answer, given back as part of the conversation
        return _answer(message)
    if _langchain(message):
        return _from_langchain(message)
    fields = _fields(message)
    if fields is None or not isinstance(fields.get("role"), str) or not fields["role"]:
        what = "a dict without a role" if fields is not None else type(message).__name__
        raise InvalidInput(
            f"messages[{place}]: expected a dict or an object with role and content, got {what}.",
            problems=[Problem("messages", place, "expected role and content")],
        )
    return fields


def _fields(message: Any) -> dict[str, Any] | None:
    if isinstance(message, Mapping):
        found = dict(message)
    else:
        made = next((m for name in _AS_DICT if callable(m := getattr(message, name, None))), None)
        if made is not None:
            found = {key: value for key, value in made().items() if value is not None}
        elif is_dataclass(message) and not isinstance(message, type):
            found = {key: value for key, value in asdict(message).items() if value is not None}
        elif hasattr(message, "role") and hasattr(message, "content"):
            found = {"role": message.role, "content": message.content}
        else:
            return None
    if isinstance(found.get("role"), Enum):
        found["role"] = found["role"].value
    return found


def _answer(answer: Chat) -> dict[str, Any]:
    if answer.choices and isinstance(said := answer.choices[0].get("message"), Mapping):
        return dict(said)
    return {"role": answer.role, "content": answer.text}


def _langchain(value: Any) -> bool:
    return (
        getattr(value, "type", None) in _ROLES
        and hasattr(value, "content")
        and (not isinstance(value, Mapping) and not hasattr(value, "role"))
    )


def _from_langchain(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"role": _ROLES[message.type], "content": message.content}
    if name := getattr(message, "name", None):
        found["name"] = name
    if id := getattr(message, "tool_call_id", None):
        found["tool_call_id"] = id
    if calls := getattr(message, "tool_calls", None):
        found["tool_calls"] = [_call(call) for call in calls]
    return found


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": json.dumps(call["args"])}
    return {"id": call.get("id"), "type": "function", "function": function}
