"""Whatever a body holds, it is refused in our words or goes on as it is meant to."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeport.errors import ApiError
from lakeport.gateway.chat import Exchange, begin
from lakeport.gateway.chat_request import HOSTED, SUBJECTS
from lakeport.wire.chat import ChatTarget, Operation, Task
from tests.unit.gateway.targets import ALL, PLAIN, SCHEMA, TOOL, USER, hosted, outside

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["none", "auto", "required", "user", "tool", "text", "function", "base64"]),
)
_KEYS = st.sampled_from(
    ["role", "content", "type", "text", "name", "function", "tool_calls", "image_url", "url",
     "json_schema", "schema", "include_usage", "tool_call_id", "parameters", "x"]
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS | st.sampled_from([USER, TOOL, SCHEMA, [USER], [TOOL], ["a"], 1, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=8,
)
_FIELDS = sorted(
    {name for known in HOSTED.values() for name in known}
    | {subject for subject, _ in SUBJECTS.values()}
    | {"model", "user", "store", "metadata", "extra_params", "usage_context", "client_request_id"}
    | {"inputs", "unknown"}
)
_DOCUMENTS = st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=6)
_OPERATIONS = st.sampled_from([None, *Operation])


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(
    target=st.sampled_from(
        [
            hosted(),
            hosted(can=ALL),
            hosted(can=PLAIN, default_max_tokens=9),
            hosted(Task.EMBEDDINGS),
            outside(),
            outside(Task.COMPLETIONS, asks_usage=False),
        ]
    ),
    operation=_OPERATIONS,
    document=_DOCUMENTS,
    right=st.booleans(),
)
def test_any_body_is_refused_with_400_or_goes_on(
    target: ChatTarget, operation: Operation | None, document: dict[str, Any], right: bool
) -> None:
    if right:  # a body whose subject is as it should be gets further
        document = document | {"messages": [USER]}
        document.pop("inputs", None)
        operation = None
    before = orjson.dumps(document)

    outcome = _begun(target, operation, document)

    if isinstance(outcome, ApiError):
        assert outcome.status == 400
        assert 0 < len(outcome.message) < 1000
    else:
        sent = orjson.loads(outcome.body)
        assert sent["model"] == target.model
        assert outcome.operation in target.operations
        assert outcome.stream == (sent.get("stream") is True)
        assert not {"client_request_id", "usage_context", "extra_params"} & sent.keys()
        if target.can is not None:
            known = {*HOSTED[outcome.operation], SUBJECTS[outcome.operation][0], "model"}
            assert sent.keys() <= known
    assert orjson.dumps(document) == before


def _begun(
    target: ChatTarget, operation: Operation | None, document: dict[str, Any]
) -> Exchange | ApiError:
    try:
        return begin(target, operation, document)
    except ApiError as refusal:
        return refusal
