"""What people have → the request that carries it: see docs/guide/query-classic.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from lakeport.client.encode_classic import classic, classic_data
from lakeport.client.encode_frames import is_array, is_frame, library
from lakeport.client.encode_json import to_json
from lakeport.client.encode_messages import is_message, messages_of
from lakeport.client.errors import InvalidInput
from lakeport.client.signature import Signature

__all__ = ["Encoded", "Given", "Operation", "encode", "needs_signature", "to_json"]

Operation = Literal["scoring", "chat", "completions", "embeddings"]

#: The task of agents that take a conversation as `input`.
RESPONSES = "agent/v1/responses"
#: Keys that make a dict a request body: of MLflow's scoring server, and of LLMs.
FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_LLM_KEYS: Mapping[str, Operation] = {
    "messages": "chat",
    "prompt": "completions",
    "input": "embeddings",
}
#: What may stand beside a form.
_BESIDE = frozenset(
    ("params", "client_request_id", "usage_context", "databricks_options", "stream")
)
_TASKS: Mapping[str, Operation] = {
    "llm/v1/chat": "chat",
    "llm/v1/completions": "completions",
    "llm/v1/embeddings": "embeddings",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What `query` was called with: one of the inputs, and what goes with it."""

    data: Any = None
    records: Any = None
    columns: Any = None
    rows: Any = None
    inputs: Any = None
    body: Any = None
    messages: Any = None
    prompt: Any = None
    input: Any = None
    params: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request body, before it is JSON."""

    document: dict[str, Any]
    #: What kind of question it is.
    operation: Operation
    #: Rows of a classic input, texts of an embeddings input; None where that is not known.
    rows: int | None = None


_INPUTS = tuple(field.name for field in fields(Given) if field.name not in {"params", "fields"})


def needs_signature(given: Given) -> bool:
    """Whether `encode` should know the model's signature for this input, if there is one to know.

    A whole body, `inputs` and what LLMs take go as they are.
    """
    if given.rows is not None or given.columns is not None or given.records is not None:
        return True
    data = given.data
    return data is not None and not _are_messages(data)


def encode(given: Given, signature: Signature | None = None, task: str | None = None) -> Encoded:
    """The request body of `given`, for a model of `signature` (None: not known) at an endpoint of
    `task` (None: a classic model, or not known).

    Raises InvalidInput: no input or more than one, an ambiguous one (the message names the keyword
    that says what it is), one that does not fit the columns, or one that has no form in JSON.
    """
    name = _one_of(given)
    value = getattr(given, name)
    match name:
        case "body":
            encoded = _body(value, task)
        case "messages":
            encoded = _chat(value, task)
        case "prompt":
            encoded = Encoded({"prompt": _texts(value, "prompt")}, "completions")
        case "input":
            encoded = _embeddings(_texts(value, "input"))
        case "data":
            encoded = _data(value, signature, task)
        case _:
            document, rows = classic(name, value, signature)
            encoded = Encoded(document, "scoring", rows)
    return _with(encoded, given.params, given.fields)


def _one_of(given: Given) -> str:
    found = [name for name in _INPUTS if getattr(given, name) is not None]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidInput(f"There is no input: give data or one of {', '.join(_INPUTS[1:])}.")
    raise InvalidInput(f"Exactly one input can be sent; given were {' and '.join(found)}.")


def _data(data: Any, signature: Signature | None, task: str | None) -> Encoded:
    """`data` by its type, and by what the endpoint takes."""
    if task is not None and (task in _TASKS or task.startswith("agent/")):
        return _for_task(data, task)
    if isinstance(data, Mapping) and _is_body(data, signature):
        return _body(data, task)
    if _are_messages(data):
        names = () if signature is None else signature.names
        if "role" not in names:
            return Encoded({"messages": messages_of(data)}, "chat")
    if isinstance(data, str) and signature is None:
        raise InvalidInput(
            "A string alone does not say what it is: use messages=, prompt=, input= or inputs=."
        )
    document, rows = classic_data(data, signature)
    return Encoded(document, "scoring", rows)


def _for_task(data: Any, task: str) -> Encoded:
    if isinstance(data, Mapping) and not _LLM_KEYS.keys().isdisjoint(data):
        return _body(data, task)
    match _TASKS.get(task):
        case "completions":
            return Encoded({"prompt": _texts(data, "data")}, "completions")
        case "embeddings":
            return _embeddings(_texts(data, "data"))
        case _:
            return _chat(data, task)


def _chat(messages: Any, task: str | None) -> Encoded:
    key = "input" if task == RESPONSES else "messages"
    return Encoded({key: messages_of(messages)}, "chat")


def _is_body(data: Mapping[Any, Any], signature: Signature | None) -> bool:
    """Whether a dict is a whole request rather than columns or one record. Raises InvalidInput."""
    found = [key for key in (*FORMS, *_LLM_KEYS) if key in data]
    if not found:
        return False
    names = set() if signature is None else set(signature.names)
    if any(key in names for key in found):
        if found[0] in _LLM_KEYS:
            return found[0] == "messages"  # the signature of MLflow's ChatModel has it so
        raise InvalidInput(
            f"data has the key {found[0]}, which is a column of the model and a key of requests:"
            " say columns=, records= or body=."
        )
    others = set(data) - set(found)
    return found[0] in _LLM_KEYS or others <= _BESIDE


def _body(body: Any, task: str | None) -> Encoded:
    if not isinstance(body, Mapping):
        raise InvalidInput(f"body: expected a dict, got {type(body).__name__}.")
    document = dict(body)
    llm = next((key for key in _LLM_KEYS if key in document), None)
    if llm is not None and not any(form in document for form in FORMS):
        agent = task is not None and task.startswith("agent/")
        return Encoded(document, "chat" if agent else _LLM_KEYS[llm])
    return Encoded(document, "scoring", _rows_of(document))


def _rows_of(document: Mapping[str, Any]) -> int | None:
    split = document.get("dataframe_split")
    data = split.get("data") if isinstance(split, Mapping) else document.get("dataframe_records")
    return len(data) if isinstance(data, (list, tuple)) else None


def _embeddings(texts: Any) -> Encoded:
    return Encoded({"input": texts}, "embeddings", 1 if isinstance(texts, str) else len(texts))


def _texts(value: Any, keyword: str) -> Any:
    """One text or a list of texts; lists of tokens pass. Raises InvalidInput."""
    if isinstance(value, str):
        return value
    if hasattr(value, "tolist"):  # a Series or an array of texts
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray)):
        raise InvalidInput(
            f"{keyword}: expected a text or a list of texts, got {type(value).__name__}."
        )
    if not value:
        raise InvalidInput(f"{keyword}: there is no text.")
    for place, item in enumerate(value):
        if not isinstance(item, (str, int, list)) or isinstance(item, bool):
            raise InvalidInput(f"{keyword}[{place}]: expected a text, got {type(item).__name__}.")
    return list(value)


def _are_messages(data: Any) -> bool:
    if (
        isinstance(data, (str, bytes))
        or is_frame(data)
        or is_array(data)
        or library(data) == "numpy"
    ):
        return False
    if isinstance(data, (list, tuple)):
        return bool(data) and all(is_message(item) for item in data)
    return is_message(data)


def _with(
    encoded: Encoded, params: Mapping[str, Any] | None, more: Mapping[str, Any] | None
) -> Encoded:
    """The request with the model's params and further fields. Raises InvalidInput on a clash."""
    document = dict(encoded.document)
    for keyword, given in (("params", params), ("fields", more)):
        if given is None:
            continue
        if not isinstance(given, Mapping):
            raise InvalidInput(f"{keyword}: expected a dict, got {type(given).__name__}.")
        # An LLM's params are fields of its body.
        inside = keyword == "params" and encoded.operation == "scoring"
        added = {"params": dict(given)} if inside else given
        for key, value in added.items():
            if key in document:
                raise InvalidInput(f"{keyword}: {key} is in the request already.")
            document[str(key)] = value
    return Encoded(document, encoded.operation, encoded.rows)
