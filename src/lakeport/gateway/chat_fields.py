"""Checks of single fields of the OpenAI wire: what each may be, and the words for when it is not.

A check takes the field's name and its value, never null, and raises InvalidParameter.
"""

from collections.abc import Callable
from typing import Any

import orjson

from lakeport.errors import InvalidParameter

Check = Callable[[str, Any], object]


def wrong(name: str, expected: str, value: Any) -> InvalidParameter:
    """The refusal of `value`: names the field, what was expected, and what came."""
    return InvalidParameter(f'"{name}" must be {expected}, not {shown(value)}.')


def shown(value: Any) -> str:
    """`value` as JSON, cut to what fits in a message."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = orjson.dumps(value[:60] if isinstance(value, str) else value).decode()
    return f"{text[:40]}..." if len(text) > 43 else text


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def whole(least: int | None = None, most: int | None = None) -> Check:
    expected = "a whole number" + _between(least, most)

    def check(name: str, value: Any) -> None:
        if not is_whole(value) or not _within(value, least, most):
            raise wrong(name, expected, value)

    return check


def number(least: float | None = None, most: float | None = None) -> Check:
    expected = "a number" + _between(least, most)

    def check(name: str, value: Any) -> None:
        if not (is_whole(value) or isinstance(value, float)) or not _within(value, least, most):
            raise wrong(name, expected, value)

    return check


def one_of(*allowed: str) -> Check:
    expected = " or ".join(f'"{value}"' for value in allowed)

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise wrong(name, expected, value)

    return check


def boolean(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise wrong(name, "true or false", value)


def false(name: str, value: Any) -> None:
    if value is not False:
        raise wrong(name, "false", value)


def text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise wrong(name, "a string", value)


def text_or_texts(name: str, value: Any) -> None:
    if isinstance(value, list):
        for position, item in enumerate(value):
            if not isinstance(item, str):
                raise wrong(f"{name}[{position}]", "a string", item)
    elif not isinstance(value, str):
        raise wrong(name, "a string or a list of strings", value)


def stops(name: str, value: Any) -> None:
    """Texts that end an answer; an empty one would end it before its first word."""
    text_or_texts(name, value)
    if value == "":
        raise wrong(name, "a string that is not empty", value)
    for position, item in enumerate(value if isinstance(value, list) else ()):
        if item == "":
            raise wrong(f"{name}[{position}]", "a string that is not empty", item)


def an_object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong(name, "an object", value)
    return value


def a_list(name: str, value: Any) -> None:
    if not isinstance(value, list):
        raise wrong(name, "a list", value)


def anything(name: str, value: Any) -> None:
    """For what is not looked at."""


def stream_options(name: str, value: Any) -> None:
    an_object(name, value)
    if (asked := value.get("include_usage")) is not None:
        boolean(f"{name}.include_usage", asked)


def logit_bias(name: str, value: Any) -> None:
    an_object(name, value)
    for token, bias in value.items():
        number(-100, 100)(f"{name}.{token[:20]}", bias)


def tools(name: str, value: Any) -> None:
    """Functions only: each an object with `type` "function" and `function.name`."""
    a_list(name, value)
    for position, tool in enumerate(value):
        at = f"{name}[{position}]"
        an_object(at, tool)
        one_of("function")(f"{at}.type", tool.get("type"))
        function = an_object(f"{at}.function", tool.get("function"))
        if not function.get("name"):
            raise InvalidParameter(
                f'"name" is a required property for "function" object in parameter "{at}".'
            )
        text(f"{at}.function.name", function["name"])
        for key, check in (("description", text), ("parameters", an_object)):
            if function.get(key) is not None:
                check(f"{at}.function.{key}", function[key])


def tool_choice(name: str, value: Any) -> None:
    """ "none", "auto", "required", or one function by its name."""
    if isinstance(value, dict):
        one_of("function")(f"{name}.type", value.get("type"))
        function = an_object(f"{name}.function", value.get("function"))
        text(f"{name}.function.name", function.get("name"))
    elif value not in ("none", "auto", "required"):
        raise wrong(name, '"none", "auto", "required" or an object that names a function', value)


def response_format(name: str, value: Any) -> None:
    an_object(name, value)
    one_of("text", "json_object", "json_schema")(f"{name}.type", value.get("type"))
    if value["type"] == "json_schema":
        schema = an_object(f"{name}.json_schema", value.get("json_schema"))
        text(f"{name}.json_schema.name", schema.get("name"))
        an_object(f"{name}.json_schema.schema", schema.get("schema"))
        if (strict := schema.get("strict")) is not None:
            boolean(f"{name}.json_schema.strict", strict)


def _between(least: float | None, most: float | None) -> str:
    if least is None:
        return ""
    return f" of at least {least}" if most is None else f" between {least} and {most}"


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)
