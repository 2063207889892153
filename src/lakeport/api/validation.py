"""Bodies of the control plane: read strictly, and what pydantic finds said in the wire's words."""

import difflib
import json
import types
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import Message

from lakeport.api.bodies import read_body
from lakeport.errors import ApiError, InvalidParameter, MalformedRequest

MAX_BODY = 1024 * 1024

#: Faults told of in one message.
_SHOWN = 3

#: What pydantic calls the same fault, in Python's words.
_NO_OBJECT = ("model_type", "model_attributes_type", "dict_type")

Location = Sequence[int | str]


class JsonRequest(Request):
    """A request whose body is JSON, whatever its Content-Type says, and strictly so: no NaN, no
    lone surrogates, no numbers beyond a double, no NUL, at most 1024 levels."""

    async def json(self) -> Any:
        body = await self.body()
        if b"\\u0000" in body and _has_nul(orjson.loads(body)):
            raise json.JSONDecodeError("a string has a NUL character", "", 0)
        return orjson.loads(body)


class JsonRoute(APIRoute):
    """A route that reads its body with a bound and hands it on as `JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            if request.method in ("GET", "HEAD"):
                return await handle(request)
            headers = dict(request.scope["headers"])
            body = await read_body(request.receive, headers, MAX_BODY)

            async def replay() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            # FastAPI parses by Content-Type; `curl -d` says that JSON is a form.
            headers[b"content-type"] = b"application/json"
            scope = dict(request.scope, headers=list(headers.items()))
            try:
                return await handle(JsonRequest(scope, replay))
            except RequestValidationError as error:
                field = self.body_field
                annotation = field.field_info.annotation if field is not None else None
                raise translate(error, _model_in(annotation)) from error

        return handle_json


def translate(error: RequestValidationError, body: type[BaseModel] | None) -> ApiError:
    """The refusal that tells a caller which field is wrong and what was expected of it.

    `body` is the model of the route's body, to suggest a name for one that is unknown.
    """
    faults = error.errors()
    for fault in faults:
        if fault["type"] == "json_invalid":
            return MalformedRequest(f"The body is not valid JSON: {fault['ctx']['error']}")
        if tuple(fault["loc"]) == ("body",):
            return MalformedRequest("The body must be a JSON object.")
    shown = "; ".join(_sentence(fault, body) for fault in faults[:_SHOWN])
    if len(faults) > _SHOWN:
        shown += f"; and {len(faults) - _SHOWN} more"
    return InvalidParameter(shown)


def _sentence(fault: Mapping[str, Any], body: type[BaseModel] | None) -> str:
    location: Location = fault["loc"][1:]
    field = path_of(location)
    if fault["type"] == "missing":
        return f"{field}: this field is required"
    if fault["type"] == "extra_forbidden":
        near = suggest(body, location)
        return f"{field}: unknown field" + (f"; did you mean '{near}'?" if near else "")
    if fault["type"] in _NO_OBJECT:
        return f"{field}: Input should be a valid object"
    return f"{field}: {fault['msg'].removeprefix('Value error, ')}"


def path_of(location: Location) -> str:
    """`("config", "served_entities", 0, "name")` as `config.served_entities[0].name`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += ("." if path else "") + part[:100]
    return path


def suggest(model: type[BaseModel] | None, location: Location) -> str | None:
    """The field that was probably meant by the unknown one at `location` in `model`."""
    for part in location[:-1]:
        if isinstance(part, str):
            field = model.model_fields.get(part) if model is not None else None
            model = _model_in(field.annotation) if field is not None else None
    if model is None:
        return None
    near = difflib.get_close_matches(str(location[-1])[:100], model.model_fields, n=1)
    return near[0] if near else None


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model in `Model`, `Model | None`, `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, Union, types.UnionType):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None


def _has_nul(value: object) -> bool:
    # As deep as orjson lets it be: 1024 levels are too many for recursion on top of a request.
    left = [value]
    while left:
        match left.pop():
            case str(text):
                if "\0" in text:
                    return True
            case dict(members):
                left += members.keys()
                left += members.values()
            case list(items):
                left += items
    return False
