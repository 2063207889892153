"""Checks of what a chat, a completion or embeddings are asked about: messages, prompts, inputs."""

from typing import Any

from lakeport.errors import BadRequest, InvalidParameter
from lakeport.gateway.chat_fields import a_list, an_object, is_whole, text, wrong

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
#: Inputs of one request for embeddings to a hosted model.
MAX_INPUTS = 2048

NOT_TEXTS = (
    '"input" has token ids, and those are of another model\'s tokenizer. Send texts: with '
    "LangChain, OpenAIEmbeddings(..., check_embedding_ctx_length=False)."
)


def messages(value: Any, *, hosted: bool) -> None:
    """A conversation: at least one message. An outside server judges roles and parts for itself.

    Raises InvalidParameter.
    """
    if not isinstance(value, list) or not value:
        raise wrong("messages", "a list of at least one message", value)
    for position, message in enumerate(value):
        at = f"messages[{position}]"
        an_object(at, message)
        _role(at, message, hosted=hosted)
        _content(at, message, hosted=hosted)
        if message.get("tool_calls") is not None:
            a_list(f"{at}.tool_calls", message["tool_calls"])
            for number, call in enumerate(message["tool_calls"]):
                an_object(f"{at}.tool_calls[{number}]", call)


def _role(at: str, message: dict[str, Any], *, hosted: bool) -> None:
    role = message.get("role")
    if not isinstance(role, str) or (hosted and role not in ROLES):
        raise wrong(f"{at}.role", f"one of {', '.join(ROLES)}", role)
    if role == "tool" and hosted and not isinstance(message.get("tool_call_id"), str):
        raise InvalidParameter(
            f'"{at}.tool_call_id" is required: a message of the role "tool" says which call it '
            "answers."
        )


def _content(at: str, message: dict[str, Any], *, hosted: bool) -> None:
    content = message.get("content")
    if isinstance(content, str):
        return
    if isinstance(content, list) and (content or not hosted):
        for number, part in enumerate(content):
            _part(f"{at}.content[{number}]", part, hosted=hosted)
        return
    may_be_null = message.get("role") == "assistant" and (
        not hosted or message.get("tool_calls") or message.get("function_call")
    )
    # No parts say as much as null does.
    if content not in (None, []) or not may_be_null:
        raise wrong(f"{at}.content", "a string or a list of parts", content)


def _part(at: str, part: Any, *, hosted: bool) -> None:
    an_object(at, part)
    text(f"{at}.type", part.get("type"))
    if part["type"] == "text":
        text(f"{at}.text", part.get("text"))
    elif part["type"] == "image_url" and hosted:
        image = an_object(f"{at}.image_url", part.get("image_url"))
        text(f"{at}.image_url.url", image.get("url"))


def has_tools(value: list[dict[str, Any]]) -> str | None:
    """Where a conversation has a tool's call or answer, as a field's name; None: nowhere."""
    for position, message in enumerate(value):
        if message.get("role") in ("tool", "function"):
            return f"messages[{position}].role"
        for key in ("tool_calls", "function_call"):
            if message.get(key):
                return f"messages[{position}].{key}"
    return None


def foreign_part(value: list[dict[str, Any]], *, images: bool) -> str | None:
    """The first part that is neither text nor, if `images`, an image; None: there is none."""
    known = ("text", "image_url") if images else ("text",)
    for position, message in enumerate(value):
        if isinstance(content := message.get("content"), list):
            for number, part in enumerate(content):
                if part["type"] not in known:
                    return f"messages[{position}].content[{number}]"
    return None


def prompt(value: Any, *, hosted: bool) -> None:
    """What is to be completed. Raises InvalidParameter; BadRequest for token ids."""
    if isinstance(value, list) and value:
        if hosted and any(is_whole(item) or isinstance(item, list) for item in value):
            raise BadRequest('"prompt" has token ids. Send text: each model has its own tokens.')
        if not hosted or all(isinstance(item, str) and item for item in value):
            return
    elif isinstance(value, str) and (value or not hosted):
        return
    elif value == "":
        raise wrong("prompt", "a string that is not empty", value)
    raise wrong("prompt", "a string or a list of strings", value)


def inputs(value: Any, *, hosted: bool) -> None:
    """What is to be embedded. Raises InvalidParameter; BadRequest for token ids."""
    if isinstance(value, list) and value:
        if not hosted:
            return
        if any(is_whole(item) or isinstance(item, list) for item in value):
            raise BadRequest(NOT_TEXTS)
        if len(value) > MAX_INPUTS:
            raise InvalidParameter(
                f'"input" has {len(value)} texts; one request takes at most {MAX_INPUTS}.'
            )
        for position, item in enumerate(value):
            _not_empty(f"input[{position}]", item)
    elif isinstance(value, str):
        if hosted:
            _not_empty("input", value)
    else:
        raise wrong("input", "a string or a list of strings", value)


def _not_empty(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise wrong(name, "a string that is not empty", value)
