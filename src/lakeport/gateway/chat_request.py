"""What may be asked on the OpenAI wire: plain functions from a parsed body to the one that goes on.

An outside server judges for itself: only what is plainly wrong is refused, and what Lakeport does
not know goes on untouched. A hosted model gets what it can do; anything else is refused by name,
never dropped, but for what changes no answer (`user`, `metadata`, `n: 1`).
"""

from collections.abc import Mapping
from typing import Any

import orjson

from lakeport.errors import BadRequest, InvalidParameter
from lakeport.gateway import chat_fields as fields
from lakeport.gateway import chat_messages as asked
from lakeport.gateway.chat_fields import Check
from lakeport.gateway.chat_schema import beyond_grammar
from lakeport.wire.chat import Capabilities, ChatTarget, Operation

#: The field that an operation is about, and what it holds.
SUBJECTS = {
    Operation.CHAT: ("messages", 'a list of {"role": ..., "content": ...}'),
    Operation.COMPLETIONS: ("prompt", "a text"),
    Operation.EMBEDDINGS: ("input", "a text or a list of texts"),
}
#: Fields of MLflow's scoring protocol, which chat endpoints do not speak.
_FOREIGN = ("inputs", "instances", "dataframe_split", "dataframe_records")
#: Fields whose values are texts, where they come as one of `extra_params`.
_TEXTS = frozenset(("user", "suffix", "stop", "encoding_format", "reasoning_effort", "instruction"))

_SAMPLING: dict[str, Check] = {
    "max_tokens": fields.whole(1),
    "temperature": fields.number(0, 2),
    "top_p": fields.number(0, 1),
    "top_k": fields.whole(-1),
    "min_p": fields.number(0, 1),
    "frequency_penalty": fields.number(-2, 2),
    "presence_penalty": fields.number(-2, 2),
    "logit_bias": fields.logit_bias,
    "stop": fields.stops,
    "seed": fields.whole(),
    "n": fields.whole(1),
    "stream": fields.boolean,
    "stream_options": fields.stream_options,
}
#: What a hosted model may be asked, by operation, beside its subject.
HOSTED: dict[Operation, dict[str, Check]] = {
    Operation.CHAT: {
        **_SAMPLING,
        "max_completion_tokens": fields.whole(1),
        "response_format": fields.response_format,
        "tools": fields.tools,
        "tool_choice": fields.tool_choice,
        "parallel_tool_calls": fields.boolean,
        "logprobs": fields.boolean,
        "top_logprobs": fields.whole(0, 20),
    },
    Operation.COMPLETIONS: {
        **_SAMPLING,
        "echo": fields.boolean,
        "suffix": fields.text,
        "best_of": fields.whole(1),
        "logprobs": fields.whole(0),
    },
    Operation.EMBEDDINGS: {
        "encoding_format": fields.one_of("float", "base64"),
        "dimensions": fields.whole(1),
        # vLLM's word, which the embedder knows too: -1 leaves out what is too long.
        "truncate_prompt_tokens": fields.whole(-1),
    },
}
#: Taken from every caller of a hosted model and not passed on: they change no answer.
_DROPPED: dict[str, Check] = {
    "model": fields.anything,
    "user": fields.text,
    "metadata": fields.an_object,
    "safety_identifier": fields.anything,
    "prompt_cache_key": fields.anything,
    "service_tier": fields.text,
    "databricks_options": fields.an_object,
    "store": fields.boolean,
    # Of embeddings, which come whole: elsewhere it is known.
    "stream": fields.false,
}
#: Values that ask for nothing: dropped, whatever the model can do.
_NEUTRAL: dict[str, object] = {
    "n": 1,
    "best_of": 1,
    "stream": False,
    "echo": False,
    "suffix": "",
    "stop": [],
    "tools": [],
    "response_format": {"type": "text"},
}
#: What an outside server's caller cannot mean otherwise.
_PLAIN: dict[str, Check] = {
    "max_tokens": fields.whole(0),
    "max_completion_tokens": fields.whole(0),
    "temperature": fields.number(0),
    "top_p": fields.number(0),
    "n": fields.whole(1),
    "stop": fields.text_or_texts,
    "stream": fields.boolean,
    "stream_options": fields.stream_options,
    "tools": fields.a_list,
}


# --- what is asked for --------------------------------------------------------------------------


def operation_of(target: ChatTarget, document: Mapping[str, Any]) -> Operation:
    """What a body at `/invocations` asks for, by its keys. Raises BadRequest."""
    foreign = next((name for name in _FOREIGN if name in document), None)
    found = next((op for op, (subject, _) in SUBJECTS.items() if subject in document), None)
    if foreign is None and found in target.operations:
        return found
    unknown = foreign or (SUBJECTS[found][0] if found else next(iter(document), None))
    said = "" if unknown is None else f'json: unknown field "{unknown[:60]}". '
    raise BadRequest(f"Bad request: {said}This endpoint takes {subjects(target)}.")


def require(target: ChatTarget, operation: Operation, document: Mapping[str, Any]) -> None:
    """Raises BadRequest unless `target` does `operation`, InvalidParameter without its subject."""
    if operation not in target.operations:
        raise BadRequest(
            f"This endpoint does not do {operation.value}. It takes {subjects(target)}."
        )
    subject, form = SUBJECTS[operation]
    if subject not in document:
        raise InvalidParameter(f'"{subject}" is required: {form}.')


def subjects(target: ChatTarget) -> str:
    """What `target` takes, for people."""
    return " or ".join(
        f'"{subject}" ({form})'
        for op, (subject, form) in SUBJECTS.items()
        if op in target.operations
    )


def merge_extra_params(document: dict[str, Any]) -> None:
    """Put the fields of `extra_params`, where databricks-sdk sends what its `query` has no argument
    for, in their places. All its values are strings: numbers, booleans, objects and lists are read
    as JSON. Raises InvalidParameter."""
    extra = document.pop("extra_params", None)
    if extra is None:
        return
    fields.an_object("extra_params", extra)
    for name, value in extra.items():
        if name in document:
            raise InvalidParameter(f'"extra_params" must not give "{name[:60]}" a second value.')
        document[name] = _read(name, value) if isinstance(value, str) else value


def _read(name: str, value: str) -> Any:
    if name in _TEXTS:
        return value
    try:
        read = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return value if isinstance(read, str) else read


# --- an outside server's ------------------------------------------------------------------------


def check_outside(operation: Operation, document: Mapping[str, Any]) -> None:
    """Raises ApiError for what no server can answer."""
    _subject(operation, document, hosted=False)
    for name, check in _PLAIN.items():
        if (value := document.get(name)) is not None:
            check(name, value)


# --- a hosted model's ---------------------------------------------------------------------------


def hosted_fields(
    operation: Operation, can: Capabilities, document: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of `document` that go to a hosted model, in their order, checked. Null is as good
    as absent. Raises InvalidParameter for a wrong value, BadRequest for what the model can't do."""
    known = HOSTED[operation]
    subject, _ = SUBJECTS[operation]
    wanted: dict[str, Any] = {}
    for name, value in document.items():
        if name == subject:
            wanted[name] = value
            continue
        check = known.get(name) or _DROPPED.get(name)
        if check is None:
            raise BadRequest(
                f'Bad request: json: unknown field "{name[:60]}". {_takes(operation, can)}'
            )
        if value is None:
            continue
        check(name, value)
        if name in known and not _neutral(name, value):
            wanted[name] = value
    _subject(operation, wanted, hosted=True)
    if document.get("store"):
        raise BadRequest(f'"store" is not possible: answers are not kept. {_takes(operation, can)}')
    _refuse_beyond(operation, can, wanted)
    _fit_together(wanted)
    if "seed" in wanted:
        # 31 bits of it: llama.cpp takes -1 and 2**32 - 1 for no seed at all.
        wanted["seed"] &= 0x7FFFFFFF
    return wanted


def _neutral(name: str, value: Any) -> bool:
    return name in _NEUTRAL and bool(value == _NEUTRAL[name])


def _subject(operation: Operation, document: Mapping[str, Any], *, hosted: bool) -> None:
    match operation:
        case Operation.CHAT:
            asked.messages(document["messages"], hosted=hosted)
        case Operation.COMPLETIONS:
            asked.prompt(document["prompt"], hosted=hosted)
        case Operation.EMBEDDINGS:
            asked.inputs(document["input"], hosted=hosted)


def _refuse_beyond(operation: Operation, can: Capabilities, wanted: dict[str, Any]) -> None:
    """Raises BadRequest for the first thing that the model cannot do; drops what then means
    nothing."""
    if operation is Operation.CHAT:
        _drop_empty_choices(wanted)
    for name, (capability, words) in _NEEDS[operation].items():
        if name in wanted and not getattr(can, capability):
            raise BadRequest(f'"{name}": {words}. {_takes(operation, can)}')
    if operation is Operation.CHAT:
        part = asked.foreign_part(wanted["messages"], images=can.images)
        if part is not None:
            kinds = "text and images" if can.images else "text"
            raise BadRequest(f'"{part}": this model takes {kinds} only.')
        place = None if can.tools else asked.has_tools(wanted["messages"])
        if place is not None:
            raise BadRequest(f'"{place}": this model cannot call tools. {_takes(operation, can)}')
        if not can.any_schema:
            _refuse_broken_promise(wanted.get("response_format") or {})
    prompts = wanted.get("prompt")
    if isinstance(prompts, list):
        if len(prompts) > 1 and not can.choices:
            raise BadRequest('"prompt": this model completes one text a request, not a list.')
        if len(prompts) == 1:
            wanted["prompt"] = prompts[0]


def _refuse_broken_promise(response_format: dict[str, Any]) -> None:
    promised = response_format.get("json_schema") or {}
    beyond = beyond_grammar(promised["schema"]) if promised.get("strict") else None
    if beyond is not None:
        name, why = beyond
        raise BadRequest(
            f'"response_format.json_schema": "{name}" cannot be held to: {why}. Leave it out, or '
            '"strict".'
        )


def _drop_empty_choices(wanted: dict[str, Any]) -> None:
    if "tools" not in wanted:
        wanted.pop("parallel_tool_calls", None)
        if wanted.get("tool_choice") in ("none", "auto"):
            del wanted["tool_choice"]
    if wanted.get("logprobs") is False:
        del wanted["logprobs"]
        if not wanted.get("top_logprobs"):
            wanted.pop("top_logprobs", None)


_ALWAYS = {
    "n": ("choices", "this model gives one answer a request"),
    "seed": ("seed", "this model takes no seed"),
    "stop": ("stop", "this model takes no stop texts"),
}
#: By operation: field to the capability that it needs, and the words where it is missing.
_NEEDS: dict[Operation, dict[str, tuple[str, str]]] = {
    Operation.CHAT: {
        **_ALWAYS,
        "tools": ("tools", "this model cannot call tools"),
        "tool_choice": ("tools", "this model cannot call tools"),
        "response_format": ("json_schema", "this model answers in plain text only"),
        "logprobs": ("logprobs", "this model gives no log probabilities"),
        "top_logprobs": ("logprobs", "this model gives no log probabilities"),
    },
    Operation.COMPLETIONS: {
        **_ALWAYS,
        "echo": ("legacy", "this model does not repeat the prompt"),
        "suffix": ("legacy", "this model does not fill in before a suffix"),
        "best_of": ("legacy", "this model gives its one answer"),
        "logprobs": ("legacy", "this model gives no log probabilities of a completion"),
    },
    Operation.EMBEDDINGS: {
        "dimensions": ("dimensions", "this model's vectors have one length"),
    },
}


def _takes(operation: Operation, can: Capabilities) -> str:
    needs = _NEEDS[operation]
    names = [SUBJECTS[operation][0], "model"]
    names += [n for n in HOSTED[operation] if n not in needs or getattr(can, needs[n][0])]
    return f"It takes: {', '.join(names)}."


def _fit_together(wanted: dict[str, Any]) -> None:
    """Raises InvalidParameter for fields that contradict each other."""
    if "stream_options" in wanted and "stream" not in wanted:
        raise InvalidParameter('"stream_options" is only for "stream": true.')
    if wanted.get("top_logprobs") is not None and wanted.get("logprobs") is not True:
        raise InvalidParameter('"top_logprobs" needs "logprobs": true.')
    if (bound := wanted.pop("max_completion_tokens", None)) is not None:
        if wanted.get("max_tokens", bound) != bound:
            raise InvalidParameter('"max_tokens" and "max_completion_tokens" must not differ.')
        wanted["max_tokens"] = bound
    choice = wanted.get("tool_choice")
    if choice is not None and "tools" not in wanted:
        raise InvalidParameter('"tool_choice" needs "tools".')
    if isinstance(choice, dict):
        named = choice["function"]["name"]
        if named not in [tool["function"]["name"] for tool in wanted["tools"]]:
            raise InvalidParameter(
                f'"tool_choice" names {fields.shown(named)}, which is not one of "tools".'
            )
