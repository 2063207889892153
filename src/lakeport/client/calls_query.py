"""Asking an endpoint."""

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from lakeport.client import calls_signature
from lakeport.client.answers import Answer
from lakeport.client.calls import Context, Reply, json_of, named, seconds, send
from lakeport.client.calls_inspect import check_state, get
from lakeport.client.calls_signature import Signatures
from lakeport.client.encode import RESPONSES, Encoded, Given, encode, needs_signature, to_json
from lakeport.client.endpoint import path_of
from lakeport.client.errors import (
    BadAnswer,
    BadRequest,
    InvalidInput,
    LakeportError,
    NotFound,
    PermissionDenied,
    Problem,
)
from lakeport.client.flow import Flow, Request
from lakeport.client.readings import read_answer
from lakeport.client.recording import PredictionEvent
from lakeport.client.retry import Retry
from lakeport.client.validate import check, ignored

_log = logging.getLogger(__name__)

A = TypeVar("A", bound=Answer)

#: Headers that a caller may not set: the client's own.
_OURS = frozenset({"authorization", "connection", "content-length", "host", "transfer-encoding"})
_HEADER = re.compile(r"[A-Za-z0-9_-]+")
#: How servers word that an input does not fit the signature: then ours may be out of date.
_SCHEMA = ("enforce schema", "model signature", "schema of data")
#: Details of an endpoint are worth one request before a query, not a wait.
_ONCE = Retry(attempts=1)
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `query` may be told, apart from the input."""

    entity: str | None = None
    timeout: float | None = None
    retry: Retry | None = None
    validate: bool | None = None
    check_state: bool = False
    client_request_id: str | None = None
    usage_context: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


_OF_INPUT = frozenset(each.name for each in fields(Given))
_OF_OPTIONS = frozenset(each.name for each in fields(Options))


def given_and_options(options: Mapping[str, Any]) -> tuple[Given, Options]:
    """Keywords of `query` as the two things that they are. Raises TypeError for an unknown one."""
    if unknown := options.keys() - _OF_INPUT - _OF_OPTIONS:
        raise TypeError(f"query: no option {', '.join(sorted(unknown))}")
    own = {key: value for key, value in options.items() if key in _OF_OPTIONS and value is not None}
    given = {key: value for key, value in options.items() if key in _OF_INPUT}
    return Given(**given), Options(**own)


def query(context: Context, name: str, given: Given, options: Options) -> Flow[Answer]:
    """See `Client.query`."""
    checked(name, options)
    began = context.clock()
    if options.check_state:
        yield from check_state(context, name)
    encoded = yield from prepared(context, name, given, options)
    if encoded.document.get("stream") is True:
        raise InvalidInput("stream: query gives whole answers; use stream_chat.", endpoint=name)
    old = calls_signature.may_be_old(context, name, options.entity, began)
    try:
        return (yield from ask(context, name, encoded, options))
    except BadRequest as error:
        if not (
            (old and is_of_schema(error) and needs_signature(given))
            or (yield from is_for_responses(context, name, given, error))
        ):
            raise
        # What was made by an older signature is made anew by the one of now.
        again = yield from prepared(context, name, given, options, refresh=True)
        if to_json(again.document) == to_json(encoded.document):
            raise
    return (yield from ask(context, name, again, options))


def expect(flow: Flow[Answer], kind: type[A], what: str) -> Flow[A]:
    """`flow`'s answer, which must be of `kind`. Raises BadAnswer."""
    answer = yield from flow
    if not isinstance(answer, kind):
        keys = ", ".join(answer.body) if isinstance(answer.body, dict) else ""
        form = f"an object of {keys}" if keys else f"a {type(answer.body).__name__}"
        error = BadAnswer(
            f"'{answer.endpoint}' did not answer with {what} but with {form}; query takes any.",
            endpoint=answer.endpoint,
            request_id=answer.request_id,
        )
        error.attempts = answer.attempts
        raise error
    return answer


def checked(name: str, options: Options) -> None:
    """Raises InvalidInput."""
    named(name)
    seconds(options.timeout)
    given: Mapping[Any, Any] = options.headers
    for key, value in given.items():
        texts = isinstance(key, str) and isinstance(value, str)
        if not texts or not _HEADER.fullmatch(key) or not value.isprintable():
            raise InvalidInput(f"headers: {key!r} must have a name and a text that HTTP allows.")
        if key.lower() in _OURS:
            raise InvalidInput(f"headers: {key!r} is set by the client itself.")


def prepared(
    context: Context, name: str, given: Given, options: Options, *, refresh: bool = False
) -> Flow[Encoded]:
    """The request's body, which fits the signature as far as that is known. Raises InvalidInput."""
    validate = context.validate if options.validate is None else options.validate
    task: str | None = None
    found: Signatures = ()
    began = context.clock()
    needed = needs_signature(given)
    if needed and _is_text(given.data):
        task = yield from _task(context, name, options.retry)
    elif _is_chat(given) and _gives_responses(context, name):
        task = RESPONSES
    # Inputs with all their names are only looked at, which is not worth a walk to the registry.
    if task is None and (needed or (validate and _is_classic(given))):
        found = yield from calls_signature.for_query(
            context, name, options.entity, registry=needed, refresh=refresh
        )
    try:
        encoded = _fitted(given, found, task, validate=validate)
    except InvalidInput as error:
        if not refresh and calls_signature.may_be_old(context, name, options.entity, began):
            return (yield from prepared(context, name, given, options, refresh=True))
        error.endpoint = name
        raise
    if validate:
        _warn_of_ignored(context, name, encoded, found)
    return _with_ids(encoded, options)


def _warn_of_ignored(context: Context, name: str, encoded: Encoded, signatures: Signatures) -> None:
    """A slip in a param's name changes nothing, and no server says so. Each is told once in a
    while, however many requests have it."""
    for problem in ignored(encoded, signatures):
        if context.cache.get("ignored", name, problem.column) is None:
            context.cache.put(True, "ignored", name, problem.column)
            _log.warning("Param '%s' of '%s': %s", problem.column, name, problem.message)


def _fitted(given: Given, found: Signatures, task: str | None, *, validate: bool) -> Encoded:
    """The body for a model of one of the signatures; any of them may be asked. Raises InvalidInput
    that tells why it fits none, by the first."""
    refused: InvalidInput | None = None
    for signature in found or (None,):
        try:
            encoded = encode(given, signature, task)
        except InvalidInput as error:
            refused = refused or error
            continue
        if signature is None or not validate or given.body is not None:
            return encoded
        problems = check(encoded, signature)
        if not problems:
            return encoded
        refused = refused or _refused(problems)
    assert refused is not None
    raise refused


def ask(context: Context, name: str, encoded: Encoded, options: Options) -> Flow[Answer]:
    """Send the body, read the answer, tell the log of either."""
    request = request_of(name, encoded, options)
    began, now = context.clock(), context.now()
    try:
        reply = yield from send(context, request, options.retry)
        answer = answer_of(name, reply)
    except LakeportError as error:
        forget(context, name, error)
        record(context, request, encoded, now, context.clock() - began, error=error)
        raise
    record(context, request, encoded, now, answer.seconds, answer=answer)
    return answer


def request_of(name: str, encoded: Encoded, options: Options, *, stream: bool = False) -> Request:
    try:
        body = to_json(encoded.document)
    except InvalidInput as error:
        error.endpoint = name
        raise
    return Request(
        "POST",
        path_of(name, options.entity),
        body,
        headers=options.headers,
        timeout=options.timeout,
        endpoint=name,
        stream=stream,
    )


def answer_of(name: str, reply: Reply) -> Answer:
    """Raises BadAnswer when it is no JSON."""
    return read_answer(
        json_of(reply, name),
        endpoint=name,
        served_entity=reply.response.headers.get("served-model-name"),
        request_id=reply.request_id,
        seconds=reply.seconds,
        attempts=reply.attempts,
    )


def forget(context: Context, name: str, error: LakeportError) -> None:
    """What is kept of an endpoint is out of date when the server says so."""
    if isinstance(error, NotFound):
        context.cache.drop(name)


def record(
    context: Context,
    request: Request,
    encoded: Encoded,
    time: float,
    seconds: float,
    *,
    answer: Answer | None = None,
    error: LakeportError | None = None,
) -> None:
    """Tell the log. A log that fails is no reason for a prediction to fail."""
    if context.log is None:
        return
    told = answer or error
    caller_id = encoded.document.get("client_request_id")
    event = PredictionEvent(
        endpoint=request.endpoint or "",
        body=request.body or b"{}",
        answer=answer,
        error=error,
        time=time,
        seconds=seconds,
        attempts=told.attempts if told else 1,
        served_entity=answer.served_entity if answer else None,
        request_id=told.request_id if told else None,
        client_request_id=caller_id if isinstance(caller_id, str) else None,
    )
    try:
        context.log.record(event)
    except Exception as failure:  # noqa: BLE001 -- a log is anybody's code
        _log.warning("A prediction was not logged: %s", type(failure).__name__)


def _task(context: Context, name: str, retry: Retry | None) -> Flow[str | None]:
    """What kind of model answers; None also where the caller may not see it. Raises what else
    goes wrong: without it nobody knows what to send."""
    try:
        endpoint = yield from get(context, name, refresh=False, retry=retry)
    except PermissionDenied:
        return None
    return endpoint.task


def is_for_responses(context: Context, name: str, given: Given, error: LakeportError) -> Flow[bool]:
    """Whether messages were refused since the endpoint wants them as `input`. It is found out by
    the refusal, so that no other chat costs a look at its endpoint; from then on it is known."""
    if not (_is_chat(given) and is_of_schema(error)) or _gives_responses(context, name):
        return False
    with suppress(LakeportError):  # the refusal itself is what its caller is told
        yield from _task(context, name, _ONCE)
    return _gives_responses(context, name)


def _gives_responses(context: Context, name: str) -> bool:
    """As far as is known."""
    kept = context.cache.get("endpoint", name)
    return kept is not None and kept.value.task == RESPONSES


def _is_chat(given: Given) -> bool:
    return given.messages is not None or (given.data is not None and not needs_signature(given))


def _is_text(data: Any) -> bool:
    """A string, or a list of strings: what that is depends on the endpoint."""
    if isinstance(data, list | tuple):
        return bool(data) and isinstance(data[0], str)
    return isinstance(data, str)


def _with_ids(encoded: Encoded, options: Options) -> Encoded:
    given = {
        "client_request_id": options.client_request_id,
        "usage_context": options.usage_context and dict(options.usage_context),
    }
    more = {key: value for key, value in given.items() if value}
    return replace(encoded, document={**encoded.document, **more}) if more else encoded


def is_of_schema(error: LakeportError) -> bool:
    """Whether the server says that the input does not fit the model's signature."""
    if not isinstance(error, BadRequest) or isinstance(error, InvalidInput):
        return False
    return any(words in error.message for words in _SCHEMA)


def _is_classic(given: Given) -> bool:
    """An input that is for a classic model, and is made into a request here."""
    return not any(
        each is not None for each in (given.body, given.messages, given.prompt, given.input)
    )


def _refused(problems: list[Problem]) -> InvalidInput:
    said = "; ".join(_said(problem) for problem in problems[:_SHOWN])
    more = len(problems) - _SHOWN
    return InvalidInput(
        f"The input does not fit the model: {said}{f'; and {more} more' if more > 0 else ''}.",
        problems=problems,
    )


def _said(problem: Problem) -> str:
    places = []
    if problem.column is not None:
        places.append(f"column '{problem.column}'")
    if problem.row is not None:
        places.append(f"row {problem.row}")
    return f"{', '.join(places)}: {problem.message}" if places else problem.message
